//! Brokers with a room of their own, records, and running servers for the tests.

use std::{
    future::Future,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use clap::Parser;
use papo_protocol::{Launch, Record, SenderId};
use papo_server::broker::{Broker, Reader, Stored, local::Local, rabbitmq::RabbitMq};
use parking_lot::Mutex;
use tokio::time::timeout;

/// How long a test waits for a condition. It costs time only when the test fails, and holds on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// A room on a broker: each handle is a server of that room.
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
    /// A new room that retains this many bytes.
    pub(crate) fn retaining(bytes: u64) -> Self {
        Self {
            launch: launch(
                &amqp(),
                &[
                    "--declare",
                    &format!("--retention-bytes={bytes}"),
                    // A busy machine may take longer than the default for thousands of records.
                    "--publish-timeout=100",
                ],
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

/// A name that no other test uses for its room.
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
        since: None,
        verified: false,
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
    for confirm in stored {
        in_time(confirm).await.expect("stored");
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

/// Waits for a future that must complete.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("in time")
}

/// Polls a condition until it holds.
pub(crate) async fn until<T>(condition: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let polled = async {
        loop {
            if let Some(answer) = poll().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, polled)
        .await
        .unwrap_or_else(|_| panic!("no {condition} in time"))
}

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: Log,
}

/// The lines that a server has logged.
type Log = Arc<Mutex<Vec<String>>>;

impl Server {
    /// Starts the binary and waits until it is ready.
    pub(crate) async fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(command(&[]), arguments, environment).await
    }

    /// As [`Server::start`], with the limits of file descriptors that a shell has set (`ulimit`).
    pub(crate) async fn start_with_descriptors(ulimit: &str, arguments: &[&str]) -> Self {
        let mut shell = program("sh");
        let binary = env!("CARGO_BIN_EXE_papo-server");
        shell.args(["-c", &format!("{ulimit}; exec \"$0\" \"$@\""), binary]);
        Self::start_as(shell, arguments, &[]).await
    }

    async fn start_as(
        mut command: Command,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = command
            .args([
                "--listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
                "--log-format=json",
            ])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = child.stderr.take().expect("piped");
        let lines = Log::default();
        let logged = lines.clone();
        let (address, admin) = tokio::task::spawn_blocking(|| addresses(log, logged))
            .await
            .expect("the server logs its addresses");
        let mut greeting = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut greeting)
            .expect("a line of text");
        assert!(
            greeting.contains(&format!("http://localhost:{}", address.port())),
            "{greeting}"
        );
        let server = Self {
            child,
            address,
            admin,
            log: lines,
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

    /// What it has logged.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().clone()
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

    /// Waits until the process ends.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        until("end of the process", async || {
            self.child.try_wait().expect("it can be waited for")
        })
        .await
        .code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The addresses that a server logs when it serves. Then a thread reads the rest of its log, so that the pipe never fills up.
fn addresses(log: ChildStderr, logged: Log) -> (SocketAddr, SocketAddr) {
    let mut lines = BufReader::new(log).lines().map_while(Result::ok);
    let mut read = Vec::new();
    let found = lines.by_ref().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        read.push(line.clone());
        logged.lock().push(line);
        let address = |name: &str| entry[name].as_str()?.parse().ok();
        Some((address("address")?, address("admin")?))
    });
    std::thread::spawn(move || lines.for_each(|line| logged.lock().push(line)));
    found.unwrap_or_else(|| panic!("no addresses in {read:?}"))
}

/// The server's binary, to which arguments can be added.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_papo-server"));
    command.args(arguments);
    command
}

/// A program, with the environment of the server's binary.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command
        .envs(NO_ADDRESS_LIMITS)
        .env_remove("PAPO_LOG_FILTER")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Limits by address that no test reaches unless it sets them: all clients of a test have one address.
const NO_ADDRESS_LIMITS: [(&str, &str); 7] = [
    ("PAPO_ADDRESS_MESSAGES_PER_SECOND", "1000000"),
    ("PAPO_ADDRESS_MESSAGE_BURST", "1000000"),
    ("PAPO_ADDRESS_BYTES_PER_SECOND", "100000000"),
    ("PAPO_ADDRESS_BYTE_BURST", "1073741824"),
    ("PAPO_ADDRESS_CONNECTIONS", "1000000"),
    ("PAPO_ADDRESS_CONNECTS_PER_SECOND", "1000000"),
    ("PAPO_ADDRESS_CONNECT_BURST", "1000000"),
];

/// An address on loopback where no program listens: the port of tcpmux (RFC 1078).
pub(crate) const CLOSED_ADDRESS: &str = "127.0.0.1:1";
