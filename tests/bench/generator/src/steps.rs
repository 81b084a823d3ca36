//! One message at a time: the next is sent when everybody has the last. What a server does for one is then the same each
//! time, so that its instructions can be counted.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::{
    packet::Packet,
    swarm::Swarm,
    text::{Stamp, stamp, text},
};

/// Under valgrind a server takes its time.
const LIMIT: Duration = Duration::from_mins(1);
const RUN: u64 = 1;

/// Sends the messages, each to all sockets, and says how many deliveries that was.
pub fn steps(server: SocketAddr, sockets: usize, messages: u64) -> Result<Value> {
    let mut swarm = Swarm::new()?;
    swarm.open_all(server, sockets, LIMIT)?;
    if !swarm.settle(Duration::from_secs(1), LIMIT)? {
        bail!("the server never came to rest");
    }
    for sequence in 0..messages {
        let stamp = Stamp {
            run: RUN,
            sequence,
            due: swarm.now(),
        };
        swarm.emit(0, sequence, &format!(r#"["message","{}"]"#, text(stamp)))?;
        step(&mut swarm, sequence, sockets)?;
    }
    Ok(json!({ "deliveries": messages * sockets as u64 }))
}

/// Waits until every socket has the message, and its sender the acknowledgement.
fn step(swarm: &mut Swarm, sequence: u64, sockets: usize) -> Result<()> {
    let (mut deliveries, mut acknowledged, began) = (0, false, Instant::now());
    while deliveries < sockets || !acknowledged {
        swarm.turn(Duration::from_millis(50), |_, packet, _| match packet {
            Packet::Event(event) => {
                deliveries +=
                    usize::from(stamp(event).is_some_and(|stamp| stamp.sequence == sequence));
            }
            Packet::Ack(number) => acknowledged |= *number == sequence,
            _ => {}
        })?;
        if began.elapsed() > LIMIT {
            bail!("message {sequence} reached {deliveries} of {sockets} sockets");
        }
    }
    Ok(())
}
