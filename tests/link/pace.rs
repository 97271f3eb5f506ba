//! The time to create an endpoint does not depend on their number.

use std::time::{Duration, Instant};

use netbpf::{
    link::{Links, Namespace},
    plan::EndpointWiring,
};

use crate::{
    endpoint::endpoint,
    host::{container, on_a_host},
    host_device::GROUP,
};

const ENDPOINTS: u32 = 1000;

#[test]
fn the_last_of_many_endpoints_takes_as_long_as_the_first() {
    let times = on_a_host(async || {
        let host = Links::open().unwrap();
        let mut containers = Vec::new();
        let mut times = Vec::new();
        for number in 0..ENDPOINTS {
            let netns = container();
            let started = Instant::now();
            create(&host, &netns, number).await;
            times.push(started.elapsed());
            containers.push(netns);
        }
        times
    });
    // The minimum of many: other load on the machine only makes things slower.
    let best = |times: &[Duration]| times.iter().min().copied().unwrap_or_default();
    let (first, last) = (best(&times[..20]), best(&times[times.len() - 20..]));
    println!("an endpoint beside 10: {first:?}, beside {ENDPOINTS}: {last:?} (best of 20)");
    assert!(last < 2 * first + Duration::from_millis(2), "{first:?} at first, {last:?} in the end");
}

async fn create(host: &Links, netns: &Namespace, number: u32) {
    let host_interface = format!("veth{number:07x}");
    let link = EndpointWiring { number, host_interface, ..endpoint() };
    host.create_endpoint(&link, GROUP, Some(netns)).await.unwrap();
    host.set_up(link.ifindex()).await.unwrap();
}
