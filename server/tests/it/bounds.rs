//! One person with a script: what it gets, and what an honest member beside it notices.

use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest, http::StatusCode},
};

use crate::{
    fixture::{LIMIT, Server, in_time, until},
    wire::Wire,
};

/// The default limits by address.
const DEFAULTS: [&str; 6] = [
    "--address-messages-per-second=100",
    "--address-message-burst=300",
    "--address-bytes-per-second=65536",
    "--address-byte-burst=1048576",
    "--address-connects-per-second=20",
    "--address-connect-burst=200",
];

async fn server(arguments: &[&str]) -> Server {
    let arguments: Vec<&str> = DEFAULTS.iter().chain(arguments).copied().collect();
    Server::start(&arguments, &[]).await
}

/// Opens a connection through a proxy on this machine, which says that the client has this address.
async fn open(server: &Server, address: &str) -> Result<Wire, Error> {
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket",
        server.address
    );
    let mut request = url.into_client_request().expect("valid");
    let value = address.parse().expect("a header");
    request.headers_mut().insert("X-Forwarded-For", value);
    let (socket, _) = connect_async(request).await?;
    let mut wire = Wire(socket);
    let packet = wire.receive().await.expect("the engine's handshake");
    assert!(packet.starts_with('0'), "{packet}");
    Ok(wire)
}

async fn join(server: &Server, address: &str, token: &str) -> Wire {
    let mut wire = open(server, address).await.expect("upgraded");
    wire.send(&format!("40{}", json!({ "token": token }))).await;
    wire.event("history").await;
    wire
}

#[tokio::test]
async fn new_connection_of_a_sender_has_no_new_burst() {
    let server = server(&["--max-messages-per-second=1", "--message-burst=5"]).await;
    let (mut stored, mut rejected) = (0, 0);
    for _ in 0..10 {
        let mut wire = join(&server, "203.0.113.1", "the flooder, who has one token").await;
        for number in 0..5 {
            let answer = wire.ask(number, &json!(["message", "x"])).await;
            stored += u64::from(answer["ok"] == json!(true));
            rejected += u64::from(answer["code"] == json!("rate_limited"));
        }
    }
    assert_eq!(stored + rejected, 50);
    // The burst, and one for each second that this took.
    assert!(stored <= 5 + 20, "{stored} stored");
    assert_eq!(exceeded(&server, "sender_messages").await, rejected);
    let mut ana = join(&server, "203.0.113.2", "ana, who has another token").await;
    let answer = ana.ask(1, &json!(["message", "all well?"])).await;
    assert_eq!(answer["ok"], json!(true));
}

#[tokio::test]
async fn many_senders_of_one_address_share_its_bytes() {
    let server = server(&["--max-message-length=16000"]).await;
    let text = "x".repeat(15_000);
    let mut stored = 0;
    for number in 0..100 {
        let token = format!("flooder number {number}, with a token of its own");
        let mut wire = join(&server, "203.0.113.1", &token).await;
        let answer = wire.ask(1, &json!(["message", text])).await;
        stored += u64::from(answer["ok"] == json!(true));
    }
    // 1 MiB at once are 69 texts; 64 KiB a second are 4 more.
    assert!((60..=99).contains(&stored), "{stored} stored");
    assert_eq!(exceeded(&server, "address_bytes").await, 100 - stored);
    let mut ana = join(&server, "203.0.113.2", "ana, who has another token").await;
    let answer = ana.ask(1, &json!(["message", text])).await;
    assert_eq!(answer["ok"], json!(true));
}

#[tokio::test]
async fn address_that_opens_too_many_connections_gets_429() {
    let server = Server::start(
        &[
            "--address-connects-per-second=1",
            "--address-connect-burst=20",
        ],
        &[],
    )
    .await;
    let mut rejected = None;
    let mut began = Instant::now();
    for number in 0..500 {
        began = Instant::now();
        // What stands left of the right-most untrusted address is invented.
        let forwarded = format!("198.51.100.{}, 203.0.113.7", number % 250);
        match open(&server, &forwarded).await {
            Ok(_) => {}
            Err(Error::Http(response)) => {
                rejected = Some(response);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let response = rejected.expect("a rejection");
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key("Retry-After"));
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(1), "after {waited:?}");
    assert!(open(&server, "203.0.113.2").await.is_ok());
    assert_eq!(exceeded(&server, "address_connects").await, 1);
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    assert!(
        metrics.contains("papo_rejections_total{reason=\"rate_limited\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn address_has_a_share_of_the_connections() {
    let server = server(&["--max-connections=100", "--address-connections=3"]).await;
    let mut members = Vec::new();
    for number in 0..3 {
        members.push(join(&server, "203.0.113.1", &format!("member {number} of them")).await);
    }
    let mut fourth = open(&server, "203.0.113.1").await.expect("upgraded");
    fourth.send("40").await;
    let answer = fourth.receive().await.expect("an answer");
    assert_eq!(exceeded(&server, "address_connections").await, 1);
    assert!(answer.contains("address_full"), "{answer}");
    join(&server, "203.0.113.2", "somebody at another address").await;
    drop(fourth);
    members.pop();
    until("a place is free", async || {
        let mut wire = open(&server, "203.0.113.1").await.expect("upgraded");
        wire.send("40").await;
        let answer = wire.receive().await.expect("an answer");
        answer.starts_with("40{").then_some(())
    })
    .await;
}

#[tokio::test]
async fn school_of_500_behind_one_address_can_chat() {
    let server = server(&[]).await;
    let mut pupils = Vec::new();
    for number in 0..500 {
        let mut wire = loop {
            match open(&server, "203.0.113.1").await {
                Ok(wire) => break wire,
                // As a client does: it tries again when the server says so.
                Err(Error::Http(response)) => {
                    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let token = format!("pupil number {number} of this school");
        wire.send(&format!("40{}", json!({ "token": token }))).await;
        pupils.push(wire);
    }
    for wire in &mut pupils {
        wire.event("history").await;
    }
    for (number, wire) in pupils.iter_mut().enumerate().step_by(10) {
        let answer = wire
            .ask(1, &json!(["message", format!("olá {number}")]))
            .await;
        assert_eq!(answer["ok"], json!(true), "{answer}");
    }
}

/// Reads until the server closes the socket.
async fn end_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end too.
    let read = timeout(LIMIT, stream.read_to_end(&mut all));
    let _ = read.await.expect("the server closes the socket");
    all
}

#[tokio::test]
async fn silent_and_dripping_sockets_end_on_both_ports() {
    let server = server(&[]).await;
    for address in [server.address, server.admin] {
        let mut silent = TcpStream::connect(address).await.expect("connected");
        let mut half = TcpStream::connect(address).await.expect("connected");
        half.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n")
            .await
            .expect("sent");
        let mut dripping = TcpStream::connect(address).await.expect("connected");
        let drip = async {
            // One byte of an endless head, until the server has enough.
            while dripping.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        timeout(LIMIT, drip).await.expect("the server closes it");
        end_of(&mut silent).await;
        end_of(&mut half).await;
    }
    let (status, _) = server.get("/livez").await.expect("an answer");
    assert_eq!(status, 200);
    // The silent one and the half one. The dripping one sent no head that hyper could read, or is the third.
    until("both sockets are counted", async || {
        (exceeded(&server, "head_time").await >= 2).then_some(())
    })
    .await;
}

/// How often a bound was exceeded.
async fn exceeded(server: &Server, bound: &str) -> u64 {
    let name = format!("papo_bounds_exceeded_total{{bound=\"{bound}\"}} ");
    metric(server, &name).await
}

/// The value of the metric whose line begins so; 0 if there is none.
async fn metric(server: &Server, name: &str) -> u64 {
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn head_has_a_largest_size() {
    let server = server(&[]).await;
    for (size, status) in [(10_000, "200"), (20_000, "431"), (1_000_000, "431")] {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n",
            "x".repeat(size)
        );
        // The server may close the socket during the write.
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = end_of(&mut stream).await;
        let answer = String::from_utf8_lossy(&answer);
        let is_expected = answer.starts_with(&format!("HTTP/1.1 {status}"));
        assert!(
            is_expected || size > 100_000 && answer.is_empty(),
            "{size}: {answer}"
        );
    }
    assert_eq!(exceeded(&server, "head_size").await, 2);
}

#[tokio::test]
async fn soft_descriptor_limit_is_raised() {
    let server = Server::start_with_descriptors("ulimit -Sn 64", &[]).await;
    let mut members = Vec::new();
    for number in 0..100 {
        let (mut wire, _) = Wire::join(&server, json!({})).await;
        let answer = wire.ask(1, &json!(["message", number.to_string()])).await;
        assert_eq!(answer["ok"], json!(true));
        members.push(wire);
    }
}

#[tokio::test]
async fn probes_answer_when_descriptors_run_out() {
    let server = Server::start_with_descriptors("ulimit -n 400", &[]).await;
    let mut sockets = Vec::new();
    for _ in 0..500 {
        sockets.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    for probe in ["/livez", "/readyz", "/metrics"] {
        let (status, _) = in_time(server.get(probe)).await.expect("an answer");
        assert_eq!(status, 200, "{probe}");
    }
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    assert!(
        metrics.contains("papo_rejections_total{reason=\"server_full\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn address_has_a_share_of_the_connections_that_descriptors_allow() {
    // 144 connections instead of 10,000: an address gets 20 of them.
    let limits = "ulimit -n 400; unset PAPO_ADDRESS_CONNECTIONS";
    let server = Server::start_with_descriptors(limits, &DEFAULTS).await;
    let mut members = Vec::new();
    for number in 0..20 {
        let token = format!("member {number} of one address");
        members.push(join(&server, "203.0.113.1", &token).await);
    }
    let mut next = open(&server, "203.0.113.1").await.expect("upgraded");
    next.send("40").await;
    let answer = next.receive().await.expect("an answer");
    assert!(answer.contains("address_full"), "{answer}");
    join(&server, "203.0.113.2", "somebody at another address").await;
}

#[tokio::test]
async fn full_sockets_are_told_and_probes_answer() {
    // It has 126 sockets: a tenth more than the connections, and 16.
    let server = server(&["--max-connections=100"]).await;
    let mut sockets = Vec::new();
    for _ in 0..150 {
        sockets.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    let mut last = sockets.pop().expect("one");
    let answer = end_of(&mut last).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("server_full"),
        "{answer}"
    );
    for probe in ["/livez", "/readyz"] {
        let (status, _) = server.get(probe).await.expect("an answer");
        assert_eq!(status, 200, "{probe}");
    }
    assert_eq!(metric(&server, "papo_sockets ").await, 126);
    assert_eq!(exceeded(&server, "sockets").await, 24);
    drop(sockets);
    until("a member can join", async || {
        open(&server, "203.0.113.1").await.ok()
    })
    .await;
}

#[tokio::test]
async fn peer_that_is_no_proxy_has_a_share_of_the_sockets() {
    let server = server(&["--trusted-proxies=none", "--address-connections=5"]).await;
    let mut sockets = Vec::new();
    for _ in 0..80 {
        sockets.push(TcpStream::connect(server.address).await.expect("connected"));
    }
    let mut last = sockets.pop().expect("one");
    let answer = end_of(&mut last).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(sockets);
    until("a socket is free", async || {
        open(&server, "203.0.113.1").await.ok()
    })
    .await;
}

/// A request of a polling client at this address.
async fn poll(server: &Server, address: &str, sid: &str, packet: Option<&'static str>) -> String {
    let session = if sid.is_empty() { "" } else { "&sid=" };
    let url = format!(
        "http://{}/socket.io/?EIO=4&transport=polling{session}{sid}",
        server.address
    );
    let client = reqwest::Client::new();
    let request = match packet {
        Some(packet) => client.post(url).body(packet),
        None => client.get(url),
    };
    let answer = in_time(request.header("X-Forwarded-For", address).send()).await;
    answer.expect("an answer").text().await.expect("text")
}

#[tokio::test]
async fn polling_session_has_a_place_without_a_socket() {
    let server = server(&["--address-connections=1"]).await;
    let open = poll(&server, "203.0.113.1", "", None).await;
    let open: serde_json::Value = serde_json::from_str(&open[1..]).expect("an open packet");
    let sid = open["sid"].as_str().expect("text");
    poll(&server, "203.0.113.1", sid, Some("40")).await;
    let mut other = open_ws(&server, "203.0.113.1").await;
    other.send("40").await;
    let answer = other.receive().await.expect("an answer");
    assert!(answer.contains("address_full"), "{answer}");
    drop(other);
    join(&server, "203.0.113.2", "somebody at another address").await;
    // The session ends.
    poll(&server, "203.0.113.1", sid, Some("1")).await;
    until("the place is free", async || {
        let mut wire = open_ws(&server, "203.0.113.1").await;
        wire.send("40").await;
        let answer = wire.receive().await.expect("an answer");
        answer.starts_with("40{").then_some(())
    })
    .await;
}

#[tokio::test]
async fn address_opens_no_more_polling_sessions_than_sockets() {
    let server = server(&["--address-connections=1"]).await;
    let open = (0..66).map(|_| poll(&server, "203.0.113.1", "", None));
    let opened = join_all(open).await;
    let is_rejected = |open: &&String| open.starts_with("server_full");
    assert_eq!(opened.iter().filter(is_rejected).count(), 1, "{opened:?}");
    let open = poll(&server, "203.0.113.2", "", None).await;
    assert!(open.starts_with("0{"), "{open}");
}

async fn open_ws(server: &Server, address: &str) -> Wire {
    open(server, address).await.expect("upgraded")
}

/// How many typing signals a member gets when 50 others send four each, at once.
async fn typing_signals(address_of: impl Fn(u32) -> String) -> u32 {
    let server = server(&[]).await;
    let mut ana = join(&server, "203.0.113.2", "ana, who reads what others do").await;
    let mut typists = Vec::new();
    for number in 0..50 {
        let token = format!("typist number {number} of several");
        typists.push(join(&server, &address_of(number), &token).await);
    }
    for wire in &mut typists {
        for _ in 0..4 {
            wire.send(r#"42["typing"]"#).await;
        }
    }
    for wire in &mut typists {
        let answer = wire.ask(1, &json!(["message", "x"])).await;
        assert_eq!(answer["ok"], json!(true));
    }
    let mut bia = join(&server, "203.0.113.3", "bia, who writes the last message").await;
    let answer = bia.ask(1, &json!(["message", "the end"])).await;
    assert_eq!(answer["ok"], json!(true));
    let mut signals = 0;
    loop {
        let packet = ana.receive().await.expect("a packet");
        signals += u32::from(packet.starts_with(r#"42["typing""#));
        if packet.contains("the end") {
            return signals;
        }
    }
}

#[tokio::test]
async fn typing_is_bounded_by_address_and_for_the_room() {
    let signals = typing_signals(|_| "203.0.113.1".to_owned()).await;
    // 20 at once, and 10 in each second.
    assert!((1..=60).contains(&signals), "{signals} of 200");
    let signals = typing_signals(|number| format!("198.51.100.{number}")).await;
    // 40 at once, and 20 in each second.
    assert!((1..=140).contains(&signals), "{signals} of 200");
}

/// Few clients, which may send large frames.
const LARGE_FRAMES: [&str; 3] = [
    "--max-connections=100",
    "--address-connections=50",
    "--max-frame-size=1000000",
];
/// Four frames of the largest size, and for each twice its size.
const MOST_KEPT: u64 = 8_000_000;

#[tokio::test]
async fn memory_for_clients_of_one_address_is_bounded() {
    let server = server(&LARGE_FRAMES).await;
    let mut halves = Vec::new();
    let address = server.address;
    for _ in 0..40 {
        let mut half = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-For: 203.0.113.1\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .into_bytes();
        // The beginning of a text frame of 900,000 bytes, masked with zeros (RFC 6455, 5.2).
        half.extend([0x81, 0xff, 0, 0, 0, 0, 0, 13, 0xbb, 0xa0, 0, 0, 0, 0]);
        half.extend(vec![b'4'; 800_000]);
        halves.push(sent(&server, &half).await);
    }
    others_are_served_within(MOST_KEPT, &server).await;
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    assert!(
        metrics.contains("papo_rejections_total{reason=\"unavailable\"}"),
        "{metrics}"
    );
    drop(halves);
    nothing_is_kept(&server).await;
}

#[tokio::test]
async fn memory_for_bodies_of_one_address_is_bounded() {
    let server = server(&LARGE_FRAMES).await;
    let mut halves = Vec::new();
    for _ in 0..40 {
        let open = poll(&server, "203.0.113.1", "", None).await;
        let open: serde_json::Value = serde_json::from_str(&open[1..]).expect("an open packet");
        let sid = open["sid"].as_str().expect("text");
        let request = format!(
            "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: {}\r\nX-Forwarded-For: 203.0.113.1\r\n\
             Content-Length: 900000\r\n\r\n{}",
            server.address,
            "4".repeat(800_000)
        );
        halves.push(sent(&server, request.as_bytes()).await);
    }
    others_are_served_within(MOST_KEPT, &server).await;
    drop(halves);
    nothing_is_kept(&server).await;
}

/// A connection on which all of this was sent, or as much of it as the server reads.
async fn sent(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    let _ = timeout(LIMIT, stream.write_all(bytes))
        .await
        .expect("in time");
    stream
}

/// The server keeps at most so many bytes for its clients, and a member of another address notices nothing.
async fn others_are_served_within(bytes: u64, server: &Server) {
    let kept = until("something is kept", async || {
        let (_, metrics) = server.get("/metrics").await?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("papo_client_memory_bytes "))?;
        line.rsplit(' ')
            .next()?
            .parse::<u64>()
            .ok()
            .filter(|bytes| *bytes > 1_000_000)
    })
    .await;
    assert!(kept <= bytes, "{kept} bytes");
    let mut ana = join(server, "203.0.113.2", "ana, at another address").await;
    let answer = ana.ask(1, &json!(["message", "x".repeat(4_000)])).await;
    assert_eq!(answer["ok"], json!(true));
}

async fn nothing_is_kept(server: &Server) {
    until("nothing is kept", async || {
        let (_, metrics) = server.get("/metrics").await?;
        metrics.contains("papo_client_memory_bytes 0").then_some(())
    })
    .await;
}
