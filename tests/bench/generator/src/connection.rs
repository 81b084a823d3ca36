//! One Socket.IO connection over a raw WebSocket: it goes through the handshakes and answers pings by itself, and hands on
//! everything else.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use memchr::memmem;
use socket2::{Domain, Socket, Type};

use crate::{
    frame,
    packet::{Packet, packet},
};

/// The end of an HTTP head.
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// Larger than any frame a server sends to one socket, but for histories: those make it grow.
const SCRATCH: usize = 256 * 1024;

/// A connection and what it has not been able to read or write yet.
pub struct Connection {
    stream: TcpStream,
    /// The incomplete frame at the end of what has come.
    partial: Vec<u8>,
    /// What the kernel would not take yet.
    unsent: Vec<u8>,
    upgraded: bool,
    connect_packet: String,
}

/// The buffer all connections of a thread read into, one after the other.
pub fn scratch() -> Vec<u8> {
    vec![0; SCRATCH]
}

impl Connection {
    /// Connects, and asks for a WebSocket. Once Engine.IO is open, `auth` (JSON or nothing) is said.
    pub fn open(server: SocketAddr, auth: &str) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Closing resets: a port that lingers in TIME_WAIT is missing in the next run, and with many the kernel searches
        // long for a free one, on our time.
        socket.set_linger(Some(Duration::ZERO))?;
        socket
            .connect(&server.into())
            .with_context(|| format!("cannot connect to {server}"))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let connect_packet = format!("40{auth}");
        let mut connection = Self {
            stream: socket.into(),
            partial: Vec::new(),
            unsent: Vec::new(),
            upgraded: false,
            connect_packet,
        };
        connection.write(upgrade(server).as_bytes())?;
        Ok(connection)
    }

    /// Emits an event, given as a JSON array, and asks for its acknowledgement under this number.
    pub fn emit(&mut self, ack: u64, event: &str) -> Result<()> {
        self.write(&frame::client_text(&format!("42{ack}{event}")))
    }

    /// Reads what is there once, and hands on each packet. Breaks when the server has hung up.
    pub fn read(
        &mut self,
        scratch: &mut Vec<u8>,
        mut on: impl FnMut(Packet<'_>),
    ) -> Result<ControlFlow<()>> {
        self.flush()?;
        loop {
            let kept = self.partial.len();
            if scratch.len() < 2 * kept {
                scratch.resize(2 * scratch.len(), 0);
            }
            scratch[..kept].copy_from_slice(&self.partial);
            let room = scratch.len() - kept;
            let got = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => return Ok(ControlFlow::Break(())),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(ControlFlow::Continue(()));
                }
                Err(error) if is_hung_up(&error) => {
                    return Ok(ControlFlow::Break(()));
                }
                Err(error) => return Err(error.into()),
            };
            let bytes = &scratch[..kept + got];
            let taken = self.take(bytes, &mut on)?;
            self.partial.clear();
            self.partial.extend_from_slice(&bytes[taken..]);
            // Less than asked for was all there was: epoll reports when there is more.
            if got < room {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    /// Handles all that is complete, and says how many bytes that was.
    fn take(&mut self, bytes: &[u8], on: &mut impl FnMut(Packet<'_>)) -> Result<usize> {
        let mut taken = 0;
        if !self.upgraded {
            let Some(end) = memmem::find(bytes, END_OF_HEAD) else {
                return Ok(0);
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                bail!(
                    "no WebSocket: {}",
                    String::from_utf8_lossy(bytes)
                        .lines()
                        .next()
                        .unwrap_or_default()
                );
            }
            self.upgraded = true;
            taken = end + END_OF_HEAD.len();
        }
        while let Some((frame, length)) = frame::first(&bytes[taken..]) {
            taken += length;
            match frame.opcode {
                frame::PING => self.write(&frame::client(frame::PONG, frame.payload))?,
                frame::CLOSE => bail!(
                    "the server closed a connection: {}",
                    String::from_utf8_lossy(frame.payload)
                ),
                _ => match packet(frame.payload) {
                    Packet::Open => self.write(&frame::client_text(&self.connect_packet))?,
                    Packet::Ping => self.write(&frame::client_text("3"))?,
                    Packet::Rejected(why) => {
                        bail!(
                            "the server rejected the connection: {}",
                            String::from_utf8_lossy(why)
                        )
                    }
                    packet => on(packet),
                },
            }
        }
        Ok(taken)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if is_hung_up(&error) => bail!("the server hung up on a connection"),
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

fn upgrade(server: SocketAddr) -> String {
    format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
