//! Many connections in one thread: epoll, and one buffer for all.

use std::{
    io,
    net::SocketAddr,
    ops::ControlFlow,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    fd::OwnedFd,
    io::Errno,
};

use crate::{
    connection::{Connection, scratch},
    packet::Packet,
};

/// How many ready sockets are served before the schedule is looked at again.
const BATCH: usize = 256;
/// How long to let deliveries gather after all sockets have been looked at: until that has taken so much of the time,
/// within these bounds. Woken for each delivery, this program would cost as much as a server, and the server would pay for
/// waking it, as it would not if its clients were elsewhere. Latencies are this much too long at most.
const MOST_OF_THE_TIME: f64 = 0.7;
const SHORTEST_REST: Duration = Duration::from_micros(250);
const LONGEST_REST: Duration = Duration::from_millis(5);
/// How many connections are in their handshake at once.
const IN_HANDSHAKE: usize = 100;

/// All connections of this process.
pub struct Swarm {
    epoll: OwnedFd,
    ready: Vec<Event>,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    clock: Instant,
    /// Sockets read in this round, and how long that took.
    read: usize,
    busy: Duration,
    rest_until: Instant,
}

impl Swarm {
    /// No connections yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(BATCH),
            connections: Vec::new(),
            scratch: scratch(),
            clock: Instant::now(),
            read: 0,
            busy: Duration::ZERO,
            rest_until: Instant::now(),
        })
    }

    /// Microseconds of the generator's clock.
    pub fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Opens so many connections to one server, as strangers whose packets do not matter yet.
    pub fn open_all(&mut self, server: SocketAddr, count: usize, limit: Duration) -> Result<()> {
        let servers = vec![server; count];
        self.open(&servers, |_| String::new(), limit, |_, _, _| {})
    }

    /// Opens a connection for each of `servers`, with the `auth` for its number, a hundred handshakes at a
    /// time. Packets meanwhile go to `on`. Fails if no connection gets further for `limit`.
    pub fn open(
        &mut self,
        servers: &[SocketAddr],
        auth: impl Fn(usize) -> String,
        limit: Duration,
        mut on: impl FnMut(usize, &Packet<'_>, u64),
    ) -> Result<()> {
        let (mut connected, mut begun, mut last) = (0, 0, Instant::now());
        while connected < servers.len() {
            while begun < servers.len() && begun - connected < IN_HANDSHAKE {
                let number = self.connections.len();
                let connection = Connection::open(servers[begun], &auth(begun))?;
                let data = EventData::new_u64(number as u64);
                epoll::add(
                    &self.epoll,
                    &connection,
                    data,
                    EventFlags::IN | EventFlags::ET,
                )?;
                self.connections.push(connection);
                begun += 1;
            }
            let before = connected;
            self.turn(Duration::from_millis(10), |number, packet, now| {
                connected += usize::from(matches!(packet, Packet::Connected(_)));
                on(number, packet, now);
            })?;
            if connected > before {
                last = Instant::now();
            } else if last.elapsed() > limit {
                bail!(
                    "{connected} of {} connected, and no more for {limit:?}",
                    servers.len()
                );
            }
        }
        Ok(())
    }

    /// Cuts all connections but the first `keep`.
    pub fn cut(&mut self, keep: usize) {
        self.connections.truncate(keep);
    }

    /// Emits an event over one connection; see [`Connection::emit`].
    pub fn emit(&mut self, number: usize, ack: u64, event: &str) -> Result<()> {
        match self.connections.get_mut(number) {
            Some(connection) => connection.emit(ack, event),
            None => bail!("connection {number} is gone"),
        }
    }

    /// Waits up to `timeout` (or the shortest rest) and reads what has come, at most a batch of sockets, unless it rests:
    /// `on` gets the socket's number, the packet, and the time. Fails when a server hangs up: none should.
    pub fn turn(
        &mut self,
        timeout: Duration,
        mut on: impl FnMut(usize, &Packet<'_>, u64),
    ) -> Result<()> {
        let rest = self.rest_until.saturating_duration_since(Instant::now());
        let patience = timeout.max(SHORTEST_REST);
        sleep(rest.min(patience));
        if rest > patience {
            return Ok(());
        }
        let timeout = Timespec::try_from(timeout)?;
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let began = Instant::now();
        for event in &self.ready {
            let number = usize::try_from(event.data.u64())?;
            let Some(connection) = self.connections.get_mut(number) else {
                continue;
            };
            // One clock reading for all that a read brings.
            let now = u64::try_from(self.clock.elapsed().as_micros())?;
            if let ControlFlow::Break(()) =
                connection.read(&mut self.scratch, |packet| on(number, &packet, now))?
            {
                bail!("the server hung up on connection {number}");
            }
        }
        self.rest(began.elapsed());
        Ok(())
    }

    /// After a batch that took so long: is the round over?
    fn rest(&mut self, took: Duration) {
        self.busy += took;
        self.read += self.ready.len();
        if self.ready.len() < BATCH || self.read >= self.connections.len() {
            let due = self.rest_until + self.busy.div_f64(MOST_OF_THE_TIME);
            let now = Instant::now();
            self.rest_until = due.clamp(now + SHORTEST_REST, now + LONGEST_REST);
            (self.read, self.busy) = (0, Duration::ZERO);
        }
    }

    /// Turns until nothing has come for `quiet`; whether that was so within `limit`.
    pub fn settle(&mut self, quiet: Duration, limit: Duration) -> Result<bool> {
        let (begun, mut last) = (Instant::now(), Instant::now());
        while last.elapsed() < quiet {
            if begun.elapsed() > limit {
                return Ok(false);
            }
            self.turn(quiet / 4, |_, _, _| last = Instant::now())?;
        }
        Ok(true)
    }
}
