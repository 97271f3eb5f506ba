//! The servers to which a container's queries are forwarded, and which of them are silent. Must not know how servers
//! are asked; has no clock.
//!
//! A server that does not reply in time is silent: it is asked last. After [`PAUSE`] the next query asks it at once,
//! beside the first server, so that no query waits to find out whether it is back. Any reply puts it back to its place:
//! the order of servers is the administrator's and is kept wherever possible.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// The maximum number of servers asked for one name.
pub(super) const MAX_SERVERS: usize = 3;
/// How long a silent server is asked last only.
const PAUSE: Duration = Duration::from_secs(5);

/// Servers in the order of the configuration.
#[derive(Default)]
pub(super) struct Upstream {
    servers: Vec<SocketAddr>,
    states: RefCell<HashMap<SocketAddr, State>>,
}

/// What is known about a server.
#[derive(Default)]
struct State {
    /// The time of its last reply.
    heard: Option<Instant>,
    /// Set while it is silent: when it is asked at once again.
    next_try: Option<Instant>,
}

/// A server in the order of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The server.
    pub(super) server: SocketAddr,
    /// Whether it is asked at once, without waiting for the servers before it.
    pub(super) at_once: bool,
}

impl Upstream {
    /// No server is silent at first.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        let servers = servers.iter().take(MAX_SERVERS).copied().collect();
        Self { servers, states: RefCell::default() }
    }

    /// The servers in the order for the next query: silent ones last.
    pub(super) fn turns(&self, now: Instant) -> Vec<Turn> {
        let mut states = self.states.borrow_mut();
        let turn = |server: &SocketAddr| {
            let next_try = states.get_mut(server).and_then(|state| state.next_try.as_mut());
            let is_silent = next_try.is_some();
            let is_due = next_try.filter(|next_try| **next_try <= now);
            let at_once = is_due.is_some();
            if let Some(next_try) = is_due {
                *next_try = now + PAUSE;
            }
            (is_silent, Turn { server: *server, at_once })
        };
        let mut turns: Vec<_> = self.servers.iter().map(turn).collect();
        turns.sort_by_key(|(is_silent, _)| *is_silent);
        turns.into_iter().map(|(_, turn)| turn).collect()
    }

    /// A server has replied, whatever the reply is.
    pub(super) fn heard(&self, server: SocketAddr, now: Instant) {
        let mut states = self.states.borrow_mut();
        *states.entry(server).or_default() = State { heard: Some(now), next_try: None };
    }

    /// A server did not reply to a query that was sent at `since`. If it has replied to another one since, only that
    /// query was lost.
    pub(super) fn unheard(&self, server: SocketAddr, since: Instant, now: Instant) {
        let mut states = self.states.borrow_mut();
        let state = states.entry(server).or_default();
        if state.heard.is_none_or(|heard| heard < since) {
            state.next_try = Some(now + PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn server(last: u8) -> SocketAddr {
        (Ipv4Addr::new(10, 0, 0, last), 53).into()
    }

    /// The last part of each address, with whether it is asked at once.
    fn order(upstream: &Upstream, now: Instant) -> Vec<(u8, bool)> {
        let last = |server: SocketAddr| server.to_string().as_bytes()[7] - b'0';
        upstream.turns(now).iter().map(|turn| (last(turn.server), turn.at_once)).collect()
    }

    #[test]
    fn a_silent_server_is_asked_last_and_tried_beside_the_others_after_a_while() {
        let upstream = Upstream::new(&[server(1), server(2), server(3), server(4)]);
        let start = Instant::now();
        assert_eq!(order(&upstream, start), [(1, false), (2, false), (3, false)], "no more than three");
        upstream.unheard(server(1), start, start + SECOND);
        assert_eq!(order(&upstream, start + SECOND), [(2, false), (3, false), (1, false)]);
        let later = start + SECOND + PAUSE;
        assert_eq!(order(&upstream, later), [(2, false), (3, false), (1, true)]);
        assert_eq!(
            order(&upstream, later),
            [(2, false), (3, false), (1, false)],
            "at once only after a pause"
        );
        upstream.heard(server(1), later);
        assert_eq!(order(&upstream, later), [(1, false), (2, false), (3, false)]);
    }

    #[test]
    fn a_server_that_answers_others_is_not_silent() {
        let upstream = Upstream::new(&[server(1), server(2)]);
        let start = Instant::now();
        upstream.heard(server(1), start + SECOND);
        upstream.unheard(server(1), start, start + 4 * SECOND);
        assert_eq!(order(&upstream, start + 4 * SECOND), [(1, false), (2, false)]);
    }
}
