//! Memory per idle connection.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use serde_json::{Value, json};

use crate::{process, swarm::Swarm};

const QUIET: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(30);

/// Opens the connections, waits until nothing more is said, and reports what the servers' memory has grown by.
pub fn idle(server: SocketAddr, sockets: usize, pids: &[u32]) -> Result<Value> {
    let before = process::resident(pids)?;
    let mut swarm = Swarm::new()?;
    swarm.open_all(server, sockets, LIMIT)?;
    let connected = swarm.now();
    let settled = swarm.settle(QUIET, LIMIT)?;
    let after = process::resident(pids)?;
    Ok(json!({
        "sockets": sockets, "settled": settled, "resident_before": before, "resident_after": after,
        "bytes_per_connection": after.saturating_sub(before) as f64 / sockets as f64,
        "connected_s": connected as f64 / 1e6,
    }))
}
