//! The floor: the least program that does to sockets what a chat server must, to compare servers with. It writes every
//! message to every connection, the frame encoded once and shared, all that is ready together in one `writev`. It has no
//! rooms, no log, no limits, no recovery, and trusts its clients.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    env, io,
    io::IoSlice,
    rc::Rc,
};

use anyhow::{Context, Result};
use papo_bench::{packet::Packet, packet::packet};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{LocalSet, spawn_local},
};

/// The most that is written at once.
const BATCH: usize = 64;
/// The answer to the one key that the generator sends.
const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// The client's mask key and the shortest head before it.
const HEAD: usize = 6;

type Shared = Rc<[u8]>;
type Clients = Rc<RefCell<Vec<Rc<Client>>>>;

struct Client {
    stream: TcpStream,
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
    let clients = Clients::default();
    let (said, heard) = unbounded_channel();
    spawn_local(fan_out(clients.clone(), heard));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = Rc::new(Client {
            stream,
            waiting: RefCell::default(),
            is_flushing: Cell::default(),
        });
        let (said, clients) = (said.clone(), clients.clone());
        spawn_local(async move {
            // A client that has gone, or that says what none of ours would, is forgotten.
            let _ = client.clone().listen(&clients, &said).await;
            clients
                .borrow_mut()
                .retain(|other| !Rc::ptr_eq(other, &client));
        });
    }
}

/// Writes what has been said since the last time to everybody.
async fn fan_out(clients: Clients, mut heard: UnboundedReceiver<Shared>) {
    let mut frames = Vec::new();
    while heard.recv_many(&mut frames, BATCH).await > 0 {
        let slices: Vec<_> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
        for client in clients.borrow().iter() {
            client.write(&slices);
        }
        frames.clear();
    }
}

impl Client {
    async fn listen(
        self: Rc<Self>,
        clients: &Clients,
        said: &UnboundedSender<Shared>,
    ) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(4096);
        let mut upgraded = false;
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            if !upgraded {
                upgraded = buffer.ends_with(b"\r\n\r\n");
                if upgraded {
                    buffer.clear();
                    self.write(&[
                        IoSlice::new(UPGRADED),
                        IoSlice::new(&frame(r#"0{"sid":"x"}"#)),
                    ]);
                }
                continue;
            }
            while let Some(length) = length(&buffer) {
                self.answer(&buffer[HEAD..length], clients, said);
                buffer.drain(..length);
            }
        }
    }

    fn answer(self: &Rc<Self>, payload: &[u8], clients: &Clients, said: &UnboundedSender<Shared>) {
        match packet(payload) {
            Packet::Connected(_) => {
                self.write(&[IoSlice::new(&frame(r#"40{"sid":"x"}"#))]);
                clients.borrow_mut().push(self.clone());
            }
            Packet::Event(event) => {
                let event = String::from_utf8_lossy(event);
                let Some((ack, event)) = event.split_once(r#"["message","#) else {
                    return;
                };
                let text = event.trim_end_matches(']');
                // As long as what papo-server sends.
                let details = r#"{"id":"0193f3a0-0000-7000-8000-000000000000","offset":12345,"user":"Ana Maria","sender":"0123456789abcdef","at":1790000000000}"#;
                let _ = said.send(frame(&format!(r#"42["message",{text},{details}]"#)).into());
                self.write(&[IoSlice::new(&frame(&format!(r#"43{ack}[{{"ok":true}}]"#)))]);
            }
            _ => {}
        }
    }

    fn write(self: &Rc<Self>, slices: &[IoSlice<'_>]) {
        let mut waiting = self.waiting.borrow_mut();
        let sent = if waiting.is_empty() {
            self.stream.try_write_vectored(slices).unwrap_or(0)
        } else {
            0
        };
        let mut skip = sent;
        for slice in slices {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            waiting.extend(&slice[skipped..]);
        }
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
            if let Ok(sent) = self.stream.try_write(waiting.as_slices().0) {
                waiting.drain(..sent);
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
