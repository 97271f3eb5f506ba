//! Tells the relay which published ports to carry to containers. Must not know how it does so.

use std::net::SocketAddr;

use crate::{
    daemon::{Error, ports::Ports},
    model::Mapping,
    relay::{self, Place, Port},
};

impl Ports {
    /// Start relaying ports, for packets that are not translated. A port that is not held has no socket, and
    /// is skipped.
    pub async fn relay(&self, mappings: &[Mapping]) -> Result<(), Error> {
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

    /// Stop relaying ports.
    pub async fn unrelay(&self, mappings: &[Mapping]) {
        let places: Vec<Place> = mappings.iter().filter_map(port_of).map(|port| port.at).collect();
        if !places.is_empty()
            && let Err(error) = self.relay.close(places).await
        {
            tracing::error!(%error, "stop relaying ports");
        }
    }

    /// Make the relay match the published ports: close those of before that are no longer published.
    pub async fn settle_relay(&self, mappings: &[Mapping]) -> Result<(), Error> {
        let places: Vec<Place> = mappings.iter().filter_map(port_of).map(|port| port.at).collect();
        self.relay.keep(places).await?;
        self.relay(mappings).await
    }
}

fn port_of(mapping: &Mapping) -> Option<Port> {
    let Mapping { protocol, host, host_port, container, container_port } = *mapping;
    let at = Place { protocol, address: SocketAddr::new(host, host_port) };
    let to = SocketAddr::new(container, container_port);
    mapping.is_relayed().then_some(Port { at, to })
}
