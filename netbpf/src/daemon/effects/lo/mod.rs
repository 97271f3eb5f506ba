//! The filter at `lo` of a container that asks the responder: it answers queries for known names, and maps port 53 to that
//! of the responder. A note in the container's directory tells a later daemon where a filter is, whatever becomes of the
//! container's record. Must not know names.

mod askers;
mod restore;
mod trouble;

use std::{
    io,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

pub use restore::Found;

use self::{
    askers::{Askers, Way},
    trouble::Trouble,
};
use super::{files::kept, host::Host};
use crate::{
    daemon::{
        Error,
        parts::{Namespace, held_namespace},
    },
    link,
    model::{self, Id},
};

/// The port at which clients ask, and where the responder listens if there is no filter.
pub const DNS_PORT: u16 = 53;

/// The name of the note, in a container's directory.
const NOTE: &str = "lo.json";

/// Where a filter is.
#[derive(PartialEq, Serialize, Deserialize)]
struct Note {
    namespace: model::Namespace,
    class: u16,
    /// Whether its discipline was there before, and stays.
    #[serde(default)]
    keeps_discipline: bool,
}

/// Whether queries are answered at `lo`.
pub struct FastNames {
    is_wanted: bool,
    ability: Mutex<Ability>,
    askers: Askers,
    trouble: Trouble,
}

/// Whether the kernel can answer queries at `lo`. That is tried when it is needed first.
#[derive(Clone)]
enum Ability {
    /// Nobody needed it yet.
    Unknown,
    /// It can.
    Able,
    /// It was short of something: that is tried again.
    Short(String),
    /// It lacks this.
    Lacks(String),
}

impl FastNames {
    /// As the daemon's options say, if the kernel can.
    pub fn new(is_wanted: bool) -> Self {
        Self {
            is_wanted,
            ability: Mutex::new(Ability::Unknown),
            askers: Askers::default(),
            trouble: Trouble::default(),
        }
    }

    fn ability(&self) -> MutexGuard<'_, Ability> {
        self.ability.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How names are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamesStanding {
    /// By the kernel, for so many containers.
    AtLo(usize),
    /// By the responder, as the user wants.
    Off,
    /// By the responder: the kernel lacks something.
    Lacking(String),
}

impl Host {
    /// Whether queries of containers are answered at `lo`. If the kernel cannot do that, the log says why.
    pub async fn answers_at_lo(&self) -> bool {
        self.fast_names.is_wanted && self.can_answer_at_lo().await
    }

    async fn can_answer_at_lo(&self) -> bool {
        let known = self.fast_names.ability().clone();
        match known {
            Ability::Able => return true,
            Ability::Lacks(_) => return false,
            Ability::Unknown | Ability::Short(_) => {}
        }
        let tried = async {
            let program = block_in_place(|| self.datapath().program_at_lo())?;
            self.links.check_filter_at_lo(&program.descriptor).await?;
            // The container may not need it after all.
            Ok::<_, Error>(self.datapath().settle_at_lo()?)
        };
        let found = match tried.await {
            Ok(()) => Ability::Able,
            Err(error) => {
                tracing::warn!("the responder answers names, because the kernel cannot: {error}");
                match matches!(&error, Error::Link(error) if error.is_unsupported()) {
                    true => Ability::Lacks(error.to_string()),
                    false => Ability::Short(error.to_string()),
                }
            }
        };
        let can = matches!(found, Ability::Able);
        *self.fast_names.ability() = found;
        can
    }

    /// How names are answered.
    pub fn standing_of_names(&self) -> NamesStanding {
        let ability = self.fast_names.ability().clone();
        match ability {
            _ if !self.fast_names.is_wanted => NamesStanding::Off,
            Ability::Short(lack) | Ability::Lacks(lack) => NamesStanding::Lacking(lack),
            Ability::Unknown | Ability::Able => {
                let ways = self.fast_names.askers.ways().into_iter();
                NamesStanding::AtLo(ways.filter(|(_, way)| *way == Way::Filter).count())
            }
        }
    }

    /// The containers that have no filter although others have one, each with the reason.
    pub fn without_filter(&self) -> Vec<(Id, String)> {
        let ways = self.fast_names.askers.ways().into_iter();
        ways.filter_map(|(container, way)| match way {
            Way::Port(reason) => Some((container, reason)),
            Way::None | Way::Filter => None,
        })
        .collect()
    }

    /// Keeps the classes of all filters that an earlier daemon noted, before any is given.
    ///
    /// # Errors
    /// [`Error::File`] if the directories of containers cannot be listed.
    pub fn reserve_at_lo(&self) -> Result<(), Error> {
        for container in self.folders.containers()? {
            match self.note_at_lo(container) {
                Ok(Some(note)) => self.datapath().reserve_class(container, note.class),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(container = %container.short(), %error, "find the filter at lo")
                }
            }
        }
        Ok(())
    }

    /// Removes the resolvers of containers that have no filter.
    ///
    /// # Errors
    /// [`Error::Datapath`] of the map.
    pub fn settle_lo(&self) -> Result<(), Error> {
        let all = self.datapath().resolvers();
        // One whose note cannot be read may have one.
        for container in all.into_iter().filter(|id| matches!(self.note_at_lo(*id), Ok(None))) {
            self.datapath().remove_resolver(container)?;
        }
        Ok(())
    }

    fn note_at_lo(&self, container: Id) -> Result<Option<Note>, Error> {
        kept::read(&self.folders.of(&container), NOTE)
    }

    /// Answers a container's queries to port 53 of `address` at `lo` in its namespace, and maps that port to `port`, where
    /// the responder listens. If that is so already, its program is replaced.
    ///
    /// # Errors
    /// [`Error::Resolver`] if another container asks from the same namespace. [`Error::Link`], [`Error::Datapath`],
    /// [`Error::File`]: [`Host::leave_lo`] undoes what was done.
    pub async fn join_lo(
        &self,
        container: Id,
        named: &model::Namespace,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<(), Error> {
        let askers = &self.fast_names.askers;
        let namespace = Arc::new(self.links.namespace(named)?);
        let has_moved = match askers.inode_of(container) {
            Some(before) => before != namespace.inode()?,
            None => self.note_at_lo(container)?.is_some_and(|note| note.namespace != *named),
        };
        if has_moved {
            self.leave_lo(container).await?;
        }
        if !askers.enter(container, &namespace)? {
            let source = io::Error::from(io::ErrorKind::AddrInUse);
            return Err(Error::Resolver { address: (address, DNS_PORT).into(), source });
        }
        let class = self.datapath().set_resolver(container, address, port)?;
        self.add_filter(container, &namespace, named.clone(), class).await?;
        askers.set_way(container, Way::Filter);
        Ok(())
    }

    /// Notes a container's filter, and adds or replaces it.
    async fn add_filter(
        &self,
        container: Id,
        namespace: &Namespace,
        named: model::Namespace,
        class: u16,
    ) -> Result<(), Error> {
        // The first one loads the program.
        let program = block_in_place(|| self.datapath().program_at_lo())?;
        let noted = self.note_at_lo(container)?;
        let lo = self.links.lo(namespace).await?;
        // Before the note: what is left without one is an empty discipline, which does nothing.
        let is_new = lo.add_discipline().await?;
        // One that was there before the first note is the container's own.
        let keeps_discipline = !is_new && noted.as_ref().is_none_or(|note| note.keeps_discipline);
        let note = Note { namespace: named, class, keeps_discipline };
        // A full disk is no reason to answer no more.
        if noted.as_ref() != Some(&note)
            && let Err(error) = kept::write(&self.folders.of(&container), NOTE, &note)
        {
            if is_new {
                lo.remove_discipline().await?;
            }
            return Err(error);
        }
        Ok(lo.add_filter(&program.descriptor, class).await?)
    }

    /// Opens the namespace of a container's filter, if there is one, until it is removed.
    ///
    /// # Errors
    /// [`Error::Link`] or [`Error::File`].
    pub fn open_lo(&self, container: Id) -> Result<(), Error> {
        match self.note_at_lo(container)? {
            Some(note) => self.namespace_to_leave(container, &note.namespace).map(drop),
            None => Ok(()),
        }
    }

    /// Removes a container's filter, if there is one. It may be gone with its namespace.
    ///
    /// # Errors
    /// [`Error::Link`], [`Error::Datapath`] or [`Error::File`]: call it again.
    pub async fn leave_lo(&self, container: Id) -> Result<(), Error> {
        self.fast_names.askers.set_way(container, Way::None);
        self.remove_at_lo(container).await?;
        self.fast_names.askers.leave(container);
        Ok(())
    }

    /// Removes what was done for a container's filter, and notes why it asks at port 53. Its namespace stays its own.
    ///
    /// # Errors
    /// As of [`Host::leave_lo`].
    pub async fn do_without_lo(&self, container: Id, reason: String) -> Result<(), Error> {
        self.fast_names.askers.set_way(container, Way::Port(reason));
        self.remove_at_lo(container).await
    }

    async fn remove_at_lo(&self, container: Id) -> Result<(), Error> {
        if let Some(note) = self.note_at_lo(container)? {
            if let Some(namespace) = self.namespace_to_leave(container, &note.namespace)? {
                self.remove_filter(&namespace, &note).await?;
            }
            kept::remove(&self.folders.of(&container), NOTE)?;
        }
        // Last: while a filter may be there, no other container gets its class.
        Ok(self.datapath().remove_resolver(container)?)
    }

    async fn remove_filter(&self, namespace: &Namespace, note: &Note) -> Result<(), Error> {
        let lo = self.links.lo(namespace).await?;
        if lo.filter().await?.is_some_and(|filter| filter.class != note.class) {
            return Ok(());
        }
        lo.remove_filter().await?;
        if !note.keeps_discipline {
            lo.remove_discipline().await?;
        }
        Ok(())
    }

    /// The namespace of a container's filter; none if it is gone, or another container has it by now, and with it the filter's
    /// place.
    fn namespace_to_leave(
        &self,
        container: Id,
        named: &model::Namespace,
    ) -> Result<Option<Arc<Namespace>>, Error> {
        let askers = &self.fast_names.askers;
        if let Some(namespace) = askers.namespace_of(container) {
            return Ok(Some(namespace));
        }
        // The responder's socket is in that namespace, whatever has its name by now.
        let namespace = match held_namespace(&self.feed, container)? {
            Some(held) => Some(held),
            None => match self.links.namespace(named) {
                Err(error) if error.is_missing() || matches!(error, link::Error::NotANamespace(_)) => None,
                opened => Some(opened?),
            },
        };
        let Some(namespace) = namespace.map(Arc::new) else { return Ok(None) };
        Ok(askers.enter(container, &namespace)?.then_some(namespace))
    }
}

/// Whether a filter is noted in a container's directory.
pub fn is_noted(dir: &Path) -> bool {
    dir.join(NOTE).exists()
}
