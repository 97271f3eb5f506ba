//! Published ports as the relay has them: what comes to the host's own sockets is carried to the container. Must not know
//! how.

use std::net::SocketAddr;

use crate::{
    daemon::{Daemon, Error},
    model::Mapping,
    relay::{self, Place, Port},
};

impl Daemon {
    /// Have the relay carry what comes to the host's ports and is not translated. A port that could not be held has no
    /// socket for it.
    pub(in crate::daemon) async fn relay(&self, mappings: &[Mapping]) -> Result<(), Error> {
        let mut ports = Vec::new();
        {
            let held = self.held();
            for port in mappings.iter().filter_map(port_of) {
                let Place { protocol, address } = port.at;
                let socket = held.socket(protocol, address);
                let socket = socket.map_err(|source| relay::Error::Socket { address, source })?;
                ports.extend(socket.map(|socket| (port, socket)));
            }
        }
        match ports.is_empty() {
            true => Ok(()),
            false => Ok(self.relay.serve(ports).await?),
        }
    }

    /// Have it carry that no more.
    pub(in crate::daemon) async fn unrelay(&self, mappings: &[Mapping]) {
        let places: Vec<Place> = mappings.iter().filter_map(port_of).map(|port| port.at).collect();
        if !places.is_empty()
            && let Err(error) = self.relay.close(places).await
        {
            tracing::error!(%error, "relay ports no more");
        }
    }

    /// Bring the relay to what is published: what it has from before and nobody publishes any more is closed.
    pub(in crate::daemon) async fn settle_relay(&self) -> Result<(), Error> {
        let mappings: Vec<Mapping> =
            self.world().containers().flat_map(|container| container.mappings.clone()).collect();
        let places: Vec<Place> = mappings.iter().filter_map(port_of).map(|port| port.at).collect();
        self.relay.keep(places).await?;
        self.relay(&mappings).await
    }
}

fn port_of(mapping: &Mapping) -> Option<Port> {
    let Mapping { protocol, host, host_port, container, container_port } = *mapping;
    let at = Place { protocol, address: SocketAddr::new(host, host_port) };
    let to = SocketAddr::new(container, container_port);
    mapping.is_relayed().then_some(Port { at, to })
}
