//! Clients that begin with long-polling, in front of two servers whose balancer sends each connection to the next one.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures::SinkExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::{
    fixture::{Server, in_time, until},
    wire::Wire,
};

/// Two servers that share a key, in a file that is removed with them.
struct Pair {
    servers: [Server; 2],
    key: PathBuf,
}

impl Pair {
    async fn start(flags: &[&str]) -> Self {
        let key = key_file();
        let flag = format!("--session-key={}", key.display());
        let shared = [&["--advertise=127.0.0.1", &flag][..], flags].concat();
        let servers = [
            Server::start(&shared, &[]).await,
            Server::start(&shared, &[]).await,
        ];
        Self { servers, key }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.key);
    }
}

fn key_file() -> PathBuf {
    let name = format!("papo-session-key-{:016x}", rand::random::<u64>());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, format!("{:064x}\n", rand::random::<u128>())).expect("written");
    path
}

/// A balancer without sticky sessions: each connection goes to the next server, the first one to the first.
async fn balancer(servers: &[Server]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let targets: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let next = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let target = targets[next.fetch_add(1, Ordering::Relaxed) % targets.len()];
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(target).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    address
}

/// A client that polls, with a connection for each request.
struct Client {
    http: reqwest::Client,
    at: SocketAddr,
    /// The path of the room.
    base: &'static str,
    sid: String,
    /// Everything that it has got.
    seen: String,
}

impl Client {
    async fn open(at: SocketAddr) -> Self {
        Self::open_below(at, "").await
    }

    async fn open_below(at: SocketAddr, base: &'static str) -> Self {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0);
        let mut client = Self {
            http: http.build().expect("a client"),
            at,
            base,
            sid: String::new(),
            seen: String::new(),
        };
        let (status, body) = client.get().await;
        assert_eq!(status, 200, "{body}");
        let open: Value = serde_json::from_str(&body[1..]).expect("an open packet");
        assert_eq!(open["upgrades"], json!(["websocket"]));
        open["sid"]
            .as_str()
            .expect("text")
            .clone_into(&mut client.sid);
        client
    }

    fn url(&self) -> String {
        let session = if self.sid.is_empty() { "" } else { "&sid=" };
        let (at, base, sid) = (self.at, self.base, &self.sid);
        format!("http://{at}{base}/socket.io/?EIO=4&transport=polling{session}{sid}")
    }

    async fn get(&self) -> (u16, String) {
        answer(self.http.get(self.url())).await
    }

    async fn post(&self, body: &str) -> (u16, String) {
        answer(self.http.post(self.url()).body(body.to_owned())).await
    }

    /// Polls until this text has come.
    async fn sees(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let (status, body) = self.get().await;
            assert_eq!(status, 200, "{body}");
            self.seen.push_str(&body);
            if body.split('\u{1e}').any(|packet| packet == "2") {
                self.post("3").await;
            }
        }
    }

    /// Joins the room.
    async fn join(at: SocketAddr) -> Self {
        Self::join_below(at, "").await
    }

    async fn join_below(at: SocketAddr, base: &'static str) -> Self {
        let mut client = Self::open_below(at, base).await;
        let answer = client.post(r#"40{"name":"Ana"}"#).await;
        assert_eq!(answer, (200, "ok".to_owned()));
        client.sees(r#"42["history""#).await;
        assert!(client.seen.starts_with("40{"), "{}", client.seen);
        client
    }

    /// Upgrades at a server.
    async fn upgrade(&self, server: &Server) -> Wire {
        let (at, base, sid) = (server.address, self.base, &self.sid);
        let url = format!("ws://{at}{base}/socket.io/?EIO=4&transport=websocket&sid={sid}");
        let (socket, _) = in_time(Box::pin(connect_async(url)))
            .await
            .expect("upgraded");
        let mut wire = Wire(socket);
        wire.send("2probe").await;
        assert_eq!(wire.receive().await.as_deref(), Some("3probe"));
        wire.send("5").await;
        wire
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = in_time(request.send()).await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

/// The value of a metric, with its labels; 0 if there is none.
async fn metric(server: &Server, name: &str) -> u64 {
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    let value = metrics.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(' ')?;
        value.parse().ok()
    });
    value.unwrap_or_default()
}

fn forwarded(outcome: &str) -> String {
    format!("papo_requests_forwarded_total{{outcome=\"{outcome}\"}}")
}

#[tokio::test]
async fn client_that_polls_joins_through_a_balancer_and_upgrades() {
    let pair = Pair::start(&[]).await;
    let [_, other] = &pair.servers;
    let mut ana = Client::join(balancer(&pair.servers).await).await;
    ana.post(r#"421["message","while it polls"]"#).await;
    ana.sees("while it polls").await;
    ana.sees("431[{").await;
    assert!(metric(other, &forwarded("answered")).await > 0);
    let mut wire = ana.upgrade(other).await;
    let sent = wire.ask(2, &json!(["message", "after the upgrade"])).await;
    assert_eq!(sent["ok"], json!(true));
    assert_eq!(metric(other, &forwarded("upgraded")).await, 1);
    assert_eq!(metric(other, "papo_forwarded_websockets").await, 1);
    let (status, body) = ana.get().await;
    assert_eq!(status, 400, "{body}");
    let sent = wire.ask(3, &json!(["message", "still there"])).await;
    assert_eq!(sent["ok"], json!(true));
    drop(wire);
    until("the end of the session", async || {
        let connections = metric(&pair.servers[0], "papo_connections").await;
        let forwarded = metric(other, "papo_forwarded_websockets").await;
        (connections + forwarded == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn request_of_a_room_below_a_path_is_forwarded_to_its_path() {
    let pair = Pair::start(&["--base-path=/chat/geral"]).await;
    let [own, other] = &pair.servers;
    let mut ana = Client::join_below(own.address, "/chat/geral").await;
    ana.at = other.address;
    ana.post(r#"421["message","by the other server"]"#).await;
    ana.sees("by the other server").await;
    let mut wire = ana.upgrade(other).await;
    let sent = wire.ask(2, &json!(["message", "oi"])).await;
    assert_eq!(sent["ok"], json!(true));
    assert_eq!(metric(other, &forwarded("upgraded")).await, 1);
}

#[tokio::test]
async fn upgrade_at_the_server_of_the_session_is_not_forwarded() {
    let pair = Pair::start(&[]).await;
    let [own, other] = &pair.servers;
    let ana = Client::join(own.address).await;
    let mut wire = ana.upgrade(own).await;
    let sent = wire.ask(1, &json!(["message", "oi"])).await;
    assert_eq!(sent["ok"], json!(true));
    for server in [own, other] {
        assert_eq!(metric(server, &forwarded("upgraded")).await, 0);
    }
}

#[tokio::test]
async fn forged_sids_and_headers_are_rejected() {
    let (pair, stranger) = (Pair::start(&[]).await, Pair::start(&[]).await);
    let [own, other] = &pair.servers;
    let mut client = Client::open(own.address).await;
    let sid = client.sid.clone();
    let last = if sid.ends_with('0') { '1' } else { '0' };
    let changed = format!("{}{last}", &sid[..sid.len() - 1]);
    let foreign = Client::open(stranger.servers[0].address).await.sid;
    client.at = other.address;
    for forged in [changed, foreign, "x".to_owned(), "0".repeat(92)] {
        client.sid = forged;
        let (status, body) = client.get().await;
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("Session ID unknown"), "{body}");
    }
    for outcome in ["answered", "unreachable"] {
        assert_eq!(metric(other, &forwarded(outcome)).await, 0, "{outcome}");
    }
    client.sid = sid;
    let request = client.http.get(client.url());
    let (status, _) = answer(request.header("papo-forwarded", "0".repeat(32))).await;
    assert_eq!(status, 403);
    assert_eq!(metric(other, &forwarded("forged")).await, 1);
}

#[tokio::test]
async fn session_of_a_server_that_has_gone_is_unknown() {
    let mut pair = Pair::start(&[]).await;
    let [own, other] = &mut pair.servers;
    let mut client = Client::join(own.address).await;
    own.child.kill().expect("killed");
    own.child.wait().expect("ended");
    client.at = other.address;
    let (status, body) = client.get().await;
    assert_eq!(status, 400, "{body}");
    assert_eq!(metric(other, &forwarded("unreachable")).await, 1);
    // The client opens another session, as after any error.
    Client::join(other.address).await;
}

#[tokio::test]
async fn draining_server_closes_the_websockets_that_it_forwards_one_after_the_other() {
    let pair = Pair::start(&["--drain-period=5"]).await;
    let [own, other] = &pair.servers;
    let one_has_ended = Arc::new(AtomicBool::new(false));
    let mut members = JoinSet::new();
    for _ in 0..8 {
        let mut wire = Client::join(own.address).await.upgrade(other).await;
        let sent = wire.ask(1, &json!(["message", "oi"])).await;
        assert_eq!(sent["ok"], json!(true));
        let one_has_ended = one_has_ended.clone();
        members.spawn(async move {
            // Answers that came after another member had lost its connection.
            let mut after = 0;
            let mut number = 1;
            loop {
                number += 1;
                let event = Message::text(format!("42{number}[\"message\",\"oi\"]"));
                if wire.0.send(event).await.is_err() {
                    return after;
                }
                let answer = format!("43{number}[");
                loop {
                    let Some(packet) = wire.receive().await else {
                        one_has_ended.store(true, Ordering::SeqCst);
                        return after;
                    };
                    if packet.starts_with(&answer) {
                        break;
                    }
                }
                after += u32::from(one_has_ended.load(Ordering::SeqCst));
            }
        });
    }
    other.terminate();
    let answered = members.join_all().await;
    assert!(answered.iter().any(|after| *after > 0), "{answered:?}");
}

#[tokio::test]
async fn polling_client_that_does_not_join_is_closed() {
    let server = Server::start(&[], &[]).await;
    let client = Client::open(server.address).await;
    let (status, body) = client.get().await;
    assert_eq!((status, body.as_str()), (200, "1"));
    let bound = "papo_bounds_exceeded_total{bound=\"connect_time\"}";
    assert_eq!(metric(&server, bound).await, 1);
}

#[tokio::test]
async fn forwarded_websocket_ends_with_its_session() {
    let pair = Pair::start(&[]).await;
    let [own, other] = &pair.servers;
    let mut wire = Client::join(own.address).await.upgrade(other).await;
    assert_eq!(metric(other, "papo_forwarded_websockets").await, 1);
    // The client leaves, and keeps its connection.
    wire.send("1").await;
    until("the WebSocket is no longer forwarded", async || {
        (metric(other, "papo_forwarded_websockets").await == 0).then_some(())
    })
    .await;
    drop(wire);
}

#[tokio::test]
async fn answer_of_a_program_that_has_the_address_of_a_server_is_not_believed() {
    let mut pair = Pair::start(&[]).await;
    let [own, other] = &mut pair.servers;
    let mut client = Client::join(own.address).await;
    let address = own.address;
    own.child.kill().expect("killed");
    own.child.wait().expect("ended");
    let stranger = TcpListener::bind(address).await.expect("its port");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = stranger.accept().await {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";
            let _ = stream.write_all(answer).await;
        }
    });
    client.at = other.address;
    let (status, body) = client.get().await;
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("Session ID unknown"), "{body}");
}

#[tokio::test]
async fn servers_without_a_key_forward_nothing() {
    let servers = [Server::start(&[], &[]).await, Server::start(&[], &[]).await];
    let mut client = Client::open(servers[0].address).await;
    client.at = servers[1].address;
    let (status, body) = client.get().await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn long_polling_can_be_switched_off() {
    let server = Server::start(&["--long-polling=false"], &[]).await;
    let client = Client {
        http: reqwest::Client::new(),
        at: server.address,
        base: "",
        sid: String::new(),
        seen: String::new(),
    };
    let (status, body) = client.get().await;
    assert_eq!(status, 400);
    assert!(body.contains("Transport unknown"), "{body}");
    Wire::join(&server, json!({})).await;
}

#[tokio::test]
async fn body_above_the_frame_size_is_rejected() {
    let server = Server::start(&["--max-frame-size=100000"], &[]).await;
    let client = Client::join(server.address).await;
    let (status, _) = client.post(&format!("4{}", "x".repeat(100_000))).await;
    assert_eq!(status, 413);
    let bound = "papo_bounds_exceeded_total{bound=\"frame_size\"}";
    until("the bound is counted", async || {
        (metric(&server, bound).await == 1).then_some(())
    })
    .await;
    let (status, _) = client.get().await;
    // The rest of the session: a packet that closes it, or nothing.
    assert!([200, 400].contains(&status), "{status}");
}
