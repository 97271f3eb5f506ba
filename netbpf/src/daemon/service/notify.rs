//! Notifies the service manager, if there is one (`NOTIFY_SOCKET`, sd_notify(3)); otherwise does nothing.
//! Must not know what the daemon does.

use sd_notify::NotifyState;

/// The daemon's status, for `systemctl status`.
pub(in crate::daemon) fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The daemon is ready: it serves all sockets.
pub(in crate::daemon) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The daemon stops.
pub(in crate::daemon) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing requests")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "tell the service manager");
    }
}
