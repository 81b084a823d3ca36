//! Clients that do what no client should: the process stays up, and others feel nothing.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::StatusCode},
};

use crate::{
    fixture::{LIMIT, Server, until},
    wire::Wire,
};

async fn server(arguments: &[&str]) -> Server {
    Server::start(arguments, &[]).await
}

/// Two members can exchange messages.
async fn assert_works(server: &Server) {
    let (mut ana, _) = Wire::join(server, json!({ "name": "Ana" })).await;
    let (mut rui, _) = Wire::join(server, json!({ "name": "Rui" })).await;
    assert_eq!(
        ana.ask(1, &json!(["message", "all well?"])).await["ok"],
        json!(true)
    );
    assert_eq!(rui.event("message").await[1], json!("all well?"));
}

#[tokio::test]
async fn invalid_packets_end_only_their_connection() {
    let server = server(&[]).await;
    for packet in [
        "4",
        "4x",
        "42",
        "42[]",
        "42{}",
        "42[",
        "42nonsense",
        "49",
        "x",
        "",
        "42\u{0}",
        "40[",
        "44{}",
        "499999999999999999999[]",
    ] {
        let (mut wire, _) = Wire::join(&server, json!({})).await;
        wire.send(packet).await;
        // The server ignores some of them: then the connection still works.
        if packet != "40[" && packet != "499999999999999999999[]" {
            assert!(wire.has_ended().await, "{packet:?}");
        }
    }
    assert_works(&server).await;
}

#[tokio::test]
async fn json_of_any_content_gets_an_answer() {
    let server = server(&[]).await;
    let (mut wire, _) = Wire::join(&server, json!({ "name": "Ana" })).await;
    let nested = "[".repeat(200) + &"]".repeat(200);
    for (payload, expected) in [
        (r#"["message","ok \ud83d"]"#, r#""ok":true"#),
        (r#"["message",{"text":"\udc00","id":"a"}]"#, r#""ok":true"#),
        (r#"["message",{"text":"x","id":"\ud83d"}]"#, "invalid_id"),
        (
            r#"["message",{"text":"x","other":"\ud83d"}]"#,
            r#""ok":true"#,
        ),
        (r#"["\ud83d"]"#, "unknown_event"),
        (r#"["message","x",1e999]"#, "bad_request"),
        (
            r#"["message",{"$serde_json::private::RawValue":1}]"#,
            "bad_request",
        ),
        (
            format!(r#"["message","x",{nested}]"#).as_str(),
            "bad_request",
        ),
        (nested.as_str(), "bad_request"),
        ("[1]", "bad_request"),
        ("[null]", "bad_request"),
    ] {
        wire.send(&format!("421{payload}")).await;
        let answer = loop {
            let packet = wire.receive().await.expect("an answer");
            if packet.starts_with("431[") {
                break packet;
            }
        };
        assert!(answer.contains(expected), "{payload}: {answer}");
    }
    let (mut rui, history) = Wire::join(&server, json!({ "name": "Rui" })).await;
    assert_eq!(history["messages"][0]["text"], json!("ok \u{fffd}"));
    assert_eq!(
        rui.ask(1, &json!(["message", "all well?"])).await["ok"],
        json!(true)
    );
}

#[tokio::test]
async fn half_of_a_surrogate_pair_in_a_name_is_replaced() {
    let server = server(&[]).await;
    let mut wire = Wire::open(&server).await;
    wire.send(r#"40{"name":"Ana \ud83d"}"#).await;
    let history = wire.event("history").await;
    assert_eq!(history[1]["you"]["user"], json!("Ana \u{fffd}"));
}

#[tokio::test]
async fn connect_to_another_namespace_is_rejected_in_its_name() {
    let server = server(&[]).await;
    let rejected = r#"44/other,{"message":"Invalid namespace"}"#;
    let mut wire = Wire::open(&server).await;
    for packet in ["40/other", "40/other,", r#"40/other,{"name":"Ana"}"#] {
        wire.send(packet).await;
        assert_eq!(wire.receive().await.as_deref(), Some(rejected));
    }
    wire.send("40").await;
    let answer = wire.receive().await.expect("an answer");
    assert!(answer.starts_with("40{"), "{answer}");
    wire.event("history").await;
    for packet in [r#"42/other,["message","x"]"#, "41/other", "40/other"] {
        wire.send(packet).await;
    }
    while let Some(packet) = wire.receive().await.filter(|packet| packet != rejected) {
        assert!(packet.starts_with("42["), "{packet}");
    }
    let answer = wire.ask(1, &json!(["message", "olá"])).await;
    assert_eq!(answer["ok"], json!(true));
}

#[tokio::test]
async fn event_before_connect_ends_the_connection() {
    let server = server(&[]).await;
    let mut wire = Wire::open(&server).await;
    wire.send(r#"421["message","x"]"#).await;
    assert!(wire.has_ended().await);
    assert_works(&server).await;
}

#[tokio::test]
async fn frame_of_64_mib_ends_the_connection() {
    let server = server(&[]).await;
    let (mut wire, _) = Wire::join(&server, json!({})).await;
    let packet = format!(r#"421["message","{}"]"#, "x".repeat(64 << 20));
    // The server may close the connection during the write.
    let _ = wire.0.send(Message::text(packet)).await;
    assert!(wire.has_ended().await);
    assert_works(&server).await;
}

#[tokio::test]
async fn invalid_utf_8_ends_the_connection() {
    let server = server(&[]).await;
    let (mut wire, _) = Wire::join(&server, json!({})).await;
    // A text frame of two bytes, masked with zeros (RFC 6455, 5.2).
    let frame = [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe];
    wire.0.get_mut().write_all(&frame).await.expect("sent");
    assert!(wire.has_ended().await);
    assert_works(&server).await;
}

#[tokio::test]
async fn flood_is_rejected_and_others_are_not_affected() {
    let server = server(&["--max-messages-per-second=10", "--message-burst=20"]).await;
    let (mut flooder, _) = Wire::join(&server, json!({})).await;
    let (mut ana, _) = Wire::join(&server, json!({})).await;
    let (sent, mut stored, mut rejected) = (5_000, 0, 0);
    for number in 0..sent {
        flooder
            .0
            .feed(Message::text(format!(
                r#"42{number}["message","{number}"]"#
            )))
            .await
            .expect("fed");
        if number % 100 == 99 {
            flooder.0.flush().await.expect("sent");
        }
        while let Some(Some(Ok(Message::Text(packet)))) =
            futures::FutureExt::now_or_never(flooder.0.next())
        {
            count(&packet, &mut stored, &mut rejected);
        }
    }
    assert_eq!(
        ana.ask(1, &json!(["message", "still here"])).await["ok"],
        json!(true)
    );
    while stored + rejected < sent {
        let packet = flooder.receive().await.expect("an answer to each");
        count(&packet, &mut stored, &mut rejected);
    }
    assert!(
        stored >= 20 && rejected > sent / 2,
        "{stored} stored, {rejected} rejected"
    );
    assert_works(&server).await;
}

fn count(packet: &str, stored: &mut u32, rejected: &mut u32) {
    if packet.starts_with("43") {
        *stored += u32::from(packet.contains(r#""ok":true"#));
        *rejected += u32::from(packet.contains("rate_limited"));
    }
}

#[tokio::test]
async fn full_server_rejects_connections() {
    let server = server(&["--max-connections=2"]).await;
    let _first = Wire::join(&server, json!({})).await;
    let (second, _) = Wire::join(&server, json!({})).await;
    let (_third, answer) = Wire::connect(&server, json!({})).await;
    assert!(
        answer.starts_with("44{") && answer.contains("server_full"),
        "{answer}"
    );
    drop(second);
    until("free connection", async || {
        let (_, answer) = Wire::connect(&server, json!({})).await;
        answer.starts_with("40{").then_some(())
    })
    .await;
}

#[tokio::test]
async fn origins_must_be_allowed() {
    let server = server(&["--allow-origin=https://good.example"]).await;
    for (origin, welcome) in [
        ("https://evil.example", false),
        ("https://good.example", true),
    ] {
        let url = format!(
            "ws://{}/socket.io/?EIO=4&transport=websocket",
            server.address
        );
        let mut request = url.into_client_request().expect("valid");
        request
            .headers_mut()
            .insert("Origin", origin.parse().expect("valid"));
        match connect_async(request).await {
            Ok(_) => assert!(welcome, "{origin}"),
            Err(Error::Http(response)) => assert!(
                !welcome && response.status() == StatusCode::FORBIDDEN,
                "{origin}"
            ),
            Err(error) => panic!("{origin}: {error}"),
        }
    }
}

#[tokio::test]
async fn slow_reader_is_closed_and_resumes_without_a_gap() {
    let server = server(&[
        "--slow-reader-timeout=1",
        "--max-messages-per-second=100000",
        "--message-burst=100000",
    ])
    .await;
    let (mut stalled, history) =
        Wire::join(&server, json!({ "token": "the stalled reader" })).await;
    let (mut ana, _) = Wire::join(&server, json!({})).await;
    let text = "x".repeat(3_900);
    let mut sent = 0_u64;
    let closed = async {
        loop {
            for number in 0..50 {
                ana.send(&format!(r#"42{number}["message","{text}"]"#))
                    .await;
            }
            let mut answered = 0;
            while answered < 50 {
                let packet = ana.receive().await.expect("an answer");
                answered += u64::from(packet.starts_with("43") && packet.contains(r#""ok":true"#));
            }
            sent += answered;
            let (_, metrics) = server.get("/metrics").await.expect("an answer");
            if metrics.contains(r#"papo_connections_closed_total{reason="slow_reader"} 1"#) {
                return;
            }
        }
    };
    timeout(LIMIT, closed)
        .await
        .expect("closed as a slow reader");

    let mut seen = 0;
    while let Some(packet) = stalled.receive().await {
        seen += u64::from(packet.starts_with(r#"42["message""#));
    }
    assert!(seen < sent, "it was closed before it had everything");
    let auth =
        json!({ "token": "the stalled reader", "epoch": history["epoch"], "offset": seen - 1 });
    let (mut again, rest) = Wire::join(&server, auth).await;
    assert_eq!(rest["recovered"], json!(true));
    let missed = rest["messages"].as_array().expect("messages");
    let mut offsets: Vec<u64> = missed
        .iter()
        .filter_map(|message| message["offset"].as_u64())
        .collect();
    while offsets.last().is_some_and(|last| last + 1 < sent) {
        offsets.extend(again.event("message").await[2]["offset"].as_u64());
    }
    assert_eq!(offsets, (seen..sent).collect::<Vec<_>>());
}

#[tokio::test]
async fn resume_positions_that_cannot_be_read_are_rejected() {
    let server = server(&[]).await;
    for auth in [
        json!({ "epoch": "e1", "offset": -1 }),
        json!({ "epoch": "e1", "offset": "one" }),
        json!({ "epoch": "e1", "offset": 2.5 }),
        json!({ "epoch": 7, "offset": 1 }),
    ] {
        let (_, answer) = Wire::connect(&server, auth.clone()).await;
        let is_rejected = answer.starts_with("44{") && answer.contains("bad_request");
        assert!(is_rejected, "{auth}: {answer}");
    }
}

#[tokio::test]
async fn resume_positions_of_no_record_get_the_newest_page() {
    let server = server(&[]).await;
    let (mut ana, history) = Wire::join(&server, json!({})).await;
    ana.ask(1, &json!(["message", "one"])).await;
    for offset in [json!(null), json!(7), json!("7"), json!(u64::MAX)] {
        let auth = json!({ "epoch": history["epoch"], "offset": offset });
        let (_, again) = Wire::join(&server, auth).await;
        assert_eq!(
            (&again["recovered"], &again["messages"][0]["text"]),
            (&json!(false), &json!("one")),
            "{offset}"
        );
    }
    let (_, other) = Wire::join(&server, json!({ "epoch": "another", "offset": 0 })).await;
    assert_eq!(other["recovered"], json!(false));
    for offset in [json!(0), json!("0")] {
        let auth = json!({ "epoch": history["epoch"], "offset": offset });
        let (_, exact) = Wire::join(&server, auth).await;
        assert_eq!(
            (&exact["recovered"], &exact["messages"]),
            (&json!(true), &json!([])),
            "{offset}"
        );
    }
}

/// A server answers 200 CONNECT packets at once, and 1,000 per second after that.
#[tokio::test]
async fn connects_are_served_at_a_bounded_rate() {
    const STORM: u32 = 700;
    let server = server(&[]).await;
    let (mut wires, began) = (Vec::new(), Instant::now());
    for _ in 0..STORM {
        let mut wire = Wire::open(&server).await;
        // At once: the server closes a connection that sends no CONNECT packet for 10 s.
        wire.send("40").await;
        wires.push(wire);
    }
    for wire in &mut wires {
        let answer = wire.receive().await.expect("an answer");
        assert!(answer.starts_with("40{"), "{answer}");
    }
    let least = Duration::from_millis((STORM - 200).into());
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
}

#[tokio::test]
async fn history_requests_of_a_sender_are_limited() {
    let server = server(&["--history-per-second=1", "--history-burst=4"]).await;
    let (mut ana, _) = Wire::join(&server, json!({ "token": "ana, who reads the past" })).await;
    let (mut again, _) = Wire::join(&server, json!({ "token": "ana, who reads the past" })).await;
    let (mut rui, _) = Wire::join(&server, json!({ "token": "rui, who has another token" })).await;
    let mut codes = Vec::new();
    for number in 0..3 {
        for wire in [&mut ana, &mut again] {
            let answer = wire.ask(number, &json!(["history", {}])).await;
            codes.push(answer["code"].as_str().map(str::to_owned));
        }
    }
    let limited = Some("rate_limited".to_owned());
    assert_eq!(codes[..4], vec![None; 4]);
    assert!(codes[4..].contains(&limited), "{codes:?}");
    let other = rui.ask(1, &json!(["history", {}])).await;
    assert_eq!(other["ok"], json!(true));
}
