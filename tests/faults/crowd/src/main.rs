//! Thousands of members of a room in one process, who count what they are shown.
//!
//! One of them talks, in numbers: 1, 2, 3... on one connection, so that everybody must be shown every number once and in
//! turn. Commands come on standard input, a line each: `stall` and `read` make those who can stall stop and go on reading,
//! `servers A,B` says where to connect from now on, `report` prints what was counted since the last report as JSON.

mod member;
mod tally;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Parser;
use parking_lot::RwLock;
use tokio::{
    io::{AsyncBufReadExt, BufReader, stdin},
    sync::watch,
};

use member::{Crowd, Role};
use tally::Tally;

/// Thousands of members of a room in one process.
#[derive(Parser)]
struct Arguments {
    /// Where to connect, separated by commas; each member takes one at random
    #[arg(long, value_delimiter = ',', required = true)]
    servers: Vec<SocketAddr>,
    /// Members
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// How many of them can stall
    #[arg(long, default_value_t = 0)]
    stalling: usize,
    /// Messages a second of the one who talks
    #[arg(long, default_value_t = 20)]
    rate: u32,
    /// Length of a message, in bytes
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// Where the one who talks is connected; it never moves
    #[arg(long)]
    talker: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (stall, stalled) = watch::channel(false);
    let crowd = Arc::new(Crowd {
        servers: RwLock::new(arguments.servers),
        tally: Tally::default(),
        stalled,
    });
    let period = Duration::from_secs(1) / arguments.rate.max(1);
    tokio::spawn(member::talk(
        crowd.clone(),
        arguments.talker,
        period,
        arguments.bytes,
    ));
    for number in 0..arguments.members {
        let role = if number < arguments.stalling {
            Role::Stalls
        } else {
            Role::Reads
        };
        tokio::spawn(member::stay(crowd.clone(), number, role));
    }
    let mut commands = BufReader::new(stdin()).lines();
    while let Some(line) = commands.next_line().await.context("standard input")? {
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("stall", _) => drop(stall.send_replace(true)),
            ("read", _) => drop(stall.send_replace(false)),
            ("servers", list) => {
                let servers: Result<Vec<SocketAddr>, _> = list.split(',').map(str::parse).collect();
                *crowd.servers.write() = servers.with_context(|| format!("no servers: {list}"))?;
            }
            ("report", _) => println!("{}", serde_json::to_string(&crowd.tally.report())?),
            (other, _) => anyhow::bail!("no such command: {other}"),
        }
    }
    Ok(())
}
