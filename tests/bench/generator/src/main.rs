//! `papo-bench`: loads a Socket.IO server and prints what it saw, one JSON object a line. `tests/bench/run` drives it.

use std::{
    io::{self, BufRead, Write},
    net::SocketAddr,
    path::PathBuf,
    process,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use papo_bench::{
    idle,
    load::{Members, Run},
    reconnect::{self, Recovery},
    refresh, steps,
    swarm::Swarm,
};
use serde_json::{Value, json};

#[derive(Parser)]
#[command(version, about = "Loads a Socket.IO server")]
struct Arguments {
    /// Process ids of the server, for its CPU time and memory
    #[arg(long, value_delimiter = ',', global = true)]
    server_pids: Vec<u32>,

    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Connects, then makes a run for each line `RATE SECONDS` (messages per second over all rooms) it reads
    Load {
        /// The servers of a room, by commas; repeat for more rooms
        #[arg(long, required = true)]
        room: Vec<String>,
        #[arg(long, default_value_t = 1000)]
        sockets: usize,
        /// How many sockets of each room send
        #[arg(long, default_value_t = 10)]
        senders: usize,
        /// Process ids of the broker, for its CPU time
        #[arg(long, value_delimiter = ',')]
        broker_pids: Vec<u32>,
    },
    /// Connects, and measures the memory per connection
    Idle {
        server: SocketAddr,
        #[arg(long, default_value_t = 10_000)]
        sockets: usize,
        /// File with the secret of the issuer: people who are signed in instead of guests
        #[arg(long)]
        secret: Option<PathBuf>,
    },
    /// Connects people whose tokens expire within a minute, and refreshes them in place while messages go on
    Refresh {
        server: SocketAddr,
        #[arg(long, default_value_t = 10_000)]
        sockets: usize,
        /// File with the secret of the issuer
        #[arg(long)]
        secret: PathBuf,
    },
    /// Connects, is cut off, misses messages, reconnects, and waits for them
    Reconnect {
        server: SocketAddr,
        #[arg(long, default_value_t = 5000)]
        sockets: usize,
        #[arg(long, default_value_t = 1000)]
        messages: u64,
        #[arg(long, value_enum, default_value_t = Recovery::Offset)]
        recovery: Recovery,
    },
    /// Connects, and sends one message after the other has reached everybody
    Steps {
        server: SocketAddr,
        #[arg(long, default_value_t = 50)]
        sockets: usize,
        #[arg(long, default_value_t = 100)]
        messages: u64,
    },
}

fn main() -> Result<()> {
    let Arguments {
        server_pids: servers,
        mode,
    } = Arguments::parse();
    match mode {
        Mode::Steps {
            server,
            sockets,
            messages,
        } => print(&steps::steps(server, sockets, messages)?),
        Mode::Load {
            room,
            sockets,
            senders,
            broker_pids: brokers,
        } => {
            let rooms = room
                .iter()
                .map(|servers| addresses(servers))
                .collect::<Result<_>>()?;
            load(&Members {
                rooms,
                sockets,
                senders,
                servers,
                brokers,
            })
        }
        Mode::Idle {
            server,
            sockets,
            secret,
        } => print(&idle::idle(server, sockets, secret.as_deref(), &servers)?),
        Mode::Refresh {
            server,
            sockets,
            secret,
        } => print(&refresh::refresh(server, sockets, &secret)?),
        Mode::Reconnect {
            server,
            sockets,
            messages,
            recovery,
        } => print(&reconnect::reconnect(
            server, sockets, messages, recovery, &servers,
        )?),
    }
}

fn load(members: &Members) -> Result<()> {
    let mut swarm = Swarm::new()?;
    swarm.open(
        &members.servers(),
        |_| String::new(),
        Duration::from_secs(30),
        |_, _, _| {},
    )?;
    print(&json!({ "connected": members.sockets, "microseconds": swarm.now() }))?;
    // Unlike those of another process, whose last messages may still be under way.
    let first = u64::from(process::id()) % 10_000 * 1_000;
    for (number, line) in (first..).zip(io::stdin().lock().lines()) {
        let line = line?;
        let (rate, seconds) = line.split_once(' ').context("expected RATE SECONDS")?;
        let run = Run {
            number,
            rate: rate.parse()?,
            seconds: seconds.parse()?,
        };
        print(&members.run(&mut swarm, run)?)?;
    }
    Ok(())
}

fn addresses(servers: &str) -> Result<Vec<SocketAddr>> {
    servers
        .split(',')
        .map(|server| {
            server
                .parse()
                .with_context(|| format!("no address: {server}"))
        })
        .collect()
}

fn print(report: &Value) -> Result<()> {
    println!("{report}");
    Ok(io::stdout().flush()?)
}
