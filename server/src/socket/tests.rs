//! Tests of what ends with a connection.

use std::sync::Weak;

use papo_telemetry::Readiness;
use prometheus_client::registry::Registry;
use serde_json::{Value as Json, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    address::Address,
    broker::{local::Local, testing::Slow},
    log::testing::record,
    task_set::TaskSet,
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
    let server = SocketServer::new(room, launch, metrics.clone());
    Fixture {
        server,
        metrics,
        epoch,
        _tasks: tasks,
    }
}

impl Fixture {
    /// A connection that sends a CONNECT packet.
    async fn connect(&self, auth: Json) -> Arc<Connection> {
        let connection = Connection::new(
            engineioxide::sid::Sid::new(),
            Transport::Polling(Weak::new()),
            self.server.bounds.open(Address::default()),
        );
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
            self.server.left(&connection);
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
