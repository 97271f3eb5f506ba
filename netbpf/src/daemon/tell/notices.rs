//! Follows what the programs report: an address that moved to another endpoint, an endpoint whose broadcasts are dropped.
//! In the pauses, it removes learnt MACs that are too old. Must not change what an endpoint may send.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    time::{Duration, Instant},
};

use netbpf_common::{endpoint::NeighbourKey, notice::Notice};
use nix::time::{ClockId, clock_gettime};

use crate::{
    daemon::{state::State, tell::events::Events},
    datapath::{LearntMacs, Notices},
    model::{Attachment, Container, Id, Mac, Network},
};

/// The pause after which old MACs are removed, and the shortest time between two log lines about one container.
const PAUSE: Duration = Duration::from_secs(60);

/// Maximum number of addresses whose holders are known. Beyond that, those of the container that announces are
/// forgotten.
const MAX_HOLDERS: usize = 16_384;

/// Who announced an address last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    container: Id,
    mac: [u8; 6],
}

/// The holders of addresses, by network and address.
#[derive(Default)]
struct Holders(BTreeMap<NeighbourKey, Holder>);

impl Holders {
    /// Notes an announcement. If the address moved, returns who had it before, if that is known.
    fn note(&mut self, address: NeighbourKey, holder: Holder) -> Option<Option<Holder>> {
        let before = self.0.insert(address, holder);
        if self.0.len() > MAX_HOLDERS {
            self.0.retain(|key, known| known.container != holder.container || *key == address);
        }
        (before != Some(holder)).then_some(before)
    }
}

/// Follows the programs' notices. Needs a thread of its own.
///
/// # Errors
/// That of `poll`; nothing else ends it.
pub fn follow(
    state: &State,
    events: &Events,
    mut notices: Notices,
    mut macs: LearntMacs,
) -> io::Result<Infallible> {
    let mut holders = Holders::default();
    let mut floods: BTreeMap<Id, Instant> = BTreeMap::new();
    let mut swept = Instant::now();
    loop {
        notices.wait(PAUSE)?;
        for notice in notices.by_ref() {
            let Some((container, network)) = endpoint(state, notice.endpoint) else { continue };
            match notice.kind {
                Notice::FLOOD_LIMIT => {
                    floods.retain(|_, last| last.elapsed() < PAUSE);
                    if floods.insert(container.id, Instant::now()).is_none() {
                        tell_of_flood(&container, &network);
                    }
                }
                Notice::ANNOUNCEMENT => {
                    let holder = Holder { container: container.id, mac: notice.mac };
                    if let Some(before) = holders.note(notice.address, holder) {
                        let (address, mac) = (notice.address.ip(), Mac::from_octets(notice.mac));
                        let from = before.map(|before| before.container);
                        tracing::info!(%address, %mac, container = %container.name, network = %network.name, "address moved");
                        events.tell_of_move(&network, address, mac, &container.id, from.as_ref());
                    }
                }
                _ => {}
            }
        }
        if swept.elapsed() >= PAUSE {
            swept = Instant::now();
            remove_old(&mut macs);
        }
    }
}

/// The container and the network of an endpoint.
fn endpoint(state: &State, number: u32) -> Option<(Container, Network)> {
    let world = state.world();
    let has = |attachment: &&Attachment| {
        attachment.endpoint.as_ref().is_some_and(|endpoint| endpoint.number == number)
    };
    world.containers().find_map(|container| {
        let attachment = container.attachments.iter().find(has)?;
        Some((container.clone(), world.network(&attachment.network)?.clone()))
    })
}

/// Logs that broadcasts of a container are dropped: it sends too many, or forwards them in a circle.
fn tell_of_flood(container: &Container, network: &Network) {
    tracing::warn!(
        container = %container.name,
        network = %network.name,
        "drop broadcasts: more copies a second than netbpf.max_flood_copies allows"
    );
}

fn remove_old(macs: &mut LearntMacs) {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(|time| time.tv_sec() as u32);
    match now.map_err(io::Error::from).and_then(|now| macs.remove_old(now).map_err(io::Error::other)) {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "remove old MACs"),
        Err(error) => tracing::warn!(%error, "remove old MACs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> NeighbourKey {
        NeighbourKey::ipv4(1, [10, 0, 0, host])
    }

    #[test]
    fn an_address_moves_when_another_announces_it_or_with_another_mac() {
        let mut holders = Holders::default();
        let [anne, bert] = [1, 2].map(|mac| Holder { container: Id::random(), mac: [mac; 6] });
        assert_eq!(holders.note(address(1), anne), Some(None), "nobody is known to have had it");
        assert_eq!(holders.note(address(1), anne), None, "announced again");
        assert_eq!(holders.note(address(1), bert), Some(Some(anne)));
        let other = Holder { mac: [3; 6], ..bert };
        assert_eq!(holders.note(address(1), other), Some(Some(bert)));
        assert_eq!(holders.note(address(2), other), Some(None));
    }

    #[test]
    fn who_announces_too_many_is_forgotten_alone() {
        let mut holders = Holders::default();
        let [anne, bert] = [1, 2].map(|mac| Holder { container: Id::random(), mac: [mac; 6] });
        holders.note(address(1), anne);
        for number in 0..2 * MAX_HOLDERS as u32 {
            holders.note(NeighbourKey::ipv4(2, number.to_be_bytes()), bert);
            assert!(holders.0.len() <= MAX_HOLDERS);
        }
        assert_eq!(holders.note(address(1), anne), None, "still known");
    }
}
