//! The messages of `explain`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The way of one packet from A to B, and of its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// Always `explanation`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// When it was found out.
    pub time: Timestamp,
    /// The daemon's version.
    pub version: String,
    /// Who sends.
    pub source: Party,
    /// Who is to get it.
    pub destination: Party,
    /// `icmp`, `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// The destination port; 0 if the protocol has none.
    pub port: u16,
    /// `passes`, `blocked`, `undecided`.
    pub verdict: String,
    /// What happens at the hop that decides: a stable name.
    pub code: String,
    /// The same in a sentence.
    pub summary: String,
    /// What would help; empty if nothing has to.
    pub advice: String,
    /// The steps in order.
    pub hops: Vec<Hop>,
}

/// An end of a packet's way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Party {
    /// `container`, `host`, `outside`.
    pub kind: String,
    /// As users know it.
    pub name: String,
    /// The container's ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// The network that has the address.
    pub network: String,
    /// Its address.
    pub address: String,
}

/// A step on a packet's way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Hop {
    /// `there` or `back`.
    pub way: String,
    /// `good`, `bad`, `unknown`, `note`.
    pub mark: String,
    /// Where it is: a container's name, an interface, `host`.
    pub at: String,
    /// What happens: a stable name, that of a reason if a program decided.
    pub code: String,
    /// The same in a sentence.
    pub text: String,
    /// Who told: `program`, `kernel`, `table`, `sockets`, `foreign`, `names`, `daemon`.
    pub origin: String,
    /// The entry that decided.
    pub entry: String,
    /// What would help; empty if nothing has to.
    pub advice: String,
}
