//! Tests of polling sessions, without HTTP.

use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message as WsMessage, protocol::Role},
};

use super::*;
use crate::incoming::resume;

const BUDGET: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(10);

fn session() -> (Arc<Polling>, Arc<Budget>) {
    let budget = Arc::new(Budget::new(BUDGET));
    let polling = Polling::new(&Arc::new(Settings::default()), &budget);
    (Arc::new(polling), budget)
}

fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).expect("text")
}

/// A GET that waits, in a task of its own.
async fn waiting_get(session: &Arc<Polling>) -> tokio::task::JoinHandle<Result<Bytes, PollError>> {
    let polled = session.clone();
    let get = tokio::spawn(async move { polled.poll(None).await });
    while !session.state.lock().is_polled {
        tokio::task::yield_now().await;
    }
    get
}

#[tokio::test]
async fn packets_leave_in_order_in_one_answer() {
    let (session, _) = session();
    let frames = ["olá", "b"].map(Frame::new);
    assert_eq!(
        session.push_all(&Batch::new(frames.iter())),
        (2, Push::Taken)
    );
    assert_eq!(session.push_binary(&[1, 2, 3, 4]), Push::Taken);
    let body = session.poll(None).await.expect("an answer");
    assert_eq!(text(&body), "4olá\u{1e}4b\u{1e}bAQIDBA==");
    let get = waiting_get(&session).await;
    session.push(&Frame::new("later"));
    let body = timeout(LIMIT, get).await.expect("in time").expect("ran");
    assert_eq!(text(&body.expect("an answer")), "4later");
}

#[tokio::test]
async fn waiting_packets_are_bounded_until_they_are_sent() {
    let (session, budget) = session();
    let frame = Frame::new("x");
    for _ in 0..MOST_WAITING {
        assert_eq!(session.push(&frame), Push::Taken);
    }
    assert_eq!(session.push(&frame), Push::Full);
    let kept = budget.kept();
    let mut bodies = Vec::new();
    for _ in 0..MOST_WAITING / MOST_ANSWERED {
        bodies.push(session.poll(None).await.expect("an answer"));
    }
    assert_eq!(budget.kept(), kept, "the answers are not sent yet");
    drop(bodies);
    assert_eq!(budget.kept(), 0);
    let large = Frame::new(&"x".repeat(BUDGET / 2));
    assert_eq!(session.push(&large), Push::Taken);
    assert_eq!(session.push(&large), Push::Full);
    assert_eq!(
        session.push_all(&Batch::new([&large].into_iter())),
        (0, Push::Full)
    );
    drop(session.poll(None).await);
    let larger = Frame::new(&"x".repeat(2 * BUDGET));
    assert_eq!(session.push(&larger), Push::Full);
    let batch = Batch::new([&larger, &frame].into_iter());
    assert_eq!(session.push_all(&batch), (1, Push::Full));
    assert_eq!(
        session.poll(None).await.map(|body| body.len()),
        Ok(2 * BUDGET + 1)
    );
}

#[tokio::test(start_paused = true)]
async fn answers_have_at_most_sixteen_packets() {
    let (session, _) = session();
    for n in 0..MOST_WAITING {
        session.push(&Frame::new(&n.to_string()));
    }
    session.state.lock().is_pinged = true;
    session.close(CloseCode::GoingAway);
    let mut packets: Vec<String> = Vec::new();
    while let Ok(body) = session.poll(None).await {
        let answered = text(&body).split('\u{1e}').map(str::to_owned);
        let answered: Vec<_> = answered.collect();
        assert!(answered.len() <= 16, "{}", answered.len());
        packets.extend(answered);
    }
    assert_eq!(packets.iter().filter(|packet| *packet == PING).count(), 1);
    packets.retain(|packet| packet != PING);
    let messages = (0..MOST_WAITING).map(|n| format!("4{n}"));
    assert_eq!(
        packets,
        messages.chain([CLOSE.to_owned()]).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn second_get_ends_the_session() {
    let (session, _) = session();
    let first = waiting_get(&session).await;
    assert_eq!(session.poll(None).await, Err(PollError::Twice));
    let body = timeout(LIMIT, first).await.expect("in time").expect("ran");
    assert_eq!(text(&body.expect("an answer")), "1");
    assert_eq!(session.poll(None).await, Err(PollError::Gone));
    assert_eq!(session.run().await.err(), Some(CloseCode::ProtocolError));
    assert_eq!(session.push(&Frame::new("x")), Push::Gone);
}

#[tokio::test]
async fn get_whose_client_has_gone_ends_the_session() {
    let (session, _) = session();
    let get = waiting_get(&session).await;
    get.abort();
    assert!(get.await.is_err());
    assert_eq!(session.run().await.err(), Some(CloseCode::Normal));
}

#[tokio::test]
async fn client_that_closes_gets_the_rest_of_its_get() {
    let (session, _) = session();
    let get = waiting_get(&session).await;
    let mut messages = Vec::new();
    let received = session.receive(None, "4a\u{1e}1\u{1e}4b", |message| messages.push(message));
    assert_eq!(received, Ok(()));
    assert_eq!(messages, [Message::Text("a".to_owned())]);
    let body = timeout(LIMIT, get).await.expect("in time").expect("ran");
    assert_eq!(text(&body.expect("an answer")), "6");
    timeout(LIMIT, session.finish()).await.expect("in time");
}

#[tokio::test]
async fn malformed_post_ends_the_session() {
    let (session, _) = session();
    assert_eq!(
        session.receive(None, "x", |_| {}),
        Err(CloseCode::ProtocolError)
    );
    assert_eq!(session.run().await.err(), Some(CloseCode::ProtocolError));
    assert_eq!(session.poll(None).await, Err(PollError::Gone));
}

#[tokio::test]
async fn one_post_is_read_at_a_time() {
    let (session, _) = session();
    let first = session.begin_post();
    assert!(first.is_some() && session.begin_post().is_none());
    drop(first);
    assert!(session.begin_post().is_some());
}

#[tokio::test(start_paused = true)]
async fn last_packets_wait_for_a_client_that_polls_again() {
    let (session, _) = session();
    session.push(&Frame::new("last"));
    session.close(CloseCode::GoingAway);
    assert_eq!(session.run().await.err(), Some(CloseCode::GoingAway));
    let body = session.poll(None).await;
    assert_eq!(body.as_ref().map(text), Ok("4last"), "without the close");
    let (body, ()) = tokio::join!(session.poll(None), session.finish());
    assert_eq!(body.as_ref().map(text), Ok("1"));
    assert_eq!(session.poll(None).await, Err(PollError::Gone));
}

#[tokio::test(start_paused = true)]
async fn client_that_answers_no_ping_is_closed() {
    let (session, _) = session();
    let answering = async {
        for _ in 0..3 {
            assert_eq!(session.poll(None).await.as_ref().map(text), Ok("2"));
            session.receive(None, "3", |_| {}).expect("a pong");
        }
        let began = tokio::time::Instant::now();
        assert_eq!(session.poll(None).await.as_ref().map(text), Ok("2"));
        assert_eq!(session.poll(None).await.as_ref().map(text), Ok("1"));
        let Settings {
            ping_interval,
            ping_timeout,
            ..
        } = Settings::default();
        assert_eq!(began.elapsed(), ping_interval + ping_timeout);
    };
    let (ended, ()) = tokio::join!(session.run(), answering);
    assert_eq!(ended.err(), Some(CloseCode::GoingAway));
}

/// A WebSocket of the session's client, which is served until the client has upgraded or has not.
async fn websocket(session: &Arc<Polling>) -> WebSocketStream<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    let server = server.expect("accepted").0;
    let (outgoing, incoming) = resume(server, &[], &session.settings, &session.budget);
    let session = session.clone();
    tokio::spawn(async move { session.upgrade_on(outgoing, incoming).await });
    WebSocketStream::from_raw_socket(client.expect("connected"), Role::Client, None).await
}

async fn next_packet(client: &mut WebSocketStream<TcpStream>) -> WsMessage {
    let message = timeout(LIMIT, client.next()).await.expect("in time");
    message.expect("open").expect("received")
}

#[tokio::test]
async fn waiting_packets_come_first_on_the_websocket() {
    let (session, budget) = session();
    let get = waiting_get(&session).await;
    let mut client = websocket(&session).await;
    client.send("2probe".into()).await.expect("sent");
    assert_eq!(next_packet(&mut client).await, WsMessage::text("3probe"));
    let body = timeout(LIMIT, get).await.expect("in time").expect("ran");
    assert_eq!(text(&body.expect("an answer")), "6");
    session.push(&Frame::new("before"));
    client.send("5".into()).await.expect("sent");
    client.send("4hello".into()).await.expect("sent");
    let mut incoming = session.run().await.expect("upgraded");
    session.push(&Frame::new("after"));
    assert_eq!(next_packet(&mut client).await, WsMessage::text("4before"));
    assert_eq!(next_packet(&mut client).await, WsMessage::text("4after"));
    let hello = Message::Text("hello".to_owned());
    assert_eq!(incoming.next().await, Ok(hello));
    assert_eq!(session.poll(None).await, Err(PollError::Gone));
    session.close(CloseCode::GoingAway);
    assert_eq!(incoming.next().await, Err(CloseCode::GoingAway));
    assert_eq!(budget.kept(), 0);
}

#[tokio::test]
async fn session_goes_on_polling_after_a_failed_upgrade() {
    let (session, _) = session();
    let mut client = websocket(&session).await;
    client.send("4no probe".into()).await.expect("sent");
    assert!(matches!(
        next_packet(&mut client).await,
        WsMessage::Close(_)
    ));
    session.push(&Frame::new("still here"));
    let body = session.poll(None).await.expect("an answer");
    assert_eq!(text(&body), "4still here");
    let get = waiting_get(&session).await;
    assert!(!get.is_finished(), "no probe is under way");
    get.abort();
}

#[tokio::test]
async fn second_websocket_does_not_take_an_upgraded_session() {
    let (session, _) = session();
    let (mut first, mut second) = (websocket(&session).await, websocket(&session).await);
    for client in [&mut first, &mut second] {
        client.send("2probe".into()).await.expect("sent");
        assert_eq!(next_packet(client).await, WsMessage::text("3probe"));
    }
    first.send("5".into()).await.expect("sent");
    let _incoming = session.run().await.expect("upgraded");
    second.send("5".into()).await.expect("sent");
    assert!(matches!(
        next_packet(&mut second).await,
        WsMessage::Close(_)
    ));
    session.push(&Frame::new("x"));
    assert_eq!(next_packet(&mut first).await, WsMessage::text("4x"));
}

#[tokio::test]
async fn websocket_of_an_upgraded_session_is_closed_at_once() {
    let (session, _) = session();
    let mut first = websocket(&session).await;
    for packet in ["2probe", "5"] {
        first.send(packet.into()).await.expect("sent");
    }
    let _incoming = session.run().await.expect("upgraded");
    let mut second = websocket(&session).await;
    second.send("2probe".into()).await.expect("sent");
    assert!(matches!(
        next_packet(&mut second).await,
        WsMessage::Close(_)
    ));
}

#[tokio::test]
async fn get_that_comes_again_ends_the_session() {
    let (session, _) = session();
    for (request, packet) in [(Some("a"), "one"), (Some("b"), "two"), (None, "three")] {
        session.push(&Frame::new(packet));
        let body = session.poll(request).await.expect("an answer");
        assert_eq!(text(&body), format!("4{packet}"));
    }
    session.push(&Frame::new("four"));
    assert!(session.poll(Some("c")).await.is_ok());
    // Whoever sends it again has not read the answer.
    let again = timeout(LIMIT, session.poll(Some("c"))).await;
    assert_eq!(again, Ok(Err(PollError::Twice)));
    assert_eq!(session.run().await.err(), Some(CloseCode::ProtocolError));
}

#[tokio::test]
async fn post_that_comes_again_is_taken_once() {
    let (session, _) = session();
    let mut messages = Vec::new();
    for (request, body) in [
        (Some("a"), "4one"),
        (Some("a"), "4one"),
        (Some("a"), "4two"),
        (Some("b"), "4two"),
        (None, "4three"),
        (None, "4three"),
    ] {
        let received = session.receive(request, body, |message| messages.push(message));
        assert_eq!(received, Ok(()));
    }
    let expected = ["one", "two", "two", "three", "three"];
    assert_eq!(
        messages,
        expected.map(|text| Message::Text(text.to_owned()))
    );
}

/// When the next ping is due on the WebSocket of a session that has upgraded, if it was due then on the transport before.
async fn ping_after_an_upgrade(is_pinged: bool, next: Instant) -> Instant {
    let (session, _) = session();
    {
        let mut state = session.state.lock();
        state.is_pinged = is_pinged;
        state.next_ping = Some(next);
    }
    let mut client = websocket(&session).await;
    client.send("2probe".into()).await.expect("sent");
    assert_eq!(next_packet(&mut client).await, WsMessage::text("3probe"));
    client.send("5".into()).await.expect("sent");
    loop {
        if let Some(incoming) = session.state.lock().incoming.take() {
            return incoming.next_beat_at();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn pings_go_on_after_an_upgrade() {
    let next = Instant::now() + Duration::from_secs(3);
    assert_eq!(ping_after_an_upgrade(false, next).await, next);
    // A ping that the client has not got yet.
    let due = ping_after_an_upgrade(true, next + Settings::default().ping_interval).await;
    assert!(due <= Instant::now());
}
