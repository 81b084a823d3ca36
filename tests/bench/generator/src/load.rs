//! Messages at a fixed rate, whatever the server does (open loop), and the account of what became of them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{
    packet::Packet,
    process,
    swarm::Swarm,
    tally::{Expected, Tally},
    text::{Stamp, stamp, text},
};

/// Acknowledgement numbers are unlike in each run, so that a late one is not taken for another run's.
const ACKS_PER_RUN: u64 = 10_000_000;
/// A run whose deliveries stop coming for so long has lost the rest.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(2);
/// A run that is behind by so much has failed whatever comes later.
const LIMIT_AFTER_SCHEDULE: Duration = Duration::from_secs(10);
/// Between runs.
const QUIET: Duration = Duration::from_millis(200);

/// The sockets of a load.
pub struct Members {
    /// The rooms, each with the servers that serve it.
    pub rooms: Vec<Vec<SocketAddr>>,
    /// How many sockets, over all rooms; dealt out to the rooms in turn.
    pub sockets: usize,
    /// How many sockets of each room send, in turn.
    pub senders: usize,
    /// The processes of the servers.
    pub servers: Vec<u32>,
    /// The processes of the broker.
    pub brokers: Vec<u32>,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Its number, unlike any other's.
    pub number: u64,
    /// Messages per second, over all rooms.
    pub rate: f64,
    /// How long to send.
    pub seconds: f64,
}

impl Members {
    /// Where each socket connects to.
    pub fn servers(&self) -> Vec<SocketAddr> {
        (0..self.sockets)
            .map(|number| {
                let servers = &self.rooms[number % self.rooms.len()];
                servers[number / self.rooms.len() % servers.len()]
            })
            .collect()
    }

    /// Which socket sends a message.
    fn sender(&self, sequence: u64) -> Result<usize> {
        let (sequence, rooms) = (usize::try_from(sequence)?, self.rooms.len());
        Ok(sequence % rooms + sequence / rooms % self.senders * rooms)
    }

    /// Sends by the schedule, waits for what is on its way, and reports.
    pub fn run(&self, swarm: &mut Swarm, run: Run) -> Result<Value> {
        if !swarm.settle(QUIET, Duration::from_secs(30))? {
            bail!("the server never came to rest");
        }
        let messages = (run.rate * run.seconds).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let messages = messages as u64;
        let mut tally = Tally::new(Expected {
            messages,
            sockets: (self.sockets / self.rooms.len()) as u64,
        })?;
        let (server, broker) = (
            process::cpu_time(&self.servers)?,
            process::cpu_time(&self.brokers)?,
        );
        let (own, began) = (process::own_cpu_time()?, Instant::now());
        self.follow_schedule(swarm, run, messages, &mut tally)?;
        let elapsed = began.elapsed();
        let own = process::own_cpu_time()?.saturating_sub(own);
        let server = process::cpu_time(&self.servers)?.saturating_sub(server);
        let broker = process::cpu_time(&self.brokers)?.saturating_sub(broker);
        let per = |time: Duration, count: u64| time.as_secs_f64() * 1e6 / count.max(1) as f64;
        let mut report = tally.report();
        report["rate"] = json!(run.rate);
        report["elapsed_s"] = json!(elapsed.as_secs_f64());
        report["deliveries_per_s"] = json!(tally.deliveries() as f64 / elapsed.as_secs_f64());
        report["server_us_per_delivery"] = json!(per(server, tally.deliveries()));
        report["server_share"] = json!(server.as_secs_f64() / elapsed.as_secs_f64());
        report["broker_us_per_message"] = json!(per(broker, messages));
        report["broker_s"] = json!(broker.as_secs_f64());
        report["generator_share"] = json!(own.as_secs_f64() / elapsed.as_secs_f64());
        Ok(report)
    }

    fn follow_schedule(
        &self,
        swarm: &mut Swarm,
        run: Run,
        messages: u64,
        tally: &mut Tally,
    ) -> Result<()> {
        let start = swarm.now();
        let due = |sequence: u64| start + micros(sequence as f64 / run.rate);
        let (mut next, mut last) = (0, Instant::now());
        let end = Duration::from_secs_f64(run.seconds) + LIMIT_AFTER_SCHEDULE;
        let began = Instant::now();
        while !(next == messages
            && (tally.is_complete() || last.elapsed() > GIVEN_UP_AFTER || began.elapsed() > end))
        {
            while next < messages && due(next) <= swarm.now() {
                let stamp = Stamp {
                    run: run.number,
                    sequence: next,
                    due: due(next),
                };
                let event = format!(r#"["message","{}"]"#, text(stamp));
                swarm.emit(self.sender(next)?, run.number * ACKS_PER_RUN + next, &event)?;
                next += 1;
            }
            let until = if next < messages {
                due(next).saturating_sub(swarm.now())
            } else {
                50_000
            };
            let before = tally.progress();
            swarm.turn(
                Duration::from_micros(until),
                |_, packet, now| match packet {
                    Packet::Event(event) => {
                        if let Some(stamp) = stamp(event).filter(|stamp| stamp.run == run.number) {
                            tally.delivered(stamp.sequence, stamp.due, now);
                        }
                    }
                    Packet::Ack(number) if number / ACKS_PER_RUN == run.number => {
                        let sequence = number % ACKS_PER_RUN;
                        tally.acknowledged(sequence, due(sequence), now);
                    }
                    _ => {}
                },
            )?;
            if tally.progress() > before || next < messages {
                last = Instant::now();
            }
        }
        Ok(())
    }
}

fn micros(seconds: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number"
    )]
    let micros = (seconds * 1e6) as u64;
    micros
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let rooms = vec![
            vec![address(10), address(11)],
            vec![address(20), address(21)],
        ];
        Members {
            rooms,
            sockets: 8,
            senders: 2,
            servers: Vec::new(),
            brokers: Vec::new(),
        }
    }

    #[test]
    fn sockets_are_spread_over_rooms_and_servers() {
        let ports: Vec<_> = members().servers().iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [10, 20, 11, 21, 10, 20, 11, 21]);
    }

    #[test]
    fn messages_are_spread_over_rooms_and_senders() {
        let senders: Vec<_> = (0..6)
            .map(|sequence| members().sender(sequence).expect("is there"))
            .collect();
        assert_eq!(senders, [0, 1, 2, 3, 0, 1]);
    }
}
