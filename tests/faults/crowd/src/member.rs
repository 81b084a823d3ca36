//! One member: connects, goes on where it was, and comes back when it is cut off.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use parking_lot::RwLock;
use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::tally::Tally;

/// The waits of `socket.io-client` between tries, as the documentation's snippet sets them.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long one try may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// What one who stalls lets the kernel keep for it.
const SMALL_BUFFER: usize = 16 * 1024;

/// What all members share.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) servers: RwLock<Vec<SocketAddr>>,
    pub(crate) tally: Tally,
    pub(crate) stalled: watch::Receiver<bool>,
}

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Reads,
    Stalls,
}

#[derive(Debug, Default)]
struct Place {
    epoch: Option<String>,
    offset: Option<u64>,
}

type Socket = WebSocketStream<TcpStream>;

/// Stays in the room for ever.
pub(crate) async fn stay(crowd: Arc<Crowd>, number: usize, role: Role) {
    let mut place = Place::default();
    let mut wait = FIRST_WAIT;
    loop {
        let server = crowd.servers.read().choose(&mut rand::rng()).copied();
        if let Some(server) = server
            && let Ok(Ok(socket)) = timeout(
                CONNECT_TIMEOUT,
                connect(server, &format!("the secret of m{number}"), &place, role),
            )
            .await
        {
            wait = FIRST_WAIT;
            crowd.tally.connected(number, role);
            // However it ends, it comes back.
            let _ = read(&crowd, socket, number, role, &mut place).await;
            crowd.tally.closed(number);
        }
        let jitter = rand::rng().random_range(0.5..1.5);
        sleep(wait.mul_f64(jitter)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn connect(
    server: SocketAddr,
    token: &str,
    place: &Place,
    role: Role,
) -> anyhow::Result<Socket> {
    let socket = TcpSocket::new_v4()?;
    if role == Role::Stalls {
        SockRef::from(&socket).set_recv_buffer_size(SMALL_BUFFER)?;
    }
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{server}/socket.io/?EIO=4&transport=websocket");
    let config = WebSocketConfig::default().read_buffer_size(SMALL_BUFFER);
    let (mut socket, _) = client_async_with_config(url, stream, Some(config)).await?;
    let mut auth = json!({ "token": token });
    if let (Some(epoch), Some(offset)) = (&place.epoch, place.offset) {
        auth["epoch"] = epoch.as_str().into();
        auth["offset"] = offset.into();
    }
    socket.send(Message::text(format!("40{auth}"))).await?;
    Ok(socket)
}

async fn read(
    crowd: &Crowd,
    mut socket: Socket,
    number: usize,
    role: Role,
    place: &mut Place,
) -> anyhow::Result<()> {
    let mut stalled = crowd.stalled.clone();
    loop {
        if role == Role::Stalls {
            stalled.wait_for(|stalled| !stalled).await?;
        }
        let message = socket.next().await.context("closed")??;
        let Message::Text(text) = message else {
            continue;
        };
        match text.as_str() {
            "2" => socket.send(Message::text("3")).await?,
            packet => {
                for shown in shown(packet, place)? {
                    place.offset = Some(shown.offset);
                    if let Some(said) = shown.said {
                        crowd.tally.shown(number, said, shown.latency()?);
                    }
                }
            }
        }
    }
}

/// A message as a member was shown it.
struct Shown {
    /// The number said, if it was the one who talks.
    said: Option<u64>,
    offset: u64,
    /// When it was sent, in milliseconds since the Unix epoch, if it came live.
    at: Option<u64>,
}

impl Shown {
    fn new(text: &Value, about: &Value, live: bool) -> anyhow::Result<Self> {
        let said = |text: &str| text.split('-').next()?.parse().ok();
        Ok(Self {
            said: text.as_str().and_then(said),
            offset: about["offset"].as_u64().context("an offset")?,
            at: about["at"].as_u64().filter(|_| live),
        })
    }

    /// Milliseconds it took.
    fn latency(&self) -> anyhow::Result<Option<u32>> {
        let Some(at) = self.at else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok(Some(u32::try_from(now.saturating_sub(at.into()))?))
    }
}

/// The messages in a packet.
fn shown(packet: &str, place: &mut Place) -> anyhow::Result<Vec<Shown>> {
    if packet.starts_with(r#"42["message""#) {
        let packet: Value = serde_json::from_str(&packet[2..])?;
        return Ok(vec![Shown::new(&packet[1], &packet[2], true)?]);
    }
    if packet.starts_with(r#"42["history""#) {
        let packet: Value = serde_json::from_str(&packet[2..])?;
        let page = &packet[1];
        if place.offset.is_some() && page["recovered"] != json!(true) {
            bail!("not recovered: {page}");
        }
        place.epoch = page["epoch"].as_str().map(str::to_owned);
        let messages = page["messages"].as_array().context("messages")?;
        let messages = messages.iter();
        return messages
            .map(|message| Shown::new(&message["text"], message, false))
            .collect();
    }
    Ok(Vec::new())
}

/// Says 1, 2, 3... on one connection that must hold.
pub(crate) async fn talk(crowd: Arc<Crowd>, server: SocketAddr, period: Duration, bytes: usize) {
    if let Err(error) = try_to_talk(&crowd, server, period, bytes).await {
        eprintln!("papo-crowd: the one who talks was cut off: {error:#}");
        std::process::exit(1);
    }
}

async fn try_to_talk(
    crowd: &Crowd,
    server: SocketAddr,
    period: Duration,
    bytes: usize,
) -> anyhow::Result<()> {
    let socket = connect(
        server,
        "the secret of the talker",
        &Place::default(),
        Role::Reads,
    )
    .await?;
    let (mut write, mut read) = socket.split();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0_u64;
    let mut joined = false;
    loop {
        tokio::select! {
            _ = ticks.tick(), if joined => {
                number += 1;
                let text = format!("{:-<bytes$}", format!("{number}-"));
                write.send(Message::text(format!(r#"42{number}["message","{text}"]"#))).await?;
            }
            message = read.next() => {
                let Message::Text(text) = message.context("closed")?? else { continue };
                if text.as_str() == "2" {
                    write.send(Message::text("3")).await?;
                } else if text.starts_with(r#"42["history""#) {
                    joined = true;
                } else if let Some(answer) = text.strip_prefix("43") {
                    let (said, answer) = answer.split_at(answer.find('[').context("an answer")?);
                    anyhow::ensure!(answer.contains(r#""ok":true"#), "rejected: {answer}");
                    crowd.tally.said.fetch_max(said.parse()?, Ordering::SeqCst);
                }
            }
        }
    }
}
