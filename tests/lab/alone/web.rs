//! A real web server behind a published port, under load.

use std::time::Duration;

use netbpf_tests::lab::eventually;

use crate::outside::Neighbourhood;

/// The configuration of nginx, which writes to a directory of the lab only.
const CONFIG: &str = "daemon off; worker_processes 1; pid /run/web/pid; error_log stderr;
events { worker_connections 512; }
http {
    access_log off; client_body_temp_path /run/web/b; proxy_temp_path /run/web/p; fastcgi_temp_path /run/web/f;
    uwsgi_temp_path /run/web/u; scgi_temp_path /run/web/s; keepalive_requests 100000000;
    server { listen 80; location / { return 200 'netbpf\\n'; } }
}
";

#[test]
fn no_request_to_a_published_web_server_fails_in_a_minute() {
    let lab = Neighbourhood::start_alone();
    std::fs::create_dir(lab.path("/run/web")).expect("a folder for the server");
    std::fs::write(lab.path("/run/web/nginx.conf"), CONFIG).expect("its configuration");
    lab.netbpf(["run", "-d", "--name", "web", "-p", "8080:80", "--", "nginx", "-c", "/run/web/nginx.conf"])
        .ok();
    let asked = eventually("the server answers", || {
        let asked = lab.on("far", "busybox wget -qO- http://192.0.2.1:8080/");
        asked.status.success().then_some(asked.stdout)
    });
    assert_eq!(asked, "netbpf\n");
    // Half of the requests use persistent connections, half new ones.
    let load = |options: &str| {
        // wrk counts an answer after more than two seconds as an error, and a busy machine may stall for longer.
        let wrk = format!("exec wrk -t1 -d60 --timeout 30s {options} http://192.0.2.1:8080/");
        lab.spawn(["ip", "netns", "exec", "far", "sh", "-c", &wrk])
    };
    for load in [load("-c16"), load("-c4 -H 'Connection: close'")] {
        let told = load.output_within(Duration::from_secs(90)).ok().stdout;
        assert!(!told.contains("Socket errors") && !told.contains("Non-2xx"), "{told}");
        let requests = told.lines().find_map(|line| line.trim().split_once(" requests in ")).map(|(n, _)| n);
        let requests: u64 = requests.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{told}"));
        assert!(requests > 10_000, "{told}");
    }
    lab.netbpf(["rm", "-f", "web"]).ok();
    std::fs::remove_dir_all(lab.path("/run/web")).expect("the server's folder");
}
