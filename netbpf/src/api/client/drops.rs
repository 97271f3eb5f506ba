//! The request for what was dropped.

use std::marker::PhantomData;

use hyper::Method;
use jiff::Timestamp;

use super::{Call, Client, Lines, Result, target::target};
use crate::api::types::Dropped;

/// Selects drops.
#[derive(Clone, Debug, Default)]
pub struct DropQuery {
    /// Those from or to these containers; all if there is none.
    pub containers: Vec<String>,
    /// The time of the earliest.
    pub since: Option<Timestamp>,
    /// How many of the last; `None` for all.
    pub tail: Option<u64>,
}

impl Client {
    /// `GET /drops`. Returns at the head of the response.
    ///
    /// # Errors
    /// Those of [`Client`]; status 404 if one of the containers is not found. Later errors come from [`Lines::next`].
    pub async fn drops(&self, query: &DropQuery) -> Result<Lines<Dropped>> {
        let mut pairs = Vec::new();
        if !query.containers.is_empty() {
            pairs.push(("containers", query.containers.join(",")));
        }
        pairs.extend(query.since.map(|since| ("since", since.to_string())));
        pairs.extend(query.tail.map(|tail| ("tail", tail.to_string())));
        let call = Call::new(Method::GET, target("/drops", &pairs));
        let response = self.send(&call, None).await?;
        Ok(Lines { call, body: response.into_body(), pending: Vec::new(), text: PhantomData })
    }
}
