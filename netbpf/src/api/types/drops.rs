//! The message of `drops`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Frames that were dropped for one reason: at one interface on the way to one destination, if that is remembered. Keys are
/// added, and never changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Dropped {
    /// Always `drop`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// When the last one was dropped; absent for those that were only counted, and so is all that is remembered of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// When the first one was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    /// [`netbpf_common::reason::Reason::name`].
    pub reason: String,
    /// How many.
    pub frames: u64,
    /// Why, and what would help: one sentence without a full stop.
    pub why: String,
    /// Who dropped them: `programs`, or `packet filter`, which only counts them.
    pub by: String,
    /// Who sent the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DropParty>,
    /// Whom they were for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DropParty>,
    /// `tcp`, `udp`, `sctp`, `icmp`, `ipv6-icmp`, `arp`, `vlan`; other protocols are numbers: `ip-47`, `ipv6-47`, or the
    /// EtherType, `0x88cc`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The interface of the host where they were dropped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// The network that they were in, or would have entered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// The length of the last one in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// Its first bytes in hexadecimal digits, at most 64 of them, from its Ethernet header on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub head: String,
}

/// A sender or receiver.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DropParty {
    /// `container`; `gone` for one that is not there any more; `host`; `other` for another host, a group, or an address
    /// that nobody has.
    pub kind: String,
    /// The container's name, or `host`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The container's ID.
    #[serde(rename = "ID", default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The container's network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// IP address, or the MAC if there is none.
    pub address: String,
    /// Port of TCP, UDP or SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}
