//! Leads the queries of a container to the responder: through the filter at `lo`, or at port 53 where there can be none. Must
//! not know names.

use std::net::Ipv4Addr;

use nix::sys::socket::AddressFamily;

use super::{host::Host, lo::DNS_PORT};
use crate::{
    daemon::{Error, parts::resolver_sockets},
    datapath,
    dns::{Record, Sockets},
    model::{Id, Namespace},
};

/// Where a container asks.
pub struct Asking {
    /// The namespace from which it asks.
    pub namespace: Namespace,
    /// The address of its name server, at port 53.
    pub address: Ipv4Addr,
    /// The family of the servers to which the responder's sockets lead, if these are the container's own.
    pub servers: Option<AddressFamily>,
    /// Whether it asks already: then nothing that a filter needs is a reason to answer no more.
    pub asks_already: bool,
}

impl Host {
    /// Leads a container's queries to the responder. Returns new sockets for it, unless the responder that was taken over has
    /// the right ones. If there can be no filter, for example because another one has its place, that is noted, and the
    /// responder gets port 53.
    ///
    /// # Errors
    /// [`Error::Resolver`] if another container asks from the namespace, or the port is taken. [`Error::Link`] if the
    /// namespace cannot be entered, or what the filter needs fails although there can be one; [`Error::File`],
    /// [`Error::Datapath`], [`Error::Dns`]. [`Host::leave_lo`] undoes what was done.
    pub(super) async fn lead_queries(
        &self,
        record: &Record,
        asking: &Asking,
    ) -> Result<Option<Sockets>, Error> {
        let container = record.container;
        let mut lack = None;
        if self.answers_at_lo().await {
            match self.lead_through_filter(record, asking).await {
                Err(error) if is_about_filter(&error, asking.asks_already) => {
                    let error = error.to_string();
                    tell_fallback(container, &error);
                    lack = Some(error);
                }
                led => return led,
            }
        }
        // First: a filter from before leads queries to the former sockets as long as it is there.
        let listening = self.listen(record, asking, Some(DNS_PORT)).await;
        let (_, sockets) = match lack {
            None => {
                self.leave_lo(container).await?;
                listening?
            }
            Some(reason) => {
                let listening = listening?;
                self.do_without_lo(container, reason).await?;
                listening
            }
        };
        Ok(sockets)
    }

    /// Leads a container's queries to port 53 instead of its filter, because there can be none any more.
    ///
    /// # Errors
    /// [`Error::Resolver`] if the port is taken, [`Error::Link`] if the namespace cannot be entered: it has no answers.
    /// [`Error::Dns`]. Those of [`Host::leave_lo`]: something of its filter is left.
    pub async fn fall_back(&self, record: Record, asking: &Asking, reason: &str) -> Result<(), Error> {
        let container = record.container;
        let (_, sockets) = self.listen(&record, asking, Some(DNS_PORT)).await?;
        tell_fallback(container, reason);
        let removed = self.do_without_lo(container, reason.to_owned()).await;
        // Also if something is left: nothing leads to the former sockets any more.
        self.feed.upsert(record, sockets).await?;
        removed
    }

    async fn lead_through_filter(&self, record: &Record, asking: &Asking) -> Result<Option<Sockets>, Error> {
        let (port, sockets) = self.listen(record, asking, None).await?;
        self.join_lo(record.container, &asking.namespace, asking.address, port).await?;
        Ok(sockets)
    }

    /// Opens sockets at a port, or at any but 53, unless the responder that was taken over has them. Returns their port.
    async fn listen(
        &self,
        record: &Record,
        asking: &Asking,
        wanted: Option<u16>,
    ) -> Result<(u16, Option<Sockets>), Error> {
        if let Some(port) = self.feed.held_port(record, wanted).await? {
            return Ok((port, None));
        }
        let namespace = self.links.namespace(&asking.namespace)?;
        let sockets = resolver_sockets(&namespace, asking.address, wanted, asking.servers).await?;
        let address = (asking.address, DNS_PORT).into();
        let port = sockets.port().map_err(|source| Error::Resolver { address, source })?;
        Ok((port, Some(sockets)))
    }
}

fn tell_fallback(container: Id, error: &str) {
    tracing::warn!(
        container = %container.short(), error,
        "the responder answers its queries at port 53, because no filter can be added"
    );
}

/// Whether an error of a filter is a reason to do without it: for a new one, that there can be none.
fn is_about_filter(error: &Error, asks_already: bool) -> bool {
    match error {
        Error::Link(error) => asks_already || error.is_unsupported(),
        Error::Datapath(error) => asks_already || matches!(error, datapath::Error::Full { .. }),
        Error::File { .. } => asks_already,
        _ => false,
    }
}
