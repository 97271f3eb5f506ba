//! Ports that cannot be published.

use super::Setup;

#[test]
fn ports_that_are_invalid() {
    let setup = Setup::new();
    for (publish, complaint) in [
        ("0-1:80", "invalid hostPort: 0-1"),
        ("65536:80", "invalid hostPort: 65536"),
        ("8010-8000:80-90", "invalid hostPort: 8010-8000"),
        ("80:0", "invalid containerPort: 0"),
        ("80:65536", "invalid containerPort: 65536"),
        ("80-", "invalid containerPort: 80-"),
        ("8000-8001:80-82", "invalid ranges specified for container and host Ports: 80-82 and 8000-8001"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("here:8080:80", "invalid IP address: here"),
        ("80/icmp", "invalid proto: icmp"),
        ("target=80,mode=host", "invalid publish opts: unknown name mode"),
    ] {
        setup.value_refused(&["run", "-d", "-p", publish, "--", "true"], 125, complaint);
    }
    for (expose, complaint) in [
        ("8080:80", "invalid port format for --expose: 8080:80"),
        ("81-80", "invalid range format for --expose: 81-80, error: invalid range specified for port: 81-80"),
        ("65536", "value out of range"),
    ] {
        setup.value_refused(&["run", "-d", "--expose", expose, "--", "true"], 125, complaint);
    }
    setup.refuses(&["port", "one", "80"], 1, "no public port '80' published for one");
    setup.refuses(&["port", "one", "x"], 1, "invalid port (x): expected a number up to 65535");
    setup.daemon_refuses(&["port", "nobody"], "No such container: nobody");
    setup.run_refused(
        &["--net", "container:one", "-P"],
        "conflicting options: port publishing and the container type network mode",
    );
}
