//! Everybody is cut off, misses messages, comes back at once, and is to get what was missed.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    packet::{Packet, field},
    process,
    swarm::Swarm,
    text::{Stamp, stamps, text},
};

const LIMIT: Duration = Duration::from_secs(30);
/// Nothing more comes after so long a silence.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(15);
/// How many messages wait for their acknowledgement at once.
const IN_FLIGHT: u64 = 32;
const BEFORE: u64 = 1;
const MISSED: u64 = 2;

/// How a client says where it left off.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Recovery {
    /// Papo: the epoch and the offset of the last message.
    Offset,
    /// Socket.IO's connection state recovery: the private session id, and the id of the last packet.
    Session,
}

/// Where the sockets left off.
#[derive(Default)]
struct Place {
    epoch: String,
    offset: String,
    sessions: Vec<String>,
}

impl Place {
    fn note(&mut self, number: usize, packet: &Packet<'_>) {
        match packet {
            Packet::Connected(session) => {
                if self.sessions.len() <= number {
                    self.sessions.resize(number + 1, String::new());
                }
                field(session, "pid")
                    .unwrap_or_default()
                    .clone_into(&mut self.sessions[number]);
            }
            Packet::Event(event) if event.starts_with(br#"["history""#) => {
                field(event, "epoch")
                    .unwrap_or_default()
                    .clone_into(&mut self.epoch);
            }
            _ => {}
        }
    }

    /// From the last message before the cut, which all sockets have seen.
    fn note_last(&mut self, recovery: Recovery, event: &[u8]) {
        let offset = match recovery {
            Recovery::Offset => field(event, "offset"),
            // The last argument of every event, a string.
            Recovery::Session => str::from_utf8(event)
                .ok()
                .and_then(|event| event.rsplit('"').nth(1)),
        };
        offset.unwrap_or_default().clone_into(&mut self.offset);
    }

    fn auth(&self, recovery: Recovery, number: usize) -> String {
        match recovery {
            Recovery::Offset => {
                json!({ "epoch": self.epoch, "offset": self.offset.parse::<u64>().ok() })
                    .to_string()
            }
            Recovery::Session => {
                json!({ "pid": self.sessions[number], "offset": self.offset }).to_string()
            }
        }
    }
}

/// Cuts `sockets` connections, sends `messages`, connects them again, and reports how long until each has them all.
pub fn reconnect(
    server: SocketAddr,
    sockets: usize,
    messages: u64,
    recovery: Recovery,
    pids: &[u32],
) -> Result<Value> {
    let mut swarm = Swarm::new()?;
    let mut place = Place::default();
    // Connection 0 stays, and sends.
    let servers = vec![server; sockets + 1];
    swarm.open(
        &servers,
        |_| String::new(),
        LIMIT,
        |number, packet, _| place.note(number, packet),
    )?;
    let last = say(&mut swarm, BEFORE, 1)?;
    swarm.settle(Duration::from_millis(500), LIMIT)?;
    place.note_last(recovery, &last);
    swarm.cut(1);
    say(&mut swarm, MISSED, messages)?;

    let mut back = Back::new(sockets, messages)?;
    let (cpu, own, began) = (
        process::cpu_time(pids)?,
        process::own_cpu_time()?,
        swarm.now(),
    );
    swarm.open(
        &servers[1..],
        |index| place.auth(recovery, index + 1),
        LIMIT,
        |number, packet, now| back.note(number, packet, now - began),
    )?;
    let connected = swarm.now() - began;
    while back.complete < sockets && back.last.elapsed() < GIVEN_UP_AFTER {
        swarm.turn(Duration::from_millis(50), |number, packet, now| {
            back.note(number, packet, now - began);
        })?;
    }
    let cpu = process::cpu_time(pids)?.saturating_sub(cpu);
    let own = process::own_cpu_time()?.saturating_sub(own);
    let elapsed = swarm.now() - began;
    let seconds = |quantile| back.times.value_at_quantile(quantile) as f64 / 1e6;
    Ok(json!({
        "sockets": sockets, "messages": messages, "complete": back.complete, "connected_s": connected as f64 / 1e6,
        "p50_s": seconds(0.5), "p99_s": seconds(0.99), "all_s": seconds(1.0),
        "missing": back.got.iter().skip(1).map(|got| messages.saturating_sub(*got)).sum::<u64>(),
        "surplus": back.got.iter().map(|got| got.saturating_sub(messages)).sum::<u64>(),
        "server_s": cpu.as_secs_f64(), "generator_share": own.as_secs_f64() * 1e6 / elapsed as f64,
    }))
}

/// Sends messages over connection 0 until all are acknowledged and have come back; the last event that did.
fn say(swarm: &mut Swarm, run: u64, messages: u64) -> Result<Vec<u8>> {
    let (mut sent, mut acknowledged, mut seen) = (0, 0, 0);
    let (mut last, mut progress) = (Vec::new(), Instant::now());
    while acknowledged < messages || seen < messages {
        while sent < messages && sent - acknowledged < IN_FLIGHT {
            let event = format!(
                r#"["message","{}"]"#,
                text(Stamp {
                    run,
                    sequence: sent,
                    due: 0
                })
            );
            swarm.emit(0, sent, &event)?;
            sent += 1;
        }
        swarm.turn(
            Duration::from_millis(50),
            |number, packet, _| match packet {
                Packet::Ack(_) => {
                    acknowledged += 1;
                    progress = Instant::now();
                }
                Packet::Event(event)
                    if number == 0 && stamps(event).any(|stamp| stamp.run == run) =>
                {
                    seen += 1;
                    last = event.to_vec();
                }
                _ => {}
            },
        )?;
        if progress.elapsed() > LIMIT {
            bail!("{acknowledged} of {messages} messages acknowledged, {seen} seen");
        }
    }
    Ok(last)
}

/// Who has what of the missed messages.
struct Back {
    messages: u64,
    /// By the connection's number; 0 was never away.
    got: Vec<u64>,
    complete: usize,
    /// Microseconds from the first reconnection until a socket had them all.
    times: Histogram<u64>,
    last: Instant,
}

impl Back {
    fn new(sockets: usize, messages: u64) -> Result<Self> {
        let times = Histogram::new_with_bounds(1, 600_000_000, 3).context("bounds")?;
        Ok(Self {
            messages,
            got: vec![0; sockets + 1],
            complete: 0,
            times,
            last: Instant::now(),
        })
    }

    fn note(&mut self, number: usize, packet: &Packet<'_>, now: u64) {
        let Packet::Event(event) = packet else { return };
        let came = stamps(event).filter(|stamp| stamp.run == MISSED).count() as u64;
        if number == 0 || came == 0 {
            return;
        }
        let before = self.got[number];
        self.got[number] += came;
        self.last = Instant::now();
        if before < self.messages && self.got[number] >= self.messages {
            self.complete += 1;
            self.times.saturating_record(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequences: std::ops::Range<u64>) -> String {
        let texts: Vec<_> = sequences
            .map(|sequence| {
                text(Stamp {
                    run: MISSED,
                    sequence,
                    due: 0,
                })
            })
            .collect();
        json!(["history", texts]).to_string()
    }

    #[test]
    fn a_socket_is_reconnected_when_it_has_every_missed_message() {
        let mut back = Back::new(2, 3).expect("is there");
        back.note(1, &Packet::Event(event(0..2).as_bytes()), 10);
        back.note(2, &Packet::Event(event(0..3).as_bytes()), 20);
        assert_eq!(back.complete, 1);
        back.note(1, &Packet::Event(event(2..3).as_bytes()), 30);
        assert_eq!((back.complete, back.times.max()), (2, 30));
    }

    #[test]
    fn resume_auth_follows_the_protocol_of_each_server() {
        let mut place = Place::default();
        place.note(1, &Packet::Connected(br#"{"sid":"a","pid":"p1"}"#));
        place.note(
            1,
            &Packet::Event(br#"["history",{"epoch":"e1","messages":[]}]"#),
        );
        place.note_last(
            Recovery::Offset,
            br#"["message","x",{"id":"i","offset":7,"at":1}]"#,
        );
        assert_eq!(
            place.auth(Recovery::Offset, 1),
            r#"{"epoch":"e1","offset":7}"#
        );
        place.note_last(Recovery::Session, br#"["message","x",{"id":"i"},"zz9"]"#);
        assert_eq!(
            place.auth(Recovery::Session, 1),
            r#"{"offset":"zz9","pid":"p1"}"#
        );
    }
}
