//! Follows what the programs report: an address that moved to another endpoint, an endpoint whose broadcasts are dropped.
//! Must not change what an endpoint may send.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use netbpf_common::{endpoint::NeighbourKey, notice::Notice};

use crate::{
    daemon::{state::State, tell::events::Events},
    datapath::Notices,
    model::{Container, Id, Mac, Network},
};

/// The time that [`MAX_MOVES`] and one log line about a storm are for.
const PAUSE: Duration = Duration::from_secs(60);

/// Maximum number of moves that are told of one container in [`PAUSE`]. A container that announces addresses without
/// end would displace all other events.
const MAX_MOVES: u32 = 64;

/// Maximum number of addresses whose holders are known. Beyond that, those of the container that announces are
/// forgotten.
const MAX_HOLDERS: usize = 16_384;

/// Maximum number of notices that are read at once.
const MAX_AT_ONCE: usize = 1024;

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

/// How much was told of each endpoint, by its number, since the last pause.
#[derive(Default)]
struct Told {
    storms: BTreeSet<u32>,
    moves: BTreeMap<u32, u32>,
}

/// Whether to tell of a move.
#[derive(Debug, PartialEq, Eq)]
enum Telling {
    Yes,
    /// This one and those that follow are not told.
    Last,
    No,
}

impl Told {
    /// Counts a move.
    fn a_move(&mut self, endpoint: u32) -> Telling {
        let count = self.moves.entry(endpoint).or_default();
        *count += 1;
        match (*count).cmp(&(MAX_MOVES + 1)) {
            Ordering::Less => Telling::Yes,
            Ordering::Equal => Telling::Last,
            Ordering::Greater => Telling::No,
        }
    }
}

/// Follows the programs' notices. Needs a thread of its own, and never ends.
pub fn follow(state: &State, events: &Events, mut notices: Notices) {
    let (mut holders, mut told) = (Holders::default(), Told::default());
    let mut swept = Instant::now();
    loop {
        if let Err(error) = notices.wait(PAUSE) {
            tracing::error!(%error, "wait for the programs' notices");
            thread::sleep(PAUSE);
        }
        for notice in notices.by_ref().take(MAX_AT_ONCE) {
            heed(state, events, &notice, &mut holders, &mut told);
        }
        if swept.elapsed() >= PAUSE {
            swept = Instant::now();
            told = Told::default();
            let world = state.world();
            holders.0.retain(|_, holder| world.container(&holder.container).is_some());
        }
    }
}

fn heed(state: &State, events: &Events, notice: &Notice, holders: &mut Holders, told: &mut Told) {
    match notice.kind {
        // Before the look-up, because a storm goes on.
        Notice::FLOOD_LIMIT if !told.storms.insert(notice.endpoint) => {}
        Notice::FLOOD_LIMIT => {
            if let Some((container, network)) = endpoint(state, notice.endpoint) {
                tell_of_flood(&container, &network);
            }
        }
        Notice::ANNOUNCEMENT => {
            let Some((container, network)) = endpoint(state, notice.endpoint) else { return };
            let number = network.bridge().map(|bridge| bridge.number);
            let holder = Holder { container: container.id, mac: notice.mac };
            // The endpoint's number may be another's by now.
            if number != Some(notice.address.network) {
                return;
            }
            let Some(before) = holders.note(notice.address, holder) else { return };
            match told.a_move(notice.endpoint) {
                Telling::Yes => {
                    let (address, mac) = (notice.address.ip(), Mac::from_octets(notice.mac));
                    let from = before.map(|before| before.container);
                    let (name, of) = (&container.name, &network.name);
                    tracing::debug!(%address, %mac, container = %name, network = %of, "address moved");
                    events.tell_of_move(&network, address, mac, &container.id, from.as_ref());
                }
                Telling::Last => tracing::warn!(
                    container = %container.name,
                    network = %network.name,
                    "announces more than {MAX_MOVES} addresses a minute: further moves are not told"
                ),
                Telling::No => {}
            }
        }
        _ => {}
    }
}

/// The container and the network of an endpoint.
fn endpoint(state: &State, number: u32) -> Option<(Container, Network)> {
    let world = state.world();
    let (container, attachment) = world.endpoint_numbered(number)?;
    Some((container.clone(), world.network(&attachment.network)?.clone()))
}

/// Logs that broadcasts of a container are dropped: it sends too many, or forwards them in a loop.
fn tell_of_flood(container: &Container, network: &Network) {
    tracing::warn!(
        container = %container.name,
        network = %network.name,
        "drop broadcasts: more copies a second than netbpf.max_flood_copies allows, or containers bridge networks in a loop"
    );
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
    fn a_container_that_announces_without_end_is_told_of_a_few_times() {
        let mut told = Told::default();
        for _ in 0..MAX_MOVES {
            assert_eq!(told.a_move(1), Telling::Yes);
        }
        assert_eq!((told.a_move(1), told.a_move(1)), (Telling::Last, Telling::No));
        assert_eq!(told.a_move(2), Telling::Yes, "another");
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
