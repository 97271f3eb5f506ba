//! Docker's IPAM driver (`--ipam-driver netbpf`): its messages as Docker writes them (libnetwork's `ipams/remote/api`),
//! and the daemon's methods for them. A pool's ID is its subnet.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use axum::{Router, body::Bytes, extract::State, response::Response, routing::post};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    convert::{self, InvalidMessage},
    server::{answer, call},
    wire::{Done, or_null},
};
use crate::{
    daemon::Daemon,
    ipam::{self, Request, Requested},
};

type Shared = State<Arc<Daemon>>;

/// `IpamDriver.GetCapabilities`.
#[derive(Debug, Serialize)]
struct Capabilities {
    #[serde(rename = "RequiresMACAddress")]
    requires_mac_address: bool,
    /// Whether Docker repeats all requests for its pools and addresses when it starts.
    #[serde(rename = "RequiresRequestReplay")]
    requires_request_replay: bool,
}

/// `IpamDriver.GetDefaultAddressSpaces`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AddressSpaces {
    local_default_address_space: &'static str,
    global_default_address_space: &'static str,
}

#[derive(Debug, Deserialize)]
struct RequestPool {
    /// Empty: any subnet.
    #[serde(rename = "Pool", default)]
    pool: String,
    /// `--ip-range`.
    #[serde(rename = "SubPool", default)]
    sub_pool: String,
    /// `--ipam-opt`.
    #[serde(rename = "Options", default, deserialize_with = "or_null")]
    options: BTreeMap<String, String>,
    #[serde(rename = "V6", default)]
    v6: bool,
}

#[derive(Debug, Serialize)]
struct Pool {
    #[serde(rename = "PoolID")]
    pool_id: String,
    #[serde(rename = "Pool")]
    pool: String,
    #[serde(rename = "Data")]
    data: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct OfPool {
    #[serde(rename = "PoolID")]
    pool_id: String,
}

#[derive(Debug, Deserialize)]
struct OfAddress {
    #[serde(rename = "PoolID")]
    pool_id: String,
    /// Empty: any address.
    #[serde(rename = "Address", default)]
    address: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address {
    /// With the subnet's prefix length.
    address: String,
    data: BTreeMap<String, String>,
}

/// The driver's methods.
pub fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/IpamDriver.GetCapabilities", post(capabilities))
        .route("/IpamDriver.GetDefaultAddressSpaces", post(address_spaces))
        .route("/IpamDriver.RequestPool", post(request_pool))
        .route("/IpamDriver.ReleasePool", post(release_pool))
        .route("/IpamDriver.RequestAddress", post(request_address))
        .route("/IpamDriver.ReleaseAddress", post(release_address))
}

async fn capabilities() -> Response {
    answer(Capabilities { requires_mac_address: false, requires_request_replay: false })
}

/// There is one address space, because netbpf's networks are local to a host.
async fn address_spaces() -> Response {
    answer(AddressSpaces { local_default_address_space: "netbpf", global_default_address_space: "netbpf" })
}

async fn request_pool(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: RequestPool| {
        let subnet = daemon.lend_pool(requested(&message)?).await?;
        Ok(Pool { pool_id: subnet.to_string(), pool: subnet.to_string(), data: BTreeMap::new() })
    };
    call(body, work, async || {}).await
}

async fn release_pool(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: OfPool| {
        daemon.return_pool(pool(&message.pool_id)?).await?;
        Ok(Done {})
    };
    call(body, work, async || {}).await
}

async fn request_address(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: OfAddress| {
        let wanted: Option<IpAddr> = convert::given("Address", &message.address)?;
        let address = daemon.lend_address(pool(&message.pool_id)?, wanted).await?;
        Ok(Address { address: address.to_string(), data: BTreeMap::new() })
    };
    call(body, work, async || {}).await
}

async fn release_address(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: OfAddress| {
        let address = message.address.parse().map_err(|_| convert::invalid("Address", &message.address))?;
        daemon.return_address(pool(&message.pool_id)?, address).await?;
        Ok(Done {})
    };
    call(body, work, async || {}).await
}

fn requested(message: &RequestPool) -> Result<Requested, InvalidMessage> {
    ipam::check_options(&message.options)?;
    let subnet: Option<IpNet> = convert::given("Pool", &message.pool)?;
    let range: Option<IpNet> = convert::given("SubPool", &message.sub_pool)?;
    let auxiliary = BTreeMap::new();
    let request =
        Request { subnet: &message.pool, range: &message.sub_pool, gateway: "", auxiliary: &auxiliary };
    let requests = if subnet.is_some() || range.is_some() { vec![request] } else { Vec::new() };
    Ok(Request::parse(&requests, !message.v6, message.v6)?)
}

fn pool(id: &str) -> Result<IpNet, InvalidMessage> {
    id.parse().map_err(|_| convert::invalid("PoolID", id))
}

/// Parses a body as each message of Docker. Returns the errors about its fields.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn check_messages(body: &[u8]) -> Vec<InvalidMessage> {
    let mut errors = Vec::new();
    if let Ok(message) = serde_json::from_slice(body) {
        errors.extend(requested(&message).err());
    }
    if let Ok(OfAddress { pool_id, address }) = serde_json::from_slice(body) {
        errors.extend(pool(&pool_id).err());
        errors.extend(convert::given::<IpAddr>("Address", &address).err());
    }
    if let Ok(OfPool { pool_id }) = serde_json::from_slice(body) {
        errors.extend(pool(&pool_id).err());
    }
    errors
}
