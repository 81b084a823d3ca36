//! What the tests need again and again: brokers with a room of their own, records, running servers.

use std::{
    future::Future,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use papo_protocol::{Launch, Record, SenderId};
use papo_server::broker::{Broker, Reader, Stored, local::Local, rabbitmq::RabbitMq};
use tokio::time::timeout;

/// Nothing here takes this long unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A room on a broker: every handle it gives is a server of that room.
pub(crate) trait Fixture: Send + Sync {
    type Broker: Broker;
    /// Another server of the room.
    fn broker(&self) -> impl Future<Output = Self::Broker> + Send;
}

/// The in-process broker.
pub(crate) struct InProcess(Local);

impl InProcess {
    pub(crate) fn retaining(bytes: u64) -> Self {
        Self(Local::new(bytes))
    }
}

impl Fixture for InProcess {
    type Broker = Local;
    async fn broker(&self) -> Local {
        self.0.clone()
    }
}

/// A real RabbitMQ.
pub(crate) struct Real {
    launch: Launch,
}

impl Real {
    /// A new room that retains so much.
    pub(crate) fn retaining(bytes: u64) -> Self {
        Self {
            launch: launch(
                &amqp(),
                &["--declare", &format!("--retention-bytes={bytes}")],
            ),
        }
    }
}

impl Fixture for Real {
    type Broker = RabbitMq;
    async fn broker(&self) -> RabbitMq {
        RabbitMq::connect(&self.launch)
            .await
            .expect("RabbitMQ answers")
    }
}

/// The RabbitMQ to test with.
pub(crate) fn amqp() -> String {
    std::env::var("PAPO_TEST_AMQP")
        .expect("PAPO_TEST_AMQP names a RabbitMQ; `tests/rabbitmq/rabbitmq run COMMAND` starts one")
}

/// A room that no other test has.
pub(crate) fn room() -> String {
    format!("test-{:016x}", rand::random::<u64>())
}

/// Settings for a new room on `broker`.
pub(crate) fn launch(broker: &str, arguments: &[&str]) -> Launch {
    let room = room();
    let given = ["papo-server", "--room", &room, "--broker", broker];
    Launch::parse_from(given.iter().chain(arguments))
}

/// A record of `sender`.
pub(crate) fn record(sender: &str, id: &str, text: &str) -> Arc<Record> {
    Arc::new(Record {
        id: id.parse().expect("valid"),
        sender: SenderId::from_trusted(sender),
        user: "Ana".parse().expect("valid"),
        text: text.to_owned(),
        at: 1_700_000_000_000,
    })
}

/// Publishes texts in their order and waits until all are stored.
pub(crate) async fn publish(
    broker: &impl Broker,
    sender: &str,
    texts: impl Iterator<Item = String>,
) {
    let stored: Vec<_> = texts
        .map(|text| broker.publish(record(sender, &text, &text), None))
        .collect();
    for outcome in stored {
        in_time(outcome).await.expect("stored");
    }
}

/// Reads until there are `count` records.
pub(crate) async fn take(reader: &mut impl Reader, count: usize) -> Vec<Stored> {
    let mut records = Vec::new();
    while records.len() < count {
        records.append(&mut in_time(reader.next()).await.expect("readable"));
    }
    records
}

/// The texts of records.
pub(crate) fn texts(records: &[Stored]) -> Vec<&str> {
    records
        .iter()
        .filter_map(|stored| stored.record.as_ref())
        .map(|record| record.text.as_str())
        .collect()
}

/// Waits for what must happen.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("in time")
}

/// Asks again until it is so.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, asked)
        .await
        .unwrap_or_else(|_| panic!("no {what} in time"))
}

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts the binary and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let (address, admin) = (free_address(), free_address());
        let mut child = command(&[
            "--listen",
            &address.to_string(),
            "--admin-listen",
            &admin.to_string(),
        ])
        .args(arguments)
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
        let mut greeting = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut greeting)
            .expect("it speaks");
        assert!(
            greeting.contains(&format!("http://localhost:{}", address.port())),
            "{greeting}"
        );
        let server = Self {
            child,
            address,
            admin,
        };
        until("readiness", async || {
            server
                .get("/readyz")
                .await
                .filter(|(status, _)| *status == 200)
        })
        .await;
        server
    }

    /// GET on the admin listener: status and body.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        let response = reqwest::get(format!("http://{}{path}", self.admin))
            .await
            .ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let ended = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        assert!(ended.success());
    }

    /// Waits for its end.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        until("end of the server", async || {
            self.child.try_wait().expect("it can be waited for")
        })
        .await
        .code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's binary, ready to be given more.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_papo-server"));
    command
        .args(arguments)
        .env_remove("PAPO_LOG")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// An address on loopback that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
