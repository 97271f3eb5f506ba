//! What the programs answer DNS queries from: the addresses of each name in a network (`NAMES`), the name of each address
//! (`POINTERS`), and the networks in which a container's names are looked up on the way to another name server (`VIEWS`).
//! Must not know DNS messages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
};

use aya::{
    Ebpf,
    maps::{HashMap as HashTable, MapData},
};
use netbpf_common::{
    access::ASKS,
    endpoint::{Endpoint, MAX_ENDPOINTS},
    name::{Addresses, MAX_ADDRESSES, MAX_NAMES, MAX_VIEW, NameKey, Pointer, View, WITH_DOTS},
};

use super::{
    Datapath, Error,
    tables::{add, reading, remove, take},
};
use crate::model::Id;

/// The programs that endpoints need whose queries are answered.
pub const OF_ASKING: [&str; 1] = ["answer_name"];

/// The names of a container in one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesInNetwork {
    /// The number of the network.
    pub network: u32,
    /// The names. Those that DNS does not permit, or of more than 63 bytes, are left to the responder.
    pub names: Vec<String>,
    /// Further names, only for those that ask the responder: a name with dots alone may also be a public one.
    pub with_dots: Vec<String>,
    /// The name of its addresses, if it has one.
    pub full_name: Option<String>,
    /// The container's addresses there.
    pub addresses: Vec<IpAddr>,
}

/// What a name of a container means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// It is that of an address, which has a name.
    Pointer(Pointer),
}

/// The name of the map of views.
pub const VIEWS: &str = "VIEWS";
/// The map of views, whose size depends on the room.
pub type Views = HashTable<MapData, u64, View>;

/// The maps of names, with a copy in memory.
pub struct Names {
    names: HashTable<MapData, NameKey, Addresses>,
    pointers: HashTable<MapData, NameKey, Pointer>,
    views: Views,
    /// The names of each container.
    containers: HashMap<Id, BTreeMap<NameKey, Meaning>>,
    /// The containers with each name.
    holders: HashMap<NameKey, BTreeSet<Id>>,
    /// Names whose entries in the map are not as they should be, because the kernel refused a write.
    unwritten: BTreeSet<NameKey>,
    /// Names for which the maps have no room.
    left_out: BTreeSet<NameKey>,
    /// The networks of these names. What the maps have not there may be another container's name in the next network, so
    /// on the way nothing is looked up after them, and at `lo` only the responder looks names up in them.
    incomplete: BTreeSet<u32>,
    /// The networks of each container that asks, by the numbers of its endpoints: first those whose members may talk to
    /// each other.
    asking: HashMap<u64, BTreeMap<u32, (u8, u32)>>,
}

impl Names {
    /// Takes the maps from a loaded object.
    pub fn take(object: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            names: take(object, "NAMES")?,
            pointers: take(object, "POINTERS")?,
            views: take(object, VIEWS)?,
            containers: HashMap::new(),
            holders: HashMap::new(),
            unwritten: BTreeSet::new(),
            left_out: BTreeSet::new(),
            incomplete: BTreeSet::new(),
            asking: HashMap::new(),
        })
    }

    /// The map of views.
    pub fn views(&mut self) -> &mut Views {
        &mut self.views
    }

    /// Writes the views of all containers.
    pub fn write_views(&mut self) -> Result<(), Error> {
        let owners: Vec<u64> = self.asking.keys().copied().collect();
        owners.into_iter().try_for_each(|owner| self.write_view(owner))
    }

    /// Notes whether an endpoint asks, and in which network.
    fn note(&mut self, number: u32, endpoint: &Endpoint, asks: bool) -> Result<(), Error> {
        let networks = self.asking.entry(endpoint.owner).or_default();
        match asks {
            true => networks.insert(number, (endpoint.icc_off, endpoint.network)),
            false => networks.remove(&number),
        };
        if networks.is_empty() {
            self.asking.remove(&endpoint.owner);
        }
        self.write_view(endpoint.owner)
    }

    /// Writes the view of a container. One that is in no container has none.
    fn write_view(&mut self, owner: u64) -> Result<(), Error> {
        let failed = |error| Error::failed("write to VIEWS container", owner, error);
        let networks: BTreeSet<(u8, u32)> =
            self.asking.get(&owner).into_iter().flat_map(BTreeMap::values).copied().collect();
        if owner == 0 || networks.is_empty() {
            return remove(|| self.views.remove(&owner)).map_err(failed);
        }
        let incomplete = networks.iter().position(|(_, network)| self.incomplete.contains(network));
        let count = incomplete.map_or(networks.len(), |place| place + 1).min(MAX_VIEW);
        let mut view = View { count: count as u32, ..View::default() };
        for (place, (_, network)) in view.networks.iter_mut().zip(networks) {
            *place = network;
        }
        add("container that asks for names", MAX_ENDPOINTS, || self.views.insert(owner, view, 0), failed)
    }

    /// Writes the views with one of these networks again.
    fn rewrite_views(&mut self, networks: &BTreeSet<u32>) -> Result<(), Error> {
        let has_one = |view: &BTreeMap<u32, (u8, u32)>| view.values().any(|(_, it)| networks.contains(it));
        let owners: Vec<u64> =
            self.asking.iter().filter(|(_, view)| has_one(view)).map(|(owner, _)| *owner).collect();
        owners.into_iter().try_for_each(|owner| self.write_view(owner))
    }

    /// Replaces the names of a container in memory.
    fn replace(&mut self, container: Id, names: BTreeMap<NameKey, Meaning>) {
        let before = match names.is_empty() {
            true => self.containers.remove(&container),
            false => self.containers.insert(container, names.clone()),
        };
        let before = before.unwrap_or_default();
        for name in before.keys().filter(|name| !names.contains_key(name)) {
            if let Entry::Occupied(mut holders) = self.holders.entry(*name) {
                holders.get_mut().remove(&container);
                if holders.get().is_empty() {
                    holders.remove();
                }
            }
        }
        for name in names.keys() {
            self.holders.entry(*name).or_default().insert(container);
        }
        let all = before.keys().chain(names.keys()).copied();
        self.unwritten.extend(all.filter(|name| before.get(name) != names.get(name)));
    }

    /// Writes the entries that are not as they should be, first those that make room.
    fn write_changed(&mut self) -> Result<(), Error> {
        let gone: Vec<_> =
            self.unwritten.iter().filter(|name| !self.holders.contains_key(name)).copied().collect();
        for name in &gone {
            self.write(name)?;
            self.left_out.remove(name);
            self.unwritten.remove(name);
        }
        if !gone.is_empty() {
            self.unwritten.append(&mut self.left_out);
        }
        while let Some(name) = self.unwritten.first().copied() {
            match self.write(&name) {
                Err(Error::Full { .. }) => drop(self.left_out.insert(name)),
                written => {
                    written?;
                    self.left_out.remove(&name);
                }
            }
            self.unwritten.remove(&name);
        }
        Ok(())
    }

    /// Writes what a name means, or removes a name that nobody has.
    fn write(&mut self, name: &NameKey) -> Result<(), Error> {
        let failed = |error| Error::failed("write a name in network", name.network, error);
        let holders = self.holders.get(name).into_iter().flatten();
        let meanings = holders.filter_map(|container| self.containers.get(container)?.get(name));
        match meaning_of(meanings) {
            Some(Value::Addresses(addresses)) => {
                add("name of a container", MAX_NAMES, || self.names.insert(name, addresses, 0), failed)
            }
            Some(Value::Pointer(pointer)) => {
                add("address with a name", MAX_NAMES, || self.pointers.insert(name, pointer, 0), failed)
            }
            None => {
                remove(|| self.names.remove(name)).map_err(failed)?;
                remove(|| self.pointers.remove(name)).map_err(failed)
            }
        }
    }

    /// Removes from the maps what no container has.
    fn forget_others(&mut self) -> Result<(), Error> {
        let names: Vec<_> = self.names.keys().collect::<Result<_, _>>().map_err(reading("NAMES"))?;
        let pointers: Vec<_> = self.pointers.keys().collect::<Result<_, _>>().map_err(reading("POINTERS"))?;
        let gone = names
            .into_iter()
            .chain(pointers)
            .filter(|name| !self.holders.contains_key(name))
            .collect::<Vec<_>>();
        gone.iter().try_for_each(|name| self.write(name))
    }

    /// Removes the views of containers that do not ask.
    fn forget_views(&mut self) -> Result<(), Error> {
        let owners: Vec<_> = self.views.keys().collect::<Result<_, _>>().map_err(reading("VIEWS"))?;
        owners.into_iter().filter(|owner| !self.asking.contains_key(owner)).try_for_each(|owner| {
            let failed = |error| Error::failed("remove from VIEWS container", owner, error);
            remove(|| self.views.remove(&owner)).map_err(failed)
        })
    }
}

impl Datapath {
    /// Replaces the names of a container, in all of its networks. If the map has no room for one, all names of its network are
    /// left to the responder, with a warning. If a write fails, some are replaced: the next call writes the others.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map.
    pub fn set_names(&mut self, container: Id, networks: &[NamesInNetwork]) -> Result<(), Error> {
        self.note_names(container, networks);
        self.write_names()
    }

    /// The same in memory only. At the start of a daemon, all names are noted before the first is written: a name that
    /// several containers have is never that of some of them.
    pub fn note_names(&mut self, container: Id, networks: &[NamesInNetwork]) {
        self.names.replace(container, networks.iter().flat_map(meanings_in).collect());
    }

    /// Writes all names that were noted.
    ///
    /// # Errors
    /// As of [`Datapath::set_names`].
    pub fn write_names(&mut self) -> Result<(), Error> {
        self.names.write_changed()?;
        self.settle_incomplete()
    }

    /// Leaves names to the responder in networks of which the maps have not all of them, and no more in others.
    fn settle_incomplete(&mut self) -> Result<(), Error> {
        let names = &mut self.names;
        let incomplete: BTreeSet<u32> = names.left_out.iter().map(|name| name.network & !WITH_DOTS).collect();
        if names.incomplete == incomplete {
            return Ok(());
        }
        match incomplete.is_empty() {
            true => tracing::info!("the maps have room for all names again"),
            false => tracing::warn!(
                networks = ?incomplete,
                "only the responder looks up names there, because the maps have no room for all of them"
            ),
        }
        let changed: BTreeSet<u32> = names.incomplete.symmetric_difference(&incomplete).copied().collect();
        let before = std::mem::replace(&mut names.incomplete, incomplete.clone());
        let written = names.rewrite_views(&changed);
        let written = written.and_then(|()| self.resolvers.set_incomplete(incomplete));
        if written.is_err() {
            // The next call does all of it again.
            self.names.incomplete = before;
        }
        written
    }

    /// Removes all names but those that were set since the daemon's start: of these containers there are no others.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map.
    pub fn settle_names(&mut self) -> Result<(), Error> {
        self.names.forget_others()?;
        // There may be room by now.
        let names = &mut self.names;
        names.unwritten.append(&mut names.left_out);
        self.write_names()
    }

    /// Notes whether an endpoint's queries are answered, which was `former` so far. The program for them is loaded or released.
    pub(super) fn note_asking(
        &mut self,
        number: u32,
        former: Option<Endpoint>,
        endpoint: &Endpoint,
    ) -> Result<(), Error> {
        let asks = |endpoint: &Endpoint| endpoint.access & ASKS != 0;
        let view = |of: &Endpoint| asks(of).then_some((of.owner, of.network, of.icc_off));
        let former = former.filter(asks);
        if former.as_ref().and_then(view) == view(endpoint) {
            return Ok(());
        }
        if let Some(former) = former.filter(|former| !asks(endpoint) || former.owner != endpoint.owner) {
            self.names.note(number, &former, false)?;
        }
        if asks(endpoint) {
            self.names.note(number, endpoint, true)?;
        }
        self.settle_asking()
    }

    /// Loads the program that answers, if an endpoint asks, and releases it otherwise: the verifier takes longer for it than
    /// for those that every network needs.
    fn settle_asking(&mut self) -> Result<(), Error> {
        match self.names.asking.is_empty() {
            true => self.programs.release(&OF_ASKING),
            false => self.programs.need(&OF_ASKING),
        }
    }

    /// Notes all endpoints that ask, and removes the views of others.
    pub(super) fn mend_names(&mut self) -> Result<(), Error> {
        for (number, endpoint) in self.endpoints.clone() {
            if endpoint.access & ASKS != 0 {
                self.names.note(number, &endpoint, true)?;
            }
        }
        self.names.forget_views()?;
        self.settle_asking()
    }
}

/// What all names of a container in one network mean.
fn meanings_in(names: &NamesInNetwork) -> impl Iterator<Item = (NameKey, Meaning)> {
    let network = names.network;
    let addresses = Meaning::Addresses(names.addresses.clone());
    let plain = names.names.iter().filter_map(move |text| NameKey::new(network, text));
    let with_dots = names.with_dots.iter().filter_map(move |text| NameKey::new(network | WITH_DOTS, text));
    // The responder takes a name in `arpa` for that of an address.
    let named =
        plain.chain(with_dots).filter(|key| !is_in_arpa(key)).map(move |key| (key, addresses.clone()));
    let pointer = Pointer::new(names.full_name.as_deref());
    let has_names = !names.names.is_empty();
    let ipv4 = names.addresses.iter().filter_map(move |address| match address {
        IpAddr::V4(address) if has_names => {
            let [a, b, c, d] = address.octets();
            NameKey::new(network, &format!("{d}.{c}.{b}.{a}.in-addr.arpa"))
        }
        _ => None,
    });
    named.chain(ipv4.map(move |key| (key, Meaning::Pointer(pointer))))
}

fn is_in_arpa(key: &NameKey) -> bool {
    let end = key.name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    key.name[..end].ends_with(b"\x04arpa")
}

/// The value of a name in its map.
enum Value {
    Addresses(Addresses),
    Pointer(Pointer),
}

/// The value for what a name means for its holders; none without one. If several have an address, only the responder can
/// tell its name.
fn meaning_of<'a>(meanings: impl Iterator<Item = &'a Meaning>) -> Option<Value> {
    let (mut addresses, mut pointers) = (Vec::new(), Vec::new());
    for meaning in meanings {
        match meaning {
            Meaning::Addresses(list) => addresses.push(list.as_slice()),
            Meaning::Pointer(pointer) => pointers.push(*pointer),
        }
    }
    match (pointers.as_slice(), addresses.is_empty()) {
        ([], true) => None,
        ([], false) => Some(Value::Addresses(addresses_of(addresses.into_iter()))),
        ([pointer], _) => Some(Value::Pointer(*pointer)),
        _ => Some(Value::Pointer(Pointer::new(None))),
    }
}

/// The value for these lists of addresses. Of each family, there are the first ones.
fn addresses_of<'a>(lists: impl Iterator<Item = &'a [IpAddr]>) -> Addresses {
    let mut found = Addresses::default();
    for address in lists.flatten() {
        match address {
            IpAddr::V4(address) if usize::from(found.ipv4_count) < MAX_ADDRESSES => {
                found.ipv4[usize::from(found.ipv4_count)] = address.octets();
                found.ipv4_count += 1;
            }
            IpAddr::V6(address) if usize::from(found.ipv6_count) < MAX_ADDRESSES => {
                found.ipv6[usize::from(found.ipv6_count)] = address.octets();
                found.ipv6_count += 1;
            }
            IpAddr::V4(_) | IpAddr::V6(_) => found.is_cut = 1,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_first_addresses_of_each_family() {
        let ipv4: Vec<IpAddr> = (1..=9).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let ipv6: Vec<IpAddr> = vec!["fd00::2".parse().unwrap()];
        let found = addresses_of([&ipv4[..3], &ipv6, &ipv4[3..]].into_iter());
        assert_eq!((found.ipv4_count, found.ipv4[0], found.ipv4[7]), (8, [10, 0, 0, 1], [10, 0, 0, 8]));
        assert_eq!((found.ipv6_count, found.ipv6[0][15], found.ipv6[1]), (1, 2, [0; 16]));
        assert_eq!(found.is_cut, 1, "one more");
        assert_eq!(addresses_of([&ipv4[..8]].into_iter()).is_cut, 0);
    }

    #[test]
    fn an_address_of_several_containers_is_left_to_the_responder() {
        let meaning = |name: &str| Meaning::Pointer(Pointer::new(Some(name)));
        let length = |meanings: &[Meaning]| match meaning_of(meanings.iter()) {
            Some(Value::Pointer(pointer)) => pointer.length,
            Some(Value::Addresses(_)) | None => panic!("a pointer"),
        };
        assert_eq!(length(&[meaning("web.mynet")]), 11);
        assert_eq!(length(&[meaning("web.mynet"), meaning("db.mynet")]), 0);
        assert!(meaning_of([].into_iter()).is_none());
    }

    #[test]
    fn names_in_arpa_are_those_of_addresses_only() {
        let names = NamesInNetwork {
            network: 3,
            names: vec!["web".into(), "web.mynet".into(), "2.0.0.10.in-addr.ARPA".into()],
            with_dots: vec!["a.b".into(), "web.arpa".into()],
            full_name: Some("web.mynet".into()),
            addresses: vec![[10, 0, 0, 2].into(), "fd00::2".parse().unwrap()],
        };
        let keys: Vec<NameKey> = meanings_in(&names).map(|(key, _)| key).collect();
        let key = |network, text| NameKey::new(network, text).unwrap();
        let expected =
            [key(3, "web"), key(3, "web.mynet"), key(3 | WITH_DOTS, "a.b"), key(3, "2.0.0.10.in-addr.arpa")];
        assert_eq!(keys, expected);
    }
}
