//! Tests of what ends with a connection.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use papo_engineio::{Kept, Polling};

use papo_telemetry::Readiness;
use prometheus_client::registry::Registry;
use serde_json::{Value as Json, json};
use socketioxide_core::Str;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    address::Address,
    broker::{local::Local, testing::Slow},
    log::testing::record,
    task_set::TaskSet,
    web,
};

/// More messages than a window holds.
const LONG: u64 = 20_000;

struct Fixture {
    server: Arc<SocketServer<Slow>>,
    metrics: Arc<Metrics>,
    epoch: String,
    _tasks: TaskSet,
}

/// A server whose broker does not answer who reads the past, within any time that a test waits.
async fn server() -> Fixture {
    let broker = Slow(Local::new(u64::MAX), Duration::from_hours(1));
    for number in 0..LONG {
        let stored = broker.publish(Arc::new(record(number, "x")), None).await;
        stored.expect("stored");
    }
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let launch = Arc::new(Launch::default());
    let mut tasks = TaskSet::new(CancellationToken::new());
    let readiness = Readiness::default();
    let room = Room::start(broker, &launch, &readiness, metrics.clone(), &mut tasks);
    while room.stats().is_none_or(|stats| stats.tail < LONG) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let epoch = room.stats().expect("found").epoch;
    let access = AccessControl::start(&launch, metrics.clone()).expect("no file");
    let server = SocketServer::new(room, launch, alone(), access, metrics.clone());
    Fixture {
        server,
        metrics,
        epoch,
        _tasks: tasks,
    }
}

/// A server that shares no sessions.
fn alone() -> Sharing {
    Sharing {
        sids: Sids::alone(),
        forwarded: 0,
    }
}

/// A connection whose client gets nothing.
fn silent_connection<B: Broker>(server: &SocketServer<B>) -> Arc<Connection> {
    let place = server.bounds.open(Address::default());
    let polling = Polling::new(&server.engine_settings, &place.budget);
    polling.close(CloseCode::Normal);
    let transport = Transport::Polling(Arc::new(polling));
    Connection::new(server.sids.create(), transport, place, None)
}

impl Fixture {
    /// A connection that sends a CONNECT packet.
    async fn connect(&self, auth: Json) -> Arc<Connection> {
        let connection = silent_connection(&self.server);
        self.server.opened();
        let auth = Some(Str::from(auth.to_string()));
        self.server
            .receive(Ok(Some(Incoming::Connect { auth })), &connection);
        tokio::time::sleep(Duration::from_millis(100)).await;
        connection
    }

    /// Reads of the past that run, and those that wait.
    fn reads(&self) -> (i64, i64) {
        let Metrics {
            past_reads,
            past_reads_waiting,
            ..
        } = &*self.metrics;
        (past_reads.get(), past_reads_waiting.get())
    }

    /// Ends connections, and waits for all that is done for them.
    async fn disconnect(self, connections: Vec<Arc<Connection>>) {
        for connection in connections {
            self.server.left(&connection, CloseCode::Normal);
        }
        self.server.tasks.close();
        let stopped = timeout(Duration::from_secs(1), self.server.tasks.wait()).await;
        stopped.expect("nothing is done for clients that have gone");
        assert_eq!(self.reads(), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn resume_stops_when_the_connection_ends() {
    let fixture = server().await;
    let auth = json!({ "epoch": fixture.epoch, "offset": 0 });
    let connection = fixture.connect(auth).await;
    assert_eq!(fixture.reads(), (1, 0));
    fixture.disconnect(vec![connection]).await;
}

#[tokio::test(start_paused = true)]
async fn history_requests_stop_when_the_connection_ends() {
    let fixture = server().await;
    let mut connections = Vec::new();
    for _ in 0..6 {
        let connection = fixture.connect(json!({})).await;
        for number in 0..3 {
            let arguments = vec![json!("history"), json!({ "before": 100 })];
            let event = Incoming::Event {
                arguments,
                ack: Some(number),
            };
            fixture.server.receive(Ok(Some(event)), &connection);
        }
        connections.push(connection);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let one_of_each = (4, 2);
    assert_eq!(fixture.reads(), one_of_each);
    fixture.disconnect(connections).await;
}

#[tokio::test(start_paused = true)]
async fn client_has_two_minutes_to_join() {
    let fixture = server().await;
    let auth = json!({ "epoch": fixture.epoch, "offset": 0 });
    let (connection, began) = (fixture.connect(auth).await, Instant::now());
    assert!(!connection.joins_in_time().await);
    assert_eq!(began.elapsed(), Duration::from_mins(2));
    let silent = silent_connection(&fixture.server);
    let began = Instant::now();
    assert!(!silent.joins_in_time().await);
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    let member = fixture.connect(json!({})).await;
    assert!(member.joins_in_time().await);
    fixture.disconnect(vec![connection, member]).await;
}

/// A server on a port of its own whose clients wait to join for ever, behind one that was first.
async fn crowded() -> (SocketAddr, Arc<Metrics>, TaskSet) {
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let launch = Arc::new(Launch::default());
    let mut tasks = TaskSet::new(CancellationToken::new());
    let readiness = Readiness::default();
    let broker = Local::new(u64::MAX);
    let room = Room::start(broker, &launch, &readiness, metrics.clone(), &mut tasks);
    let access = AccessControl::start(&launch, metrics.clone()).expect("no file");
    let mut server = SocketServer::new(room, launch.clone(), alone(), access, metrics.clone());
    let joins = JoinQueue::with_rates((1, 1), (1, 1), metrics.joins_waiting.clone());
    Arc::get_mut(&mut server).expect("not shared yet").joins = joins;
    let first = server.joins.turn(Address::default()).await;
    first.expect("the burst");
    let waiting = server.clone();
    tasks.spawn("first of the queue", async move {
        let _ = waiting.joins.turn(Address::default()).await;
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let router = web::router(&server, &launch);
    let settings = papo_listener::Settings::admin();
    let serving = papo_listener::serve(listener, router, settings, CancellationToken::new());
    tasks.spawn("listener", serving);
    (address, metrics, tasks)
}

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client that has sent its CONNECT packet.
async fn joining(server: SocketAddr) -> Client {
    let url = format!("ws://{server}/socket.io/?EIO=4&transport=websocket");
    let (mut client, _) = connect_async(url).await.expect("upgraded");
    let packet = client.next().await.expect("open").expect("received");
    assert!(packet.to_text().is_ok_and(|packet| packet.starts_with('0')));
    let connect = tungstenite::Message::text("40");
    client.send(connect).await.expect("sent");
    client
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(Duration::from_mins(1), waiting).await;
    waited.expect("in time");
}

#[tokio::test]
async fn client_that_hangs_up_in_the_join_queue_has_no_turn() {
    let (address, metrics, _tasks) = crowded().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(joining(address).await);
    }
    until(|| metrics.joins_waiting.get() == 1 + 5).await;
    drop(clients.pop());
    until(|| metrics.joins_waiting.get() == 1 + 4).await;
    drop(clients);
    until(|| metrics.joins_waiting.get() == 1).await;
    until(|| metrics.connections.get() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn message_beyond_the_memory_of_its_address_is_not_published() {
    let fixture = server().await;
    let member = fixture.connect(json!({})).await;
    let stored = async || {
        let event = Incoming::Event {
            arguments: vec![json!("message"), json!("x")],
            ack: None,
        };
        fixture.server.receive(Ok(Some(event)), &member);
        tokio::time::sleep(Duration::from_millis(100)).await;
        fixture.server.room.stats().expect("found").tail - LONG
    };
    let share = fixture.server.launch.limits.address_client_memory();
    let kept = Kept::some(&member.place.budget, share).expect("left");
    assert_eq!(stored().await, 0);
    drop(kept);
    assert_eq!(stored().await, 1);
    assert_eq!(fixture.server.client_memory(), 0);
    fixture.disconnect(vec![member.clone()]).await;
}
