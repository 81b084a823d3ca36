//! Many people whose tokens expire within a minute: each gets a new one on its connection, while messages go on.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{
    packet::{Packet, field},
    swarm::Swarm,
    tokens::Tokens,
};

/// All tokens expire within so long.
const WITHIN: Duration = Duration::from_mins(1);
/// How long the first token lasts once all could have connected.
const FIRST: Duration = Duration::from_secs(30);
/// How long a server keeps a connection after its token has expired, and some more.
const GRACE: Duration = Duration::from_secs(40);
/// How long the connections may take.
const LIMIT: Duration = Duration::from_mins(1);
/// How often a message is sent.
const PERIOD: Duration = Duration::from_millis(500);
/// Connections that a server lets join in a second, or fewer.
const JOINS: usize = 500;
/// The number of the acknowledgement of a new token.
const TOKEN: u64 = 1 << 40;

/// What one socket has got.
#[derive(Clone, Copy, Default)]
struct Got {
    messages: u64,
    /// Offset of the next message, once there was one.
    next: Option<u64>,
    gaps: u64,
    notices: u32,
    renewed: bool,
}

/// Connects, refreshes every token when the server says that it expires, and says what was lost. Fails if the server closes a connection.
pub fn refresh(server: SocketAddr, sockets: usize, secret: &Path) -> Result<Value> {
    let tokens = Tokens::read(secret)?;
    let joining = Duration::from_secs((sockets / JOINS) as u64) + Duration::from_secs(5);
    let mut swarm = Swarm::new()?;
    let lasts = |number: usize| joining + FIRST + WITHIN.mul_f64(number as f64 / sockets as f64);
    let auth = |number: usize| tokens.auth(number, lasts(number)).unwrap_or_default();
    let mut got = vec![Got::default(); sockets];
    let mut expiring = Vec::new();
    let began = swarm.now();
    swarm.open(&vec![server; sockets], auth, LIMIT, |number, packet, _| {
        take(&mut got[number], number, packet, &mut expiring);
    })?;
    let end = began + micros(joining + FIRST + WITHIN + GRACE);
    let (mut sent, mut due) = (0, swarm.now());
    while swarm.now() < end {
        if swarm.now() >= due {
            swarm.emit(0, sent, &format!(r#"["message","message {sent}"]"#))?;
            sent += 1;
            due += micros(PERIOD);
        }
        for number in expiring.split_off(0) {
            let token = tokens.sign(number, Duration::from_hours(1))?;
            swarm.emit(number, TOKEN, &json!(["token", token]).to_string())?;
        }
        swarm.turn(Duration::from_millis(5), |number, packet, _| {
            take(&mut got[number], number, packet, &mut expiring);
        })?;
    }
    if !swarm_has_all(&mut swarm, &mut got, &mut expiring, sent)? {
        bail!("not everybody has all messages");
    }
    let count = |counts: &dyn Fn(&Got) -> u64| got.iter().map(counts).sum::<u64>();
    Ok(json!({
        "sockets": sockets, "messages": sent, "deliveries": count(&|got| got.messages), "lost": count(&|got| got.gaps),
        "notices": count(&|got| got.notices.into()), "renewed": count(&|got| got.renewed.into()), "disconnects": 0,
    }))
}

/// Waits until every socket has every message.
fn swarm_has_all(
    swarm: &mut Swarm,
    got: &mut [Got],
    expiring: &mut Vec<usize>,
    sent: u64,
) -> Result<bool> {
    let end = swarm.now() + micros(LIMIT);
    while got.iter().any(|got| got.messages < sent) {
        if swarm.now() > end {
            return Ok(false);
        }
        swarm.turn(Duration::from_millis(5), |number, packet, _| {
            take(&mut got[number], number, packet, expiring);
        })?;
    }
    Ok(true)
}

fn take(got: &mut Got, number: usize, packet: &Packet<'_>, expiring: &mut Vec<usize>) {
    match packet {
        Packet::Event(event) if event.starts_with(br#"["message""#) => {
            let offset = field(event, "offset").and_then(|offset| offset.parse::<u64>().ok());
            let Some(offset) = offset else { return };
            got.messages += 1;
            got.gaps += offset.abs_diff(got.next.unwrap_or(offset));
            got.next = Some(offset + 1);
        }
        Packet::Event(event) if event.starts_with(br#"["token_expiring""#) => {
            got.notices += 1;
            expiring.push(number);
        }
        Packet::Ack(TOKEN) => got.renewed = true,
        _ => {}
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
