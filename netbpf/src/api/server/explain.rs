//! Converts explanations into messages.

use jiff::Timestamp;

use crate::{
    api::types,
    daemon::{Explanation, Hop, Mark, Party, Way},
};

/// The message of an explanation.
pub fn message(explained: &Explanation) -> types::Explanation {
    let decisive = explained.decisive();
    types::Explanation {
        kind: "explanation".to_owned(),
        time: Timestamp::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        source: party(&explained.from),
        destination: party(&explained.to),
        protocol: explained.protocol.to_owned(),
        port: explained.port,
        verdict: explained.verdict().name().to_owned(),
        code: decisive.map(|hop| hop.code.name()).unwrap_or_default().to_owned(),
        summary: decisive.map(|hop| hop.text.clone()).unwrap_or_default(),
        advice: decisive.map(|hop| hop.help.clone()).unwrap_or_default(),
        hops: explained.hops.iter().map(hop).collect(),
    }
}

fn party(party: &Party) -> types::Party {
    let Party { kind, name, id, network, address } = party.clone();
    types::Party { kind: kind.to_owned(), name, id, network, address }
}

fn hop(hop: &Hop) -> types::Hop {
    let way = match hop.way {
        Way::There => "there",
        Way::Back => "back",
    };
    let mark = match hop.mark {
        Mark::Good => "good",
        Mark::Bad => "bad",
        Mark::Unknown => "unknown",
        Mark::Note => "note",
    };
    types::Hop {
        way: way.to_owned(),
        mark: mark.to_owned(),
        at: hop.at.clone(),
        code: hop.code.name().to_owned(),
        text: hop.text.clone(),
        origin: hop.source.name().to_owned(),
        entry: hop.entry.clone(),
        advice: hop.help.clone(),
    }
}
