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
    fixture::{Server, until},
    wire::Wire,
};

async fn server(arguments: &[&str]) -> Server {
    Server::start(arguments, &[]).await
}

/// Two members talk.
async fn assert_all_is_well(server: &Server) {
    let (mut ana, _) = Wire::join(server, json!({ "name": "Ana" })).await;
    let (mut rui, _) = Wire::join(server, json!({ "name": "Rui" })).await;
    assert_eq!(
        ana.ask(1, &json!(["message", "all well?"])).await["ok"],
        json!(true)
    );
    assert_eq!(rui.event("message").await[1], json!("all well?"));
}

#[tokio::test]
async fn packets_that_are_none_end_their_connection_only() {
    let server = server(&[]).await;
    for packet in [
        "4",
        "4x",
        "42",
        "42[]",
        "42{}",
        "42[1]",
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
        // Some mean nothing and are ignored: then the connection still works.
        if packet != "40[" && packet != "499999999999999999999[]" {
            assert!(wire.has_ended().await, "{packet:?}");
        }
    }
    assert_all_is_well(&server).await;
}

#[tokio::test]
async fn events_before_connecting_end_the_connection() {
    let server = server(&[]).await;
    let mut wire = Wire::open(&server).await;
    wire.send(r#"421["message","x"]"#).await;
    assert!(wire.has_ended().await);
    assert_all_is_well(&server).await;
}

#[tokio::test]
async fn a_frame_of_64_mib_is_refused() {
    let server = server(&[]).await;
    let (mut wire, _) = Wire::join(&server, json!({})).await;
    let packet = format!(r#"421["message","{}"]"#, "x".repeat(64 << 20));
    // The server may hang up while it is being sent.
    let _ = wire.0.send(Message::text(packet)).await;
    assert!(wire.has_ended().await);
    assert_all_is_well(&server).await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused() {
    let server = server(&[]).await;
    let (mut wire, _) = Wire::join(&server, json!({})).await;
    // A text frame of two bytes, masked with zeros (RFC 6455, 5.2).
    let frame = [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe];
    wire.0.get_mut().write_all(&frame).await.expect("sent");
    assert!(wire.has_ended().await);
    assert_all_is_well(&server).await;
}

#[tokio::test]
async fn a_flood_is_answered_with_refusals_and_others_feel_nothing() {
    let server = server(&["--max-messages-per-second=10", "--message-burst=20"]).await;
    let (mut flooder, _) = Wire::join(&server, json!({})).await;
    let (mut ana, _) = Wire::join(&server, json!({})).await;
    let (sent, mut stored, mut refused) = (5_000, 0, 0);
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
            count(&packet, &mut stored, &mut refused);
        }
    }
    assert_eq!(
        ana.ask(1, &json!(["message", "still here"])).await["ok"],
        json!(true)
    );
    while stored + refused < sent {
        let packet = flooder.receive().await.expect("every one is answered");
        count(&packet, &mut stored, &mut refused);
    }
    assert!(
        stored >= 20 && refused > sent / 2,
        "{stored} stored, {refused} refused"
    );
    assert_all_is_well(&server).await;
}

fn count(packet: &str, stored: &mut u32, refused: &mut u32) {
    if packet.starts_with("43") {
        *stored += u32::from(packet.contains(r#""ok":true"#));
        *refused += u32::from(packet.contains("rate_limited"));
    }
}

#[tokio::test]
async fn a_full_server_says_so() {
    let server = server(&["--max-connections=2"]).await;
    let _first = Wire::join(&server, json!({})).await;
    let (second, _) = Wire::join(&server, json!({})).await;
    let (_third, answer) = Wire::connect(&server, json!({})).await;
    assert!(
        answer.starts_with("44{") && answer.contains("server_full"),
        "{answer}"
    );
    drop(second);
    until("a place", async || {
        let (_, answer) = Wire::connect(&server, json!({})).await;
        answer.starts_with("40{").then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_site_may_not_connect_unless_allowed() {
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
async fn one_that_does_not_read_is_closed_and_comes_back_without_a_hole() {
    let server = server(&[
        "--slow-reader-timeout=1",
        "--max-messages-per-second=100000",
        "--message-burst=100000",
    ])
    .await;
    let (mut stalled, history) = Wire::join(&server, json!({ "token": "stalled" })).await;
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
    timeout(Duration::from_mins(2), closed)
        .await
        .expect("closed for not reading");

    let mut seen = 0;
    while let Some(packet) = stalled.receive().await {
        seen += u64::from(packet.starts_with(r#"42["message""#));
    }
    assert!(seen < sent, "it was closed before it had everything");
    let auth = json!({ "token": "stalled", "epoch": history["epoch"], "offset": seen - 1 });
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
async fn resume_positions_that_cannot_be_get_the_newest_page() {
    let server = server(&[]).await;
    let (mut ana, history) = Wire::join(&server, json!({})).await;
    ana.ask(1, &json!(["message", "one"])).await;
    for offset in [
        json!(-1),
        json!("1"),
        json!(1e300),
        json!(2.5),
        json!(null),
        json!(7),
        json!(u64::MAX),
    ] {
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
    let (_, exact) = Wire::join(&server, json!({ "epoch": history["epoch"], "offset": 0 })).await;
    assert_eq!(
        (&exact["recovered"], &exact["messages"]),
        (&json!(true), &json!([]))
    );
}

/// A server lets 200 begin at once and 1,000 a second after that.
#[tokio::test]
async fn a_storm_of_arrivals_is_let_in_at_a_bounded_rate() {
    const STORM: u32 = 700;
    let server = server(&[]).await;
    let mut wires = Vec::new();
    for _ in 0..STORM {
        wires.push(Wire::open(&server).await);
    }
    let begun = Instant::now();
    for wire in &mut wires {
        wire.send("40").await;
    }
    for wire in &mut wires {
        let answer = wire.receive().await.expect("an answer");
        assert!(answer.starts_with("40{"), "{answer}");
    }
    let least = Duration::from_millis((STORM - 200).into());
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
}
