//! The filter at `lo` of a container that asks the responder: it answers queries for known names, and maps port 53 to that
//! of the responder. A note in the container's directory tells a later daemon where a filter is, whatever becomes of the
//! container's record. Must not know names.

use std::{io, net::Ipv4Addr};

use serde::{Deserialize, Serialize};
use tokio::{sync::OnceCell, task::block_in_place};

use super::{files::kept, host::Host};
use crate::{
    daemon::{Error, parts::Namespace},
    link,
    model::{self, Id},
};

/// The port at which clients ask, and where the responder listens if there is no filter.
pub const DNS_PORT: u16 = 53;

/// The name of the note, in a container's directory.
const NOTE: &str = "lo.json";

/// Where a filter is.
#[derive(Serialize, Deserialize)]
struct Note {
    namespace: model::Namespace,
    class: u16,
}

/// Whether queries are answered at `lo`.
pub struct FastNames {
    is_wanted: bool,
    /// Why the kernel cannot do that, if it cannot. It is tried when it is needed first.
    lack: OnceCell<Option<String>>,
}

impl FastNames {
    /// As the daemon's options say, if the kernel can.
    pub fn new(is_wanted: bool) -> Self {
        Self { is_wanted, lack: OnceCell::new() }
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
        self.fast_names.is_wanted && self.lack_at_lo().await.is_none()
    }

    async fn lack_at_lo(&self) -> &Option<String> {
        let try_it = || async {
            let tried = async {
                let program = block_in_place(|| self.datapath().program_at_lo())?;
                self.links.check_filter_at_lo(&program.descriptor).await?;
                // The container may not need it after all.
                Ok::<_, Error>(self.datapath().settle_at_lo()?)
            };
            let lack = tried.await.err().map(|error| error.to_string());
            if let Some(lack) = &lack {
                tracing::warn!("the responder answers all names, because the kernel cannot: {lack}");
            }
            lack
        };
        self.fast_names.lack.get_or_init(try_it).await
    }

    /// How names are answered.
    pub fn standing_of_names(&self) -> NamesStanding {
        match self.fast_names.lack.get() {
            _ if !self.fast_names.is_wanted => NamesStanding::Off,
            Some(Some(lack)) => NamesStanding::Lacking(lack.clone()),
            Some(None) | None => NamesStanding::AtLo(self.datapath().resolvers().len()),
        }
    }

    /// Answers a container's queries to port 53 of `address` at `lo` in its namespace, and maps that port to `port`, where
    /// the responder listens. If that is so already, its program is replaced.
    ///
    /// # Errors
    /// [`Error::Resolver`] if another container in the same namespace has the address. [`Error::Link`],
    /// [`Error::Datapath`], [`Error::File`]: [`Host::leave_lo`] undoes what was done.
    pub async fn join_lo(
        &self,
        container: Id,
        named: &model::Namespace,
        address: Ipv4Addr,
        port: u16,
    ) -> Result<(), Error> {
        let namespace = self.links.namespace(named)?;
        if let Some(found) = self.links.found_at_lo(&namespace).await?
            && self.datapath().resolver_of_class(found.class).is_some_and(|other| other != container)
        {
            let source = io::Error::from(io::ErrorKind::AddrInUse);
            return Err(Error::Resolver { address: (address, DNS_PORT).into(), source });
        }
        let class = self.datapath().set_resolver(container, address, port)?;
        kept::write(&self.folders.of(&container), NOTE, &Note { namespace: named.clone(), class })?;
        self.filter(&namespace, class).await
    }

    async fn filter(&self, namespace: &Namespace, class: u16) -> Result<(), Error> {
        // The first one loads the program.
        let program = block_in_place(|| self.datapath().program_at_lo())?;
        Ok(self.links.filter_at_lo(namespace, &program.descriptor, class).await?)
    }

    /// Removes a container's filter, if there is one. It may be gone with its namespace.
    ///
    /// # Errors
    /// [`Error::Link`], [`Error::Datapath`] or [`Error::File`]: call it again.
    pub async fn leave_lo(&self, container: Id) -> Result<(), Error> {
        let dir = self.folders.of(&container);
        if let Some(Note { namespace, class }) = kept::read(&dir, NOTE)? {
            let left = match self.links.namespace(&namespace) {
                Ok(namespace) => self.links.remove_filter_at_lo(&namespace, class).await,
                Err(error) => Err(error),
            };
            match left {
                Err(error) if is_gone(&error) => {}
                left => left?,
            }
            kept::remove(&dir, NOTE)?;
        }
        // Last: while a filter may be there, no other container gets its class.
        Ok(self.datapath().remove_resolver(container)?)
    }

    /// Adds a container's filter again if somebody removed it; returns whether that was so.
    ///
    /// # Errors
    /// [`Error::Link`], [`Error::Datapath`] or [`Error::File`].
    pub async fn restore_at_lo(&self, container: Id) -> Result<bool, Error> {
        let Some(Note { namespace, class }) = kept::read(&self.folders.of(&container), NOTE)? else {
            return Ok(false);
        };
        let namespace = match self.links.namespace(&namespace) {
            Err(error) if is_gone(&error) => return Ok(false),
            namespace => namespace?,
        };
        let program = block_in_place(|| self.datapath().program_at_lo())?;
        let wanted = link::FilterAtLo { class, program: program.id };
        if self.links.found_at_lo(&namespace).await? == Some(wanted) {
            return Ok(false);
        }
        self.links.filter_at_lo(&namespace, &program.descriptor, class).await?;
        Ok(true)
    }
}

fn is_gone(error: &link::Error) -> bool {
    error.is_missing() || matches!(error, link::Error::NotANamespace(_))
}
