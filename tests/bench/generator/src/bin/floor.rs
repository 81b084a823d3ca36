//! The floor: the least program that does to sockets what a chat server must, to compare servers with. It writes every
//! message to every connection, the frame encoded once and shared, all that is ready in one `write`. It goes round the
//! connections as papo-server does, and rests as long between two rounds, so that what differs is what each does for a
//! delivery and not how many share a system call. It has no rooms, no log, no limits, no recovery, and trusts its clients.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    env, io,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result};
use papo_bench::{packet::Packet, packet::packet};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{LocalSet, spawn_local, yield_now},
    time::{Instant, timeout_at},
};

/// Connections written to in a row, before what has come is read.
const IN_A_ROW: usize = 32;
/// A round begins at once if so many messages wait for it; fewer wait so many times as long as the last round took, and at most so long.
const ENOUGH: usize = 32;
const REST: f64 = 1.25;
const LONGEST_REST: Duration = Duration::from_millis(10);
/// How much is read at once.
const READ_AT_ONCE: usize = 4096;
/// The answer to the one key that the generator sends.
const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// The client's mask key and the shortest head before it.
const HEAD: usize = 6;

type Shared = Rc<[u8]>;

/// Everybody, and what has been said that somebody has not been sent.
#[derive(Default)]
struct Room {
    clients: RefCell<Vec<Rc<Client>>>,
    frames: RefCell<VecDeque<Shared>>,
    /// How many frames were said before the first of those.
    forgotten: Cell<usize>,
    said: Notify,
}

struct Client {
    stream: TcpStream,
    /// How many frames it has been sent.
    seen: Cell<usize>,
    /// What the kernel would not take.
    waiting: RefCell<VecDeque<u8>>,
    /// Whether a task is seeing to that.
    is_flushing: Cell<bool>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let address = env::args().nth(1).context("usage: floor ADDRESS:PORT")?;
    let listener = TcpListener::bind(address).await?;
    LocalSet::new().run_until(serve(listener)).await
}

async fn serve(listener: TcpListener) -> Result<()> {
    let room = Rc::<Room>::default();
    spawn_local(room.clone().go_round());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = Rc::new(Client {
            stream,
            seen: Cell::default(),
            waiting: RefCell::default(),
            is_flushing: Cell::default(),
        });
        let room = room.clone();
        spawn_local(async move {
            // A client that has gone, or that says what none of ours would, is forgotten.
            let _ = client.clone().listen(&room).await;
            room.clients
                .borrow_mut()
                .retain(|other| !Rc::ptr_eq(other, &client));
        });
    }
}

impl Room {
    fn tail(&self) -> usize {
        self.forgotten.get() + self.frames.borrow().len()
    }

    fn client(&self, number: usize) -> Option<Rc<Client>> {
        self.clients.borrow().get(number).cloned()
    }

    fn say(&self, frame: Vec<u8>) {
        self.frames.borrow_mut().push_back(frame.into());
        self.said.notify_one();
    }

    /// Sends everybody what they have not been sent, round after round.
    async fn go_round(self: Rc<Self>) {
        let mut rested = Instant::now();
        loop {
            let mut waiting = self.frames.borrow().len();
            while waiting < ENOUGH {
                let more = self.said.notified();
                match waiting {
                    0 => more.await,
                    _ if Instant::now() >= rested => break,
                    _ if timeout_at(rested, more).await.is_err() => break,
                    _ => {}
                }
                waiting = self.frames.borrow().len();
            }
            let began = Instant::now();
            self.send_all().await;
            self.forget();
            rested = Instant::now() + began.elapsed().mul_f64(REST).min(LONGEST_REST);
        }
    }

    async fn send_all(&self) {
        let (mut next, mut joined) = (0, Joined::default());
        while let Some(client) = self.client(next) {
            joined.put_together(client.seen.get(), self);
            if !joined.bytes.is_empty() {
                client.write(&joined.bytes);
                client.seen.set(joined.to);
            }
            next += 1;
            if next % IN_A_ROW == 0 {
                yield_now().await;
            }
        }
    }

    /// Drops what everybody has been sent.
    fn forget(&self) {
        let clients = self.clients.borrow();
        let first = clients.iter().map(|client| client.seen.get()).min();
        let seen = first.unwrap_or_else(|| self.tail());
        let mut frames = self.frames.borrow_mut();
        frames.drain(..seen - self.forgotten.get());
        self.forgotten.set(seen);
    }
}

/// The frames of one or several clients who have seen equally much, in one piece.
#[derive(Default)]
struct Joined {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

impl Joined {
    fn put_together(&mut self, from: usize, room: &Room) {
        let to = room.tail();
        if (self.from, self.to) != (from, to) {
            self.bytes.clear();
            for frame in room.frames.borrow().range(from - room.forgotten.get()..) {
                self.bytes.extend_from_slice(frame);
            }
            (self.from, self.to) = (from, to);
        }
    }
}

impl Client {
    async fn listen(self: Rc<Self>, room: &Room) -> io::Result<()> {
        let mut partial = Vec::new();
        let mut upgraded = false;
        loop {
            self.stream.readable().await?;
            let mut buffer = [0; READ_AT_ONCE];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => partial.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            if upgraded {
                let mut taken = 0;
                while let Some(length) = length(&partial[taken..]) {
                    self.answer(&partial[taken + HEAD..taken + length], room);
                    taken += length;
                }
                partial.drain(..taken);
            } else if partial.ends_with(b"\r\n\r\n") {
                upgraded = true;
                partial.clear();
                self.write(&[UPGRADED, &frame(r#"0{"sid":"x"}"#)].concat());
            }
            if partial.is_empty() {
                partial = Vec::new();
            }
        }
    }

    fn answer(self: &Rc<Self>, payload: &[u8], room: &Room) {
        match packet(payload) {
            Packet::Connected(_) => {
                self.write(&frame(r#"40{"sid":"x"}"#));
                self.seen.set(room.tail());
                room.clients.borrow_mut().push(self.clone());
            }
            Packet::Event(event) => {
                let event = String::from_utf8_lossy(event);
                let Some((ack, event)) = event.split_once(r#"["message","#) else {
                    return;
                };
                let text = event.trim_end_matches(']');
                // As long as what papo-server sends.
                let details = r#"{"id":"0193f3a0-0000-7000-8000-000000000000","offset":12345,"user":"Ana Maria","sender":"0123456789abcdef","at":1790000000000}"#;
                room.say(frame(&format!(r#"42["message",{text},{details}]"#)));
                self.write(&frame(&format!(r#"43{ack}[{{"ok":true}}]"#)));
            }
            _ => {}
        }
    }

    fn write(self: &Rc<Self>, bytes: &[u8]) {
        let mut waiting = self.waiting.borrow_mut();
        let sent = if waiting.is_empty() {
            self.stream.try_write(bytes).unwrap_or(0)
        } else {
            0
        };
        waiting.extend(&bytes[sent..]);
        if !waiting.is_empty() && !self.is_flushing.replace(true) {
            spawn_local(self.clone().flush());
        }
    }

    async fn flush(self: Rc<Self>) {
        loop {
            // An error here is one for the reading side too, which sees to it.
            if self.stream.writable().await.is_err() {
                return;
            }
            let mut waiting = self.waiting.borrow_mut();
            match self.stream.try_write(waiting.as_slices().0) {
                Ok(sent) => drop(waiting.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            }
            if waiting.is_empty() {
                self.is_flushing.set(false);
                return;
            }
        }
    }
}

/// The bytes of a text frame from a server.
fn frame(payload: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    let length = u16::try_from(payload.len()).expect("frames here are short");
    if let Ok(short @ 0..0x7e) = u8::try_from(length) {
        frame.push(short);
    } else {
        frame.push(0x7e);
        frame.extend(length.to_be_bytes());
    }
    frame.extend(payload.as_bytes());
    frame
}

/// How long the first frame is, if it has all come; the generator sends only short ones, masked with 0.
fn length(buffer: &[u8]) -> Option<usize> {
    let length = HEAD + usize::from(buffer.get(1)? & 0x7f);
    (buffer.len() >= length).then_some(length)
}
