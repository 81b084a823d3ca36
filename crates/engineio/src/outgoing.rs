//! The sending half of a connection: frames go straight into the kernel for as long as it takes them.
//!
//! - Bytes leave in the order in which they were pushed, and a frame is never cut by another.
//! - A push never waits, and never blocks on the client.
//! - What waits here is bounded: the rest of one frame of a batch, and [`MOST_WAITING`] frames that have no other place, as far as
//!   the [`Budget`] allows.

use std::{
    collections::VecDeque,
    io,
    net::Shutdown,
    sync::{Arc, LazyLock, OnceLock},
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify};

use crate::{
    Budget, CloseCode, Kept,
    frame::{Batch, Frame, TEXT, encode},
};

/// Single frames that may wait for the kernel, such as answers. The frames of a batch wait with the caller.
const MOST_WAITING: usize = 512;
/// What a waiting frame costs beside its bytes.
const FRAME: usize = 64;

/// The first bytes of final frames (RFC 6455, 5.2).
const BINARY: u8 = 0x82;
const PONG: u8 = 0x8a;
const CLOSE: u8 = 0x88;
/// Engine.IO's ping, in its frame.
pub(crate) static PING: LazyLock<Bytes> = LazyLock::new(|| text("2"));

/// The outcome of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The frame is with the kernel, or will be written to it before all that is pushed later.
    Taken,
    /// There is no room for the frame now.
    Full,
    /// The connection is closed.
    Gone,
}

/// The sending half of a connection. Any number of tasks may push.
#[derive(Debug)]
pub struct Outgoing {
    stream: TcpStream,
    waiting: Mutex<Waiting>,
    /// A frame waits.
    frame_waits: Notify,
    /// A close was requested.
    close_requested: Notify,
    close_code: OnceLock<CloseCode>,
}

/// Frames that wait for the kernel.
#[derive(Debug)]
struct Waiting {
    frames: VecDeque<Bytes>,
    kept: Kept,
}

impl Outgoing {
    pub(crate) fn new(stream: TcpStream, budget: &Arc<Budget>) -> Self {
        let waiting = Waiting {
            frames: VecDeque::new(),
            kept: Kept::nothing(budget),
        };
        Self {
            stream,
            waiting: Mutex::new(waiting),
            frame_waits: Notify::new(),
            close_requested: Notify::new(),
            close_code: OnceLock::new(),
        }
    }

    /// Sends a frame that has nowhere else to wait: it waits here, up to a bound, when the kernel takes no more.
    pub fn push(&self, frame: &Frame) -> Push {
        self.push_raw(frame.bytes().clone())
    }

    /// Sends a binary message, which waits as in [`push`](Self::push).
    pub fn push_binary(&self, data: &[u8]) -> Push {
        self.push_raw(binary(data))
    }

    /// Sends a text message that is no packet of Engine.IO: for servers without sessions. It waits as in [`push`](Self::push).
    pub fn push_text(&self, message: &str) -> Push {
        self.push_raw(text(message))
    }

    pub(crate) fn push_raw(&self, frame: Bytes) -> Push {
        if self.close_code.get().is_some() {
            return Push::Gone;
        }
        let mut waiting = self.waiting.lock();
        // Kept before it is written: when a part of it is with the kernel, the rest must have a place.
        let cost = FRAME + frame.len();
        if waiting.frames.len() >= MOST_WAITING || !waiting.kept.add(cost) {
            return Push::Full;
        }
        let written = if waiting.frames.is_empty() {
            self.write(&frame)
        } else {
            Ok(0)
        };
        waiting.kept.remove(cost);
        let Ok(written) = written else {
            return Push::Gone;
        };
        self.keep_rest(&mut waiting, frame, written);
        Push::Taken
    }

    /// Sends as many frames of a batch as the kernel takes, with one system call, and says how many. The rest of a frame that
    /// was written in part counts as sent and is written later; while anything waits, no frame is taken.
    pub fn push_all(&self, batch: &Batch) -> (usize, Push) {
        if self.close_code.get().is_some() {
            return (0, Push::Gone);
        }
        let mut waiting = self.waiting.lock();
        if !waiting.frames.is_empty() {
            return (0, Push::Full);
        }
        let Ok(written) = self.write(batch.joined()) else {
            return (0, Push::Gone);
        };
        let (complete, part) = complete(batch.frames(), written);
        let Some(next) = batch.frames().get(complete) else {
            return (complete, Push::Taken);
        };
        // This frame waits even if none of its bytes was written: so the kernel says when there is room again. It is cloned
        // from its own bytes, because a part of the joined ones would keep all of them in memory.
        self.keep_rest(&mut waiting, next.bytes().clone(), part);
        (complete + 1, Push::Full)
    }

    fn keep_rest(&self, waiting: &mut Waiting, mut frame: Bytes, written: usize) {
        frame.advance(written);
        if !frame.is_empty() {
            waiting.kept.add_anyway(FRAME + frame.len());
            waiting.frames.push_back(frame);
            self.frame_waits.notify_one();
        }
    }

    /// Writes as many bytes as the kernel takes at once, which may be none.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Writes the waiting frames whenever the kernel has room. Returns the error that ends the connection.
    pub(crate) async fn flush(&self) -> io::Error {
        loop {
            while self.waiting.lock().frames.is_empty() {
                self.frame_waits.notified().await;
            }
            if let Err(error) = self.stream.writable().await {
                return error;
            }
            if let Err(error) = self.flush_now() {
                return error;
            }
        }
    }

    fn flush_now(&self) -> io::Result<()> {
        let Waiting { frames, kept } = &mut *self.waiting.lock();
        while let Some(first) = frames.front_mut() {
            let written = self.write(first)?;
            if written == 0 {
                return Ok(());
            }
            first.advance(written);
            kept.remove(written);
            if first.is_empty() {
                frames.pop_front();
                kept.remove(FRAME);
            }
        }
        // An idle connection keeps no memory for frames to come.
        *frames = VecDeque::new();
        Ok(())
    }

    /// Asks the task that holds [`Incoming`](crate::Incoming) to close the connection. The first request decides the code.
    pub fn close(&self, code: CloseCode) {
        if self.close_code.set(code).is_ok() {
            self.close_requested.notify_one();
        }
    }

    /// Waits until a close is requested.
    pub(crate) async fn close_requested(&self) -> CloseCode {
        loop {
            if let Some(code) = self.close_code.get() {
                return *code;
            }
            self.close_requested.notified().await;
        }
    }

    /// Sends the close frame and closes this side. After the part of a frame that will never be complete, no close frame can
    /// be sent.
    pub(crate) fn finish(&self, code: CloseCode) {
        let _ = self.close_code.set(code);
        // A client that does not get it sees the end of the connection.
        if self.flush_now().is_ok() && self.waiting.lock().frames.is_empty() {
            let _ = self.write(&close_frame(code));
        }
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }

    /// Reads and drops bytes until the client has closed its side too.
    pub(crate) async fn peer_closed(&self) {
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut [0; 1024]) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }
}

/// How many of these frames are complete in their first `bytes` bytes, and how many bytes of the next one there are.
fn complete(frames: &[Frame], mut bytes: usize) -> (usize, usize) {
    let cut = frames.iter().position(|frame| {
        let length = frame.bytes().len();
        let is_complete = length <= bytes;
        if is_complete {
            bytes -= length;
        }
        !is_complete
    });
    (cut.unwrap_or(frames.len()), bytes)
}

/// A text frame.
pub(crate) fn text(payload: &str) -> Bytes {
    encode(TEXT, &[], payload.as_bytes())
}

/// A binary frame.
pub(crate) fn binary(data: &[u8]) -> Bytes {
    encode(BINARY, &[], data)
}

/// The answer to WebSocket's ping: a pong with the same payload.
pub(crate) fn pong(data: &[u8]) -> Bytes {
    encode(PONG, &[], data)
}

fn close_frame(code: CloseCode) -> Bytes {
    encode(CLOSE, &[], &(code as u16).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

    use super::*;

    const BUDGET: usize = 64 << 20;

    /// A connection whose kernel buffers are as small as they may be, and its other end.
    async fn pair(budget: &Arc<Budget>) -> (Arc<Outgoing>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, server) = (client.expect("connected"), server.expect("accepted").0);
        SockRef::from(&server).set_send_buffer_size(1).expect("set");
        server.writable().await.expect("writable");
        (Arc::new(Outgoing::new(server, budget)), client)
    }

    #[tokio::test]
    async fn partly_written_frames_are_completed_in_order() {
        let budget = Arc::new(Budget::new(BUDGET));
        let (outgoing, mut client) = pair(&budget).await;
        let frames: Vec<Frame> = (0..3_000)
            .map(|n| Frame::new(&format!("{n}-{}", "x".repeat(n % 3_000))))
            .collect();
        let expected: Vec<u8> = frames
            .iter()
            .flat_map(|frame| frame.bytes().to_vec())
            .collect();
        let flushing = outgoing.clone();
        let flush = tokio::spawn(async move { flushing.flush().await });
        let length = expected.len();
        let reading = tokio::spawn(async move {
            let mut read = vec![0; length];
            client.read_exact(&mut read).await.expect("read");
            read
        });
        let mut next = 0;
        let mut blocked = 0;
        while next < frames.len() {
            let (taken, push) = outgoing.push_all(&Batch::new(frames[next..].iter().take(100)));
            next += taken;
            if push == Push::Full {
                blocked += 1;
                tokio::task::yield_now().await;
            }
        }
        let read = timeout(Duration::from_secs(30), reading)
            .await
            .expect("in time");
        assert!(
            read.expect("read") == expected,
            "the same bytes in the same order"
        );
        assert!(blocked > 0, "the kernel took everything at once");
        assert_eq!(budget.kept(), 0, "what was read is not kept");
        flush.abort();
    }

    #[test]
    fn complete_frames_are_counted_at_every_cut() {
        // Four, five and four bytes.
        let frames = ["a", "bc", "d"].map(Frame::new);
        let cuts = [0, 3, 4, 8, 9, 12, 13].map(|bytes| complete(&frames, bytes));
        assert_eq!(
            cuts,
            [(0, 0), (0, 3), (1, 0), (1, 4), (2, 0), (2, 3), (3, 0)]
        );
    }

    #[tokio::test]
    async fn waiting_frames_are_bounded_and_batches_never_wait() {
        let budget = Arc::new(Budget::new(BUDGET));
        let (outgoing, _client) = pair(&budget).await;
        let frame = Frame::new(&"x".repeat(60_000));
        let mut answers = 0;
        while outgoing.push(&frame) == Push::Taken {
            answers += 1;
            assert!(
                answers < 10_000,
                "the number of waiting frames has no bound"
            );
        }
        assert!(answers >= MOST_WAITING);
        let batch = Batch::new([&frame].into_iter());
        assert_eq!(outgoing.push_all(&batch), (0, Push::Full));
        outgoing.close(CloseCode::GoingAway);
        assert_eq!(outgoing.push(&frame), Push::Gone);
        assert!(budget.kept() > MOST_WAITING * frame.bytes().len() / 2);
        drop(outgoing);
        assert_eq!(budget.kept(), 0, "what waited has gone");
    }

    #[tokio::test]
    async fn frames_beyond_the_budget_do_not_wait() {
        let budget = Arc::new(Budget::new(300_000));
        let (first, _client) = pair(&budget).await;
        let (second, _other) = pair(&budget).await;
        let frame = Frame::new(&"x".repeat(10_000));
        while first.push(&frame) == Push::Taken {}
        while second.push(&frame) == Push::Taken {}
        assert!((250_000..=300_000).contains(&budget.kept()), "{budget:?}");
        drop(first);
        assert_eq!(second.push(&frame), Push::Taken);
    }
}
