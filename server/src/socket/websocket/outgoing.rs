//! What goes out: straight into the kernel as long as it takes it.

use std::{
    collections::VecDeque,
    io,
    net::Shutdown,
    sync::{LazyLock, OnceLock},
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify};

use super::Ending;
use crate::{
    frame::{Batch, Frame, TEXT, encode},
    room::Push,
};

/// Frames that may wait for the kernel: answers and what the fan-out need not keep in order. Messages wait in the log.
const MOST_WAITING: usize = 512;

/// The first bytes of final frames (RFC 6455, 5.2).
const PONG: u8 = 0x8a;
const CLOSE: u8 = 0x88;
/// Engine.IO's ping, in its frame.
pub(super) static PING: LazyLock<Bytes> = LazyLock::new(|| text("2"));

/// The sending side of a connection.
#[derive(Debug)]
pub(in crate::socket) struct Outgoing {
    stream: TcpStream,
    waiting: Mutex<VecDeque<Bytes>>,
    /// Something waits.
    news: Notify,
    /// The end was asked for.
    end: Notify,
    ending: OnceLock<Ending>,
}

impl Outgoing {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            waiting: Mutex::new(VecDeque::new()),
            news: Notify::new(),
            end: Notify::new(),
            ending: OnceLock::new(),
        }
    }

    /// Takes a frame that has nowhere else to wait.
    pub(in crate::socket) fn push(&self, frame: &Frame) -> Push {
        self.push_raw(frame.bytes().clone())
    }

    pub(super) fn push_raw(&self, frame: Bytes) -> Push {
        if self.ending.get().is_some() {
            return Push::Gone;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST_WAITING {
            return Push::Full;
        }
        let written = if waiting.is_empty() {
            self.write(&frame)
        } else {
            Ok(0)
        };
        let Ok(written) = written else {
            return Push::Gone;
        };
        self.keep_rest(&mut waiting, frame, written);
        Push::Taken
    }

    /// Takes as many frames as the kernel does, and the rest of one that it takes in part. While anything waits it takes
    /// none: their place is in the log.
    pub(in crate::socket) fn push_all(&self, batch: &Batch) -> (usize, Push) {
        if self.ending.get().is_some() {
            return (0, Push::Gone);
        }
        let mut waiting = self.waiting.lock();
        if !waiting.is_empty() {
            return (0, Push::Full);
        }
        let Ok(written) = self.write(batch.joined()) else {
            return (0, Push::Gone);
        };
        let (whole, part) = whole(batch.frames(), written);
        let Some(next) = batch.frames().get(whole) else {
            return (whole, Push::Taken);
        };
        // Waits even if nothing of it was taken: so it is the kernel that says when to go on. A part of the joined bytes
        // would keep all of them.
        self.keep_rest(&mut waiting, next.bytes().clone(), part);
        (whole + 1, Push::Full)
    }

    fn keep_rest(&self, waiting: &mut VecDeque<Bytes>, mut frame: Bytes, written: usize) {
        frame.advance(written);
        if !frame.is_empty() {
            waiting.push_back(frame);
            self.news.notify_one();
        }
    }

    /// Writes what the kernel takes at once, which may be nothing.
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Hands over what waits whenever the kernel has room; ends with an error when nothing can be written any more.
    pub(super) async fn flush(&self) -> io::Error {
        loop {
            while self.waiting.lock().is_empty() {
                self.news.notified().await;
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
        let mut waiting = self.waiting.lock();
        while let Some(first) = waiting.front_mut() {
            let written = self.write(first)?;
            if written == 0 {
                return Ok(());
            }
            first.advance(written);
            if first.is_empty() {
                waiting.pop_front();
            }
        }
        // Idle connections keep no memory for what they may have to say.
        *waiting = VecDeque::new();
        Ok(())
    }

    /// Asks the connection's task to end it.
    pub(in crate::socket) fn end(&self, ending: Ending) {
        if self.ending.set(ending).is_ok() {
            self.end.notify_one();
        }
    }

    /// Waits until the end was asked for.
    pub(super) async fn ended(&self) -> Ending {
        loop {
            if let Some(ending) = self.ending.get() {
                return *ending;
            }
            self.end.notified().await;
        }
    }

    /// Says goodbye, unless a frame is under way that will never be whole, and closes this side.
    pub(super) fn close(&self, ending: Ending) {
        let _ = self.ending.set(ending);
        // Whoever does not hear it sees the end of the connection.
        if self.flush_now().is_ok() && self.waiting.lock().is_empty() {
            let _ = self.write(&goodbye(ending));
        }
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }

    /// Reads and drops until the other side is closed too.
    pub(super) async fn until_hung_up(&self) {
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut [0; 1024]) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(buffer)
    }
}

/// How many of these frames are whole in their first so many bytes, and how much of the next one there is.
fn whole(frames: &[Frame], mut bytes: usize) -> (usize, usize) {
    let cut = frames.iter().position(|frame| {
        let length = frame.bytes().len();
        let is_whole = length <= bytes;
        if is_whole {
            bytes -= length;
        }
        !is_whole
    });
    (cut.unwrap_or(frames.len()), bytes)
}

/// A text frame.
pub(super) fn text(payload: &str) -> Bytes {
    encode(TEXT, &[], payload.as_bytes())
}

/// The answer to WebSocket's ping: the same data.
pub(super) fn pong(data: &[u8]) -> Bytes {
    encode(PONG, &[], data)
}

fn goodbye(ending: Ending) -> Bytes {
    encode(CLOSE, &[], &(ending as u16).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

    use super::*;

    /// A connection whose kernel buffers are as small as they may be, and its other end.
    async fn pair() -> (Arc<Outgoing>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, server) = (client.expect("connected"), server.expect("accepted").0);
        SockRef::from(&server).set_send_buffer_size(1).expect("set");
        server.writable().await.expect("writable");
        (Arc::new(Outgoing::new(server)), client)
    }

    #[tokio::test]
    async fn frames_taken_in_part_are_continued_exactly() {
        let (outgoing, mut client) = pair().await;
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
        flush.abort();
    }

    #[test]
    fn a_cut_is_found_wherever_it_is() {
        // Four, five and four bytes.
        let frames = ["a", "bc", "d"].map(Frame::new);
        let cuts = [0, 3, 4, 8, 9, 12, 13].map(|bytes| whole(&frames, bytes));
        assert_eq!(
            cuts,
            [(0, 0), (0, 3), (1, 0), (1, 4), (2, 0), (2, 3), (3, 0)]
        );
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_messages_do_not_wait_here() {
        let (outgoing, _client) = pair().await;
        let frame = Frame::new(&"x".repeat(60_000));
        let mut answers = 0;
        while outgoing.push(&frame) == Push::Taken {
            answers += 1;
            assert!(answers < 10_000, "it never ends");
        }
        assert!(answers >= MOST_WAITING);
        let batch = Batch::new([&frame].into_iter());
        assert_eq!(outgoing.push_all(&batch), (0, Push::Full));
        outgoing.end(Ending::GoingAway);
        assert_eq!(outgoing.push(&frame), Push::Gone);
    }
}
