//! Tells the relay which published ports to carry to containers. Must not know how it does so.

use std::net::SocketAddr;

use crate::{
    daemon::{Daemon, Error},
    model::Mapping,
    relay::{self, Place, Port},
};

impl Daemon {
    /// Start relaying ports, for packets that are not translated. A port that is not held has no socket, and
    /// is skipped.
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
            false => Ok(self.ports.relay.serve(ports).await?),
        }
    }

    /// Stop relaying ports.
    pub(in crate::daemon) async fn unrelay(&self, mappings: &[Mapping]) {
        let places: Vec<Place> = mappings.iter().filter_map(port_of).map(|port| port.at).collect();
        if !places.is_empty()
            && let Err(error) = self.ports.relay.close(places).await
        {
            tracing::error!(%error, "stop relaying ports");
        }
    }

    /// Make the relay match the published ports: close those of before that are no longer published.
    pub(in crate::daemon) async fn settle_relay(&self) -> Result<(), Error> {
        let mappings: Vec<Mapping> =
            self.world().containers().flat_map(|container| container.mappings.clone()).collect();
        let places: Vec<Place> = mappings.iter().filter_map(port_of).map(|port| port.at).collect();
        self.ports.relay.keep(places).await?;
        self.relay(&mappings).await
    }
}

fn port_of(mapping: &Mapping) -> Option<Port> {
    let Mapping { protocol, host, host_port, container, container_port } = *mapping;
    let at = Place { protocol, address: SocketAddr::new(host, host_port) };
    let to = SocketAddr::new(container, container_port);
    mapping.is_relayed().then_some(Port { at, to })
}
