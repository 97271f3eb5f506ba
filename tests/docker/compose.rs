//! `docker-compose` with `driver: netbpf`.

use netbpf_tests::lab::{Lab, Output, eventually};

use crate::engine::{Engine, compose as compose_program};

const FOLDER: &str = "/run/shop";

const FILE: &str = r#"
version: "2.4"
services:
  web:
    image: box:1
    command: httpd -f -p 80 -h /www
    ports: ["8080:80"]
    networks:
      front:
        aliases: [shop]
        ipv4_address: 10.8.0.80
  client:
    image: box:1
    command: sleep 1000000
    depends_on: [web]
    networks: [front, back]
networks:
  front:
    driver: netbpf
    driver_opts:
      com.docker.network.driver.mtu: "1400"
    ipam:
      config:
        - subnet: 10.8.0.0/24
          gateway: 10.8.0.1
  back:
    driver: netbpf
    internal: true
"#;

#[test]
fn services_of_compose_resolve_each_other_and_are_removed_completely() {
    let lab = Lab::start();
    let _engine = Engine::start(&lab);
    std::fs::create_dir(lab.path(FOLDER)).expect("a folder");
    std::fs::write(lab.path(FOLDER).join("docker-compose.yml"), FILE).expect("a file");
    let compose = |words: &str| -> Output {
        lab.host(
            [compose_program(), "--project-directory", FOLDER, "-f", "/run/shop/docker-compose.yml"]
                .into_iter()
                .chain(words.split_whitespace()),
        )
    };
    compose("up -d").ok();
    let inside = |words: &str| compose(&format!("exec -T client {words}")).ok();
    for name in ["web", "shop", "web.shop_front", "10.8.0.80"] {
        inside(&format!("ping -c1 -W2 {name}"));
    }
    assert_eq!(inside("wget -q -O - http://shop/").text(), "hello");
    assert!(inside("cat /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu").text().contains("1400"));
    let page = ["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/"];
    assert_eq!(lab.host(page).ok().text(), "hello");
    // docker-compose of version 2 writes a hyphen.
    let names = eventually("what compose calls them", || {
        let listed = lab.netbpf(["ps", "--format", "{{.Names}} {{.Networks}}"]).ok();
        (!listed.text().contains("ep-")).then(|| listed.text().replace("shop-client-1", "shop_client_1"))
    });
    assert!(
        names.contains("shop_client_1 shop_front") && names.contains("shop_client_1 shop_back"),
        "{names}"
    );
    compose("restart -t 0").ok();
    inside("ping -c1 -W2 shop");
    compose("up -d --scale client=3 -t 0").ok();
    assert_eq!(
        lab.netbpf(["ps", "-q"]).ok().text().lines().count(),
        7,
        "one for each of a container's networks"
    );
    compose("down -t 0").ok();
    assert_eq!(lab.netbpf(["ps", "-aq"]).ok().text(), "");
    assert_eq!(lab.netbpf(["network", "ls", "-q"]).ok().text().lines().count(), 3);
    std::fs::remove_dir_all(lab.path(FOLDER)).expect("the folder goes");
}
