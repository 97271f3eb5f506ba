//! Frames on a real interface: there the kernel removes VLAN tags before a program sees the bytes, and the sender
//! decides how many bytes are directly accessible.
#![expect(unsafe_code, reason = "neither std nor nix has addresses of packet sockets")]

use std::{
    io,
    mem::zeroed,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use netbpf_common::reason::Reason;
use nix::{libc, net::if_::if_nametoindex};

use super::{
    bench::{ANNE, BERT, Bench, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, GATEWAY, bench, run},
    frame::{Frame, arp_bytes, ipv4, option, request},
};

/// Sends a frame from Anne's end and returns the reason that counted it. If the frame is longer than a page, its first
/// `linear` bytes are in the linear part of the kernel's buffer.
fn sent(bench: &Bench, frame: &Frame, linear: u16) -> Reason {
    sent_by(bench, "anne-in", frame, linear)
}

/// The same from another interface.
fn sent_by(bench: &Bench, interface: &str, frame: &Frame, linear: u16) -> Reason {
    let reasons = || bench.datapath.reasons().expect("REASONS");
    let before = reasons();
    send(interface, frame, linear).expect("sent");
    loop {
        let counted = before.iter().zip(reasons()).find(|(before, after)| before.1 != after.1);
        if let Some(((reason, _), _)) = counted {
            return *reason;
        }
        std::thread::yield_now();
    }
}

fn send(interface: &str, frame: &Frame, linear: u16) -> io::Result<()> {
    const PACKET_VNET_HDR: libc::c_int = 15;
    let checked = |result: isize| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: takes no pointer.
    let socket = checked(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) } as isize)?;
    // SAFETY: just opened, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket as i32) };
    let on: libc::c_int = 1;
    // SAFETY: the value is an int, and its size is given.
    checked(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, (&raw const on).cast(), 4)
    } as isize)?;
    // SAFETY: integers and arrays of them only.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = if_nametoindex(interface)? as i32;
    // struct virtio_net_hdr: no flags, no GSO, then the length of the headers.
    let [low, high] = linear.to_ne_bytes();
    let bytes = [&[0, 0, low, high, 0, 0, 0, 0, 0, 0], &frame.0[..]].concat();
    // SAFETY: both buffers are valid for the sizes given.
    checked(unsafe {
        let (to, size) = ((&raw const address).cast(), size_of_val(&address) as u32);
        libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, to, size)
    })?;
    Ok(())
}

#[test]
fn frames_with_a_tag_outside_of_the_data_are_checked() {
    bench(|bench| {
        bench.datapath.attach_endpoint(1, "anne").expect("attached");
        let tagged = |vid, ethertype| Frame::tagged(ANNE.mac(), BERT.mac(), vid, ethertype);
        let own = || ipv4(ANNE.ip, BERT.ip);
        let spoofed = || ipv4(CLEO.ip, BERT.ip);
        let arp = arp_bytes(request(ANNE.mac(), GATEWAY.ip, BERT.ip));
        let cases = [
            ("untagged", Frame::ipv4(ANNE.at(), BERT.at()), Reason::Forwarded),
            ("a priority", tagged(5 << 13, 0x0800).then(&own()), Reason::Forwarded),
            (
                "another's address with a priority",
                tagged(5 << 13, 0x0800).then(&spoofed()),
                Reason::SpoofedIpv4,
            ),
            (
                "the gateway's address in ARP with a priority",
                tagged(0, 0x0806).then(&arp),
                Reason::SpoofedArp,
            ),
            ("a VLAN", tagged(7, 0x0800).then(&spoofed()), Reason::Forwarded),
            ("a VLAN in a VLAN", tagged(7, 0x8100).then(&[0, 0, 8, 0]).then(&spoofed()), Reason::Forwarded),
            (
                "a priority in a priority",
                tagged(0, 0x8100).then(&[0, 0, 8, 0]).then(&spoofed()),
                Reason::Malformed,
            ),
            (
                "a service VLAN in a priority",
                tagged(0, 0x88a8).then(&[0, 7, 8, 0]).then(&own()),
                Reason::Malformed,
            ),
        ];
        for (says, frame, reason) in cases {
            assert_eq!(sent(bench, &frame, 0), reason, "{says}");
        }
    });
}

#[test]
fn short_ip_frames_are_malformed() {
    bench(|bench| {
        bench.datapath.attach_endpoint(1, "anne").expect("attached");
        for length in 14..14 + 20 {
            let frame = Frame::ipv4(ANNE.at(), BERT.at()).cut(length);
            assert_eq!(sent(bench, &frame, 0), Reason::Malformed, "IPv4 of {length} bytes");
            let frame = Frame::ethernet(ANNE.mac(), BERT.mac(), 0x86dd).then(&[0x60; 40]).cut(length);
            assert_eq!(sent(bench, &frame, 0), Reason::Malformed, "IPv6 of {length} bytes");
        }
    });
}

#[test]
fn headers_outside_of_the_linear_part_are_read() {
    bench(|bench| {
        for interface in ["anne", "anne-in"] {
            run(&format!("ip link set {interface} mtu 9000"));
        }
        bench.datapath.attach_endpoint(1, "anne").expect("attached");
        let long = |frame: Frame| frame.then(&[0; 6000]);
        for linear in [14, 15, 20, 26, 33, 34, 60] {
            let own = long(Frame::ipv4(ANNE.at(), BERT.at()));
            assert_eq!(sent(bench, &own, linear), Reason::Forwarded, "{linear} bytes in the head");
            let spoofed = long(Frame::ipv4((ANNE.mac(), CLEO.ip), BERT.at()));
            assert_eq!(sent(bench, &spoofed, linear), Reason::SpoofedIpv4, "{linear} bytes in the head");
            let arp = request(ANNE.mac(), ANNE.ip, BERT.ip);
            let asked = long(Frame::arp(ANNE.mac(), BERT.mac(), arp));
            assert_eq!(sent(bench, &asked, linear), Reason::AnsweredArp, "{linear} bytes in the head");
        }
    });
}

#[test]
fn neighbour_discovery_outside_of_the_linear_part_is_checked() {
    bench(|bench| {
        for interface in ["cleo", "cleo-in"] {
            run(&format!("ip link set {interface} mtu 9000"));
        }
        bench.datapath.attach_endpoint(CLEO.number().expect("a container"), "cleo").expect("attached");
        let (own, bert) = ((CLEO.mac(), CLEO_IPV6), (BERT.mac(), CLEO_IPV6));
        let message = |kind: u8, target: [u8; 16], mac: [u8; 6]| {
            let bytes = [&[kind, 0, 0, 0, 0, 0, 0, 0], &target[..], &option(kind - 134, mac)].concat();
            Frame::icmpv6(own, bert, &bytes)
        };
        let long = |frame: Frame| frame.then(&[0; 6000]);
        for linear in [14, 20, 54, 55, 62, 70, 80, 86] {
            let says = format!("{linear} bytes in the head");
            let cases = [
                (message(136, CLEO_IPV6, CLEO.mac()), Reason::Forwarded),
                (message(136, CLEO_IPV6, ANNE.mac()), Reason::SpoofedNd),
                (message(136, CLEO_LINK_LOCAL, ANNE.mac()), Reason::SpoofedNd),
                (message(135, [9; 16], CLEO.mac()), Reason::UnknownAddress),
                (message(136, [9; 16], CLEO.mac()).behind(60, &[58, 0, 1, 4, 0, 0, 0, 0]), Reason::SpoofedNd),
            ];
            for (frame, reason) in cases {
                assert_eq!(sent_by(bench, "cleo-in", &long(frame), linear), reason, "{says}");
            }
        }
    });
}
