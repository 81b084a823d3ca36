//! Notices: packets for all members of this server, which may be lost.

use papo_engineio::Frame;
use papo_protocol::SenderId;
use tokio::sync::broadcast;

/// Notices that may wait for a shard before the oldest are lost.
const BUFFER: usize = 64;

/// A packet for all members. It may be lost.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) packet: Frame,
    /// The sender whose own connections do not need it.
    pub(crate) except: Option<SenderId>,
}

/// Notifies all members of this server. Clones notify the same members.
#[derive(Clone, Debug)]
pub(crate) struct Notices(broadcast::Sender<Notice>);

impl Notices {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(BUFFER))
    }

    /// The notices from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.0.subscribe()
    }

    /// Sends a packet to all members that have room for it.
    pub(crate) fn notify(&self, notice: Notice) {
        // Without a shard there is no member to notify.
        let _ = self.0.send(notice);
    }
}
