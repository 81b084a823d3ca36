//! A socket for tests: its buffer has a capacity, and it reads only when a test says so.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use papo_engineio::{Batch, Frame, Push};
use papo_protocol::SenderId;
use parking_lot::Mutex;

use super::sink::{CloseReason, Sink, push_each};

/// A socket with a buffer, whose reader may pause. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Socket(Arc<Mutex<Buffer>>);

#[derive(Default)]
struct Buffer {
    capacity: usize,
    given: Vec<(Bytes, usize)>,
    waiting: VecDeque<Frame>,
    read: Vec<String>,
    closed: Option<CloseReason>,
}

impl Socket {
    /// A socket whose buffer takes so many packets.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let socket = Self::default();
        socket.0.lock().capacity = capacity;
        socket
    }

    /// Reads as many packets at most.
    pub(crate) fn read(&self, most: usize) {
        let mut buffer = self.0.lock();
        let count = most.min(buffer.waiting.len());
        let Buffer { waiting, read, .. } = &mut *buffer;
        let packets = waiting.drain(..count);
        read.extend(packets.map(|frame| frame.packet().to_owned()));
    }

    /// Reads everything, and returns the packets that were ever read.
    pub(crate) fn packets(&self) -> Vec<String> {
        self.read(usize::MAX);
        self.read_so_far()
    }

    /// The packets that were ever read.
    pub(crate) fn read_so_far(&self) -> Vec<String> {
        self.0.lock().read.clone()
    }

    /// The batches it was given: their bytes, and how many messages each has.
    pub(crate) fn given(&self) -> Vec<(Bytes, usize)> {
        self.0.lock().given.clone()
    }

    /// Why the server closed it.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.0.lock().closed
    }
}

impl Sink for Socket {
    fn push(&self, packet: &Frame) -> Push {
        let mut buffer = self.0.lock();
        if buffer.waiting.len() >= buffer.capacity {
            return Push::Full;
        }
        buffer.waiting.push_back(packet.clone());
        Push::Taken
    }

    fn push_all(&self, batch: &Batch) -> (usize, Push) {
        let given = (batch.joined().clone(), batch.frames().len());
        self.0.lock().given.push(given);
        push_each(batch, |frame| self.push(frame))
    }

    fn close(&self, reason: CloseReason) {
        self.0.lock().closed = Some(reason);
    }

    fn is_sender(&self, sender: &SenderId) -> bool {
        sender.as_str() == "reader"
    }
}
