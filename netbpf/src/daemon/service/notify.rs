//! What the service manager hears of this daemon, where one asked to (`NOTIFY_SOCKET`, sd_notify(3)); else nothing
//! happens. Must not know why.

use sd_notify::NotifyState;

/// What the daemon is at, for `systemctl status`.
pub(in crate::daemon) fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// All sockets are served from now on.
pub(in crate::daemon) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It was told to end.
pub(in crate::daemon) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what was asked")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "tell the service manager");
    }
}
