//! Memory per idle connection.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{process, swarm::Swarm, tokens::Tokens};

const QUIET: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(30);

/// Opens the connections, waits until nothing more is said, and reports what the servers' memory has grown by. With a secret they are people who
/// are signed in, each with a token for an hour.
pub fn idle(
    server: SocketAddr,
    sockets: usize,
    secret: Option<&Path>,
    pids: &[u32],
) -> Result<Value> {
    let tokens = secret.map(Tokens::read).transpose()?;
    let auth = |number| {
        let tokens = tokens.as_ref()?;
        tokens.auth(number, Duration::from_hours(1)).ok()
    };
    let before = process::resident(pids)?;
    let mut swarm = Swarm::new()?;
    let servers = vec![server; sockets];
    swarm.open(
        &servers,
        |number| auth(number).unwrap_or_default(),
        LIMIT,
        |_, _, _| {},
    )?;
    let connected = swarm.now();
    let settled = swarm.settle(QUIET, LIMIT)?;
    let after = process::resident(pids)?;
    Ok(json!({
        "sockets": sockets, "settled": settled, "resident_before": before, "resident_after": after,
        "bytes_per_connection": after.saturating_sub(before) as f64 / sockets as f64,
        "connected_s": connected as f64 / 1e6,
    }))
}
