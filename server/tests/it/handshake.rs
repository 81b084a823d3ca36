//! WebSocket handshakes and close frames, byte by byte (RFC 6455).

use futures::StreamExt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    fixture::{LIMIT, Server, in_time},
    wire::Wire,
};

const REQUEST_LINE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1";
/// The header lines of a handshake.
const LINES: [&str; 5] = [
    "Host: chat.example",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// The head of the response to a request, in lower case.
async fn head(server: &Server, request_line: &str, lines: &[&str]) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    let request = format!("{request_line}\r\n{}\r\n\r\n", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(stream.read_u8()).await.expect("a head"));
    }
    String::from_utf8(head).expect("text").to_lowercase()
}

/// A handshake in which a line is replaced.
fn replaced<'a>(line: &str, by: &[&'a str]) -> Vec<&'a str> {
    let name = line.split(':').next().unwrap_or_default();
    let kept = LINES.iter().filter(|kept| !kept.starts_with(name));
    kept.copied().chain(by.iter().copied()).collect()
}

#[tokio::test]
async fn handshakes_that_break_the_standard_are_rejected() {
    let server = Server::start(&[], &[]).await;
    assert!(head(&server, REQUEST_LINE, &LINES).await.contains(" 101 "));
    let cases: &[(&str, &[&str], &str)] = &[
        ("Host", &[], "400"),
        ("Host", &["Host: a.example", "Host: a.example"], "400"),
        ("Upgrade", &[], "426"),
        ("Connection", &["Connection: keep-alive"], "400"),
        ("Connection", &[], "400"),
        (
            "Sec-WebSocket-Version",
            &["Sec-WebSocket-Version: 8"],
            "426",
        ),
        ("Sec-WebSocket-Key", &["Sec-WebSocket-Key: c2hvcnQ="], "400"),
        ("Sec-WebSocket-Key", &[], "400"),
    ];
    for (line, by, status) in cases {
        let answer = head(&server, REQUEST_LINE, &replaced(line, by)).await;
        assert!(
            answer.starts_with(&format!("http/1.1 {status} ")),
            "{line} {by:?}: {answer}"
        );
    }
    let post = REQUEST_LINE.replace("GET", "POST");
    let lines = replaced("Content-Length", &["Content-Length: 0"]);
    let answer = head(&server, &post, &lines).await;
    assert!(
        answer.starts_with("http/1.1 405 ") && answer.contains("allow: get\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn two_hosts_are_rejected_on_every_path() {
    let server = Server::start(&[], &[]).await;
    let hosts = ["Host: chat.example", "Host: chat.example"];
    let answer = head(&server, "GET / HTTP/1.1", &hosts).await;
    assert!(answer.starts_with("http/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn first_subprotocol_is_chosen() {
    let server = Server::start(&[], &[]).await;
    let offered = replaced(
        "Sec-WebSocket-Protocol",
        &["Sec-WebSocket-Protocol: v2.chat, chat"],
    );
    let answer = head(&server, REQUEST_LINE, &offered).await;
    assert!(
        answer.contains(" 101 ") && answer.contains("sec-websocket-protocol: v2.chat\r\n"),
        "{answer}"
    );
}

/// HTTP/2 with prior knowledge (RFC 9113, 3.3) is not spoken: the client learns it from the status.
#[tokio::test]
async fn http_2_preface_gets_an_answer_of_http_1() {
    let server = Server::start(&[], &[]).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.expect("sent");
    let mut answer = Vec::new();
    // A reset is an end too.
    let read = timeout(LIMIT, stream.read_to_end(&mut answer));
    let _ = read.await.expect("the server closes the socket");
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
}

/// What the server answers to a close frame with this payload.
async fn close_code(server: &Server, payload: &[u8]) -> Option<u16> {
    let (mut wire, _) = Wire::join(server, json!({})).await;
    let length = u8::try_from(payload.len()).expect("short");
    // Masked with zeros (RFC 6455, 5.2).
    let frame = [&[0x88, 0x80 | length, 0, 0, 0, 0], payload].concat();
    wire.0.get_mut().write_all(&frame).await.expect("sent");
    loop {
        match in_time(wire.0.next()).await? {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn close_frames_that_break_the_standard_are_answered_with_the_reason() {
    let server = Server::start(&[], &[]).await;
    let cases: &[(&[u8], u16)] = &[
        (b"", 1000),
        (b"\x03\xe8bye", 1000),
        (b"\x0f\xa0", 1000),
        (b"\x03", 1002),
        (b"\x03\xed", 1002),
        (b"\x03\xee", 1002),
        (b"\x00\x00", 1002),
        (b"\x07\xd0", 1002),
        (b"\x03\xe8\xff", 1007),
    ];
    for (payload, code) in cases {
        let answered = close_code(&server, payload).await;
        assert_eq!(answered, Some(*code), "{payload:x?}");
    }
}
