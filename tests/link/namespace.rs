//! Network namespaces: entering them, and sysctls in them.

use std::{os::fd::AsRawFd, path::Path};

use netbpf::{
    link::{Namespace, sysctl},
    process::start_time,
};

use crate::host::{container, on_a_host};

#[test]
fn other_files_than_network_namespaces_are_refused() {
    on_a_host(async || {
        for path in ["/etc/hostname", "/", "/dev/null"] {
            let error = Namespace::open_path(Path::new(path)).unwrap_err();
            assert_eq!(error.to_string(), format!("{path} is not a network namespace"));
        }
        for path in ["/proc/self/ns/uts", "/proc/self/ns/user"] {
            let error = Namespace::open_path(Path::new(path)).unwrap().run(|| ()).await.unwrap_err();
            assert_eq!(error.to_string(), format!("{path} is not a network namespace"));
        }
        let missing = Namespace::open_path(Path::new("/run/netns/nobody")).unwrap_err();
        assert_eq!(missing.to_string(), "open /run/netns/nobody: No such file or directory (os error 2)");
        assert!(missing.is_missing());
        assert!(Namespace::open_process(u32::MAX, 0).unwrap_err().is_missing());
    });
}

#[test]
fn the_caller_s_own_namespace_is_recognized() {
    on_a_host(async || {
        let own = Namespace::open_path(Path::new("/proc/thread-self/ns/net")).unwrap();
        assert!(own.same_as_current().unwrap());
        let netns = container();
        assert!(!netns.same_as_current().unwrap());
        assert!(
            !Namespace::open_process(std::process::id(), start_time(std::process::id()).unwrap())
                .unwrap()
                .same_as_current()
                .unwrap()
        );
        assert!(netns.clone().run(move || netns.same_as_current().unwrap()).await.unwrap());
    });
}

#[test]
fn a_panic_in_a_visit_is_an_error_and_stays_there() {
    on_a_host(async || {
        let netns = container();
        let error = netns.run(|| panic!("in there")).await.unwrap_err();
        assert_eq!(error.to_string(), format!("work in {netns} panicked"));
        assert!(!netns.same_as_current().unwrap());
        assert_eq!(netns.run(|| 7).await.unwrap(), 7);
    });
}

#[test]
fn a_namespace_lives_as_long_as_it_is_held() {
    on_a_host(async || {
        let netns = container();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsFd::as_fd(&netns).as_raw_fd());
        assert!(Namespace::open_path(path.as_ref()).is_ok());
        drop(netns);
        assert!(Namespace::open_path(path.as_ref()).is_err());
    });
}

#[test]
fn a_sysctl_is_written_once_in_the_caller_s_namespace() {
    on_a_host(async || {
        let forward = "net/ipv4/ip_forward";
        // A new namespace copies the setting from the machine.
        sysctl::write(forward, "0").unwrap();
        assert!(sysctl::write(forward, "1").unwrap());
        assert!(!sysctl::write(forward, "1").unwrap());
        let inside = move || {
            sysctl::write(forward, "0").unwrap();
            sysctl::read(forward).unwrap()
        };
        assert_eq!(container().run(inside).await.unwrap(), "0");
        assert_eq!(sysctl::read(forward).unwrap(), "1");
        let error = sysctl::write("net/ipv4/ip_forwards", "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "read /proc/sys/net/ipv4/ip_forwards: No such file or directory (os error 2)"
        );
    });
}
