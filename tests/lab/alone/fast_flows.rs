//! Established flows beside a program that all hosts of this machine see.

use netbpf_tests::lab::{Lab, eventually};

use crate::fast_flows::{Connection, becomes_fast, is_slow, start_around};

/// Loads a BPF program for netfilter (`BPF_PROG_TYPE_NETFILTER`) that accepts all, and holds it until it is killed.
const HOLDER: &str = "
import ctypes, signal, struct
kernel = ctypes.CDLL(None, use_errno=True)
accept = ctypes.create_string_buffer(struct.pack('=BBhiBBhi', 0xb7, 0, 0, 1, 0x95, 0, 0, 0))
license = ctypes.create_string_buffer(b'GPL')
attributes = struct.pack('=IIQQIIQII16sII', 32, 2, ctypes.addressof(accept), ctypes.addressof(license), 0, 0, 0, 0, 0, b'foreign', 0, 45)
assert kernel.syscall(321, 5, ctypes.create_string_buffer(attributes), len(attributes)) >= 0, ctypes.get_errno()
signal.pause()
";

/// Where such a program is attached, and when, nobody announces.
#[test]
fn a_bpf_program_for_netfilter_sees_each_packet() {
    let Some(lab) = start_around(Lab::alone_without_daemon()) else { return };
    lab.run("web", "-p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    becomes_fast(&lab, || connection.talk());
    let holder = lab.spawn(["python3", "-c", HOLDER]);
    eventually("the doctor tells it", || {
        lab.netbpf(["doctor"]).stdout.contains("a BPF program for netfilter").then_some(())
    });
    is_slow(&lab, || connection.talk());
    drop(holder);
    becomes_fast(&lab, || connection.talk());
}
