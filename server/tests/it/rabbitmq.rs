//! Faults of RabbitMQ: lost connections and confirms, deleted objects, rotated credentials.

use std::{fs, net::SocketAddr, time::Duration};

use futures::FutureExt;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use papo_protocol::{BrokerUrl, Launch, topology};
use papo_server::broker::{
    Attached, Broker, BrokerConnection, PublishError, Publishing, ReadError, Reader, Signal, Start,
    rabbitmq::{RabbitMq, StreamReader},
};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    fixture::{Server, amqp, in_time, launch, publish, record, room, take, texts, until},
    proxy::Proxy,
    wire::Wire,
};

fn address(url: &str) -> SocketAddr {
    let authority = url
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let host = authority
        .and_then(|authority| authority.rsplit('@').next())
        .expect("a URL with a host");
    host.parse().expect("an address")
}

async fn connect(launch: &Launch) -> RabbitMq {
    in_time(RabbitMq::connect(launch))
        .await
        .expect("RabbitMQ answers")
}

/// A proxy, and the settings of the same room behind it.
async fn behind_proxy(direct: &Launch) -> (Proxy, Launch) {
    let url = amqp();
    let proxy = Proxy::to(address(&url)).await;
    let url = url.replace(&address(&url).to_string(), &proxy.address.to_string());
    (
        proxy,
        Launch {
            broker: vec![url.parse().expect("valid")],
            ..direct.clone()
        },
    )
}

/// Two proxies, and the settings of the same room with both as the nodes of its broker.
async fn behind_two_proxies(direct: &Launch) -> ([Proxy; 2], Launch) {
    let ((one, first), (other, second)) = (behind_proxy(direct).await, behind_proxy(direct).await);
    let broker = [first.broker, second.broker].concat();
    let launch = Launch {
        broker,
        ..direct.clone()
    };
    ([one, other], launch)
}

/// The proxy that a connection uses: `publisher` or `reader`.
async fn used<'a>(
    proxies: &'a [Proxy; 2],
    connections: impl Fn() -> Vec<BrokerConnection>,
    purpose: &str,
) -> &'a Proxy {
    let node = until("connection", async || {
        let connections = connections();
        let of_purpose = connections
            .into_iter()
            .find(|connection| connection.purpose == purpose);
        of_purpose?.node
    })
    .await;
    let proxy = proxies
        .iter()
        .find(|proxy| proxy.address.to_string() == node);
    proxy.unwrap_or_else(|| panic!("no proxy is at {node}"))
}

async fn attach(broker: &RabbitMq, start: Start) -> Attached<StreamReader> {
    in_time(broker.attach(start)).await.expect("attached")
}

/// Publishes a text as soon as the publisher is connected, with a timeout that is too short to wait for that.
async fn publish_when_up(broker: &RabbitMq, text: &str) {
    until("connected publisher", async || {
        broker.publish(record("a", text, text), None).await.ok()
    })
    .await;
}

/// A client that changes the broker's objects.
struct Administrator {
    _connection: Connection,
    channel: Channel,
}

impl Administrator {
    async fn new() -> Self {
        let connection = Connection::connect(&amqp(), ConnectionProperties::default())
            .await
            .expect("RabbitMQ answers");
        let channel = connection.create_channel().await.expect("a channel");
        Self {
            _connection: connection,
            channel,
        }
    }

    async fn delete_stream(&self, name: &str) {
        self.channel
            .queue_delete(name.into(), QueueDeleteOptions::default())
            .await
            .expect("deleted");
    }

    /// Takes a name that a server could draw for its queue.
    async fn take_signal_queue(&self, name: &str) {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await
            .expect("declared");
    }

    async fn delete_exchange(&self, name: &str) {
        self.channel
            .exchange_delete(name.into(), ExchangeDeleteOptions::default())
            .await
            .expect("deleted");
    }

    async fn unbind(&self, stream: &str, exchange: &str) {
        let unbound = self.channel.queue_unbind(
            stream.into(),
            exchange.into(),
            topology::MESSAGE_KEY.into(),
            FieldTable::default(),
        );
        unbound.await.expect("unbound");
    }
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn servers_that_declare_together_agree_on_one_log() {
    let launch = launch(&amqp(), &["--declare"]);
    let (a, b, c, d) = tokio::join!(
        connect(&launch),
        connect(&launch),
        connect(&launch),
        connect(&launch)
    );
    let mut epochs = Vec::new();
    for broker in [a, b, c, d] {
        epochs.push(attach(&broker, Start::BeforeEnd(1)).await.epoch);
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "{epochs:?}");
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn server_draws_another_name_for_its_queue_when_one_is_taken() {
    let launch = launch(&amqp(), &["--declare"]);
    let administrator = Administrator::new().await;
    for number in 0..topology::SIGNAL_QUEUES {
        let name = topology::signal_queue(&launch.room, number);
        in_time(administrator.take_signal_queue(&name)).await;
    }
    let server = connect(&launch).await;
    let mut received = server.signals();
    let signal = Signal {
        key: topology::TYPING_KEY.to_owned(),
        body: "{}".into(),
    };
    let got = until("signal", async || {
        server.signal(signal.clone());
        let got = tokio::time::timeout(Duration::from_millis(200), received.recv());
        got.await.ok()?.ok()
    });
    assert_eq!(got.await, signal);
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn missing_topology_error_suggests_declare() {
    let error = RabbitMq::connect(&launch(&amqp(), &[]))
        .await
        .expect_err("nothing was declared")
        .to_string();
    assert!(
        error.contains("papo.default.test-") && error.contains("--declare"),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn unconfirmed_records_are_written_again_in_order() {
    let direct = launch(&amqp(), &["--declare", "--publish-timeout=60"]);
    let (proxy, proxied) = behind_proxy(&direct).await;
    let (publisher, witness) = (connect(&proxied).await, connect(&direct).await);
    let number = |number: &u32| number.to_string();
    publish(&publisher, "a", (0..10).map(|one| number(&one))).await;
    let mut attached = attach(&witness, Start::BeforeEnd(100)).await;

    proxy.lose_answers(true);
    let unanswered: Vec<_> = (10..40)
        .map(|one: u32| publisher.publish(record("a", &number(&one), &number(&one)), None))
        .collect();
    let stored = take(&mut attached.reader, 40).await;
    assert_eq!(
        texts(&stored),
        (0..40).map(|one| number(&one)).collect::<Vec<_>>(),
        "stored without a confirm"
    );
    proxy.lose_answers(false);
    proxy.cut();

    for confirm in unanswered {
        in_time(confirm).await.expect("confirmed");
    }
    let again = take(&mut attached.reader, 30).await;
    assert_eq!(
        texts(&again),
        (10..40).map(|one| number(&one)).collect::<Vec<_>>()
    );
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn timed_out_publish_is_unknown_only_if_written() {
    let direct = launch(&amqp(), &["--declare", "--publish-timeout=3"]);
    let (proxy, proxied) = behind_proxy(&direct).await;
    let publisher = connect(&proxied).await;
    publish_when_up(&publisher, "first").await;
    proxy.lose_answers(true);
    let written = in_time(publisher.publish(record("a", "written", "x"), None)).await;
    assert_eq!(written, Err(PublishError::Unknown));
    proxy.cut();
    let error = until("rejection", async || {
        let answer = publisher
            .publish(record("a", "kept", "never stored"), None)
            .await;
        matches!(answer, Err(PublishError::Unavailable(_))).then_some(answer)
    });
    assert!(error.await.is_err());

    // What was reported as not stored does not appear when the broker is back.
    proxy.lose_answers(false);
    proxy.cut();
    until("connection", async || {
        publisher
            .publish(record("a", "back", "back"), None)
            .await
            .ok()
    })
    .await;
    let mut attached = attach(&connect(&direct).await, Start::BeforeEnd(100)).await;
    let count = usize::try_from(attached.bounds.end).expect("few");
    let records = take(&mut attached.reader, count).await;
    assert!(
        !texts(&records).contains(&"never stored") || count == 0,
        "{:?}",
        texts(&records)
    );
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn cut_reader_fails_and_another_continues() {
    let direct = launch(&amqp(), &["--declare"]);
    let (proxy, proxied) = behind_proxy(&direct).await;
    let broker = connect(&proxied).await;
    publish(&broker, "a", (0..5).map(|number| number.to_string())).await;
    let mut attached = attach(&broker, Start::BeforeEnd(100)).await;
    take(&mut attached.reader, 5).await;
    proxy.cut();
    let cut = in_time(attached.reader.next()).await;
    assert!(matches!(cut, Err(ReadError::Unavailable(_))), "{cut:?}");
    publish(
        &connect(&direct).await,
        "a",
        (5..7).map(|number| number.to_string()),
    )
    .await;
    let mut again = until("new reader", async || {
        broker
            .attach(Start::At(attached.epoch.clone(), 5))
            .await
            .ok()
    })
    .await;
    assert_eq!(texts(&take(&mut again.reader, 2).await), ["5", "6"]);
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn deleted_log_is_replaced_with_another_epoch() {
    let launch = launch(&amqp(), &["--declare"]);
    let broker = connect(&launch).await;
    publish(&broker, "a", ["old".to_owned()].into_iter()).await;
    let mut attached = attach(&broker, Start::BeforeEnd(100)).await;
    take(&mut attached.reader, 1).await;
    Administrator::new()
        .await
        .delete_stream(&topology::log(&launch.room, &attached.epoch))
        .await;
    assert!(in_time(attached.reader.next()).await.is_err());
    let error = in_time(broker.attach(Start::At(attached.epoch.clone(), 1)))
        .await
        .err();
    assert!(
        matches!(&error, Some(ReadError::EpochChanged { current }) if *current != attached.epoch),
        "{error:?}"
    );
    publish(&broker, "a", ["new".to_owned()].into_iter()).await;
    let mut renewed = attach(&broker, Start::BeforeEnd(100)).await;
    assert_eq!(texts(&take(&mut renewed.reader, 1).await), ["new"]);
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn message_without_a_bound_log_is_not_confirmed() {
    let declaring = launch(&amqp(), &["--declare"]);
    let epoch = attach(&connect(&declaring).await, Start::BeforeEnd(1))
        .await
        .epoch;
    let mut given = declaring.clone();
    (given.declare, given.epoch, given.publish_timeout) = (false, Some(epoch.clone()), 2);
    let broker = connect(&given).await;
    publish_when_up(&broker, "first").await;
    let (log, exchange) = (
        topology::log(&given.room, &epoch),
        topology::exchange(&given.room),
    );
    Administrator::new().await.unbind(&log, &exchange).await;
    let mut state = broker.publishing();
    let error = in_time(broker.publish(record("a", "1", "x"), None)).await;
    assert!(error.is_err(), "{error:?}");
    let down = in_time(state.wait_for(
        |state| matches!(state, Publishing::Down(cause) if cause.contains("no log is bound")),
    ));
    down.await.expect("down");
    // A server that declares restores the binding.
    connect(&declaring).await;
    until("publishing", async || {
        broker.publish(record("a", "2", "x"), None).await.ok()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn declaring_server_restores_deleted_objects() {
    let launch = launch(&amqp(), &["--declare", "--publish-timeout=60"]);
    let broker = connect(&launch).await;
    let mut attached = attach(&broker, Start::BeforeEnd(1)).await;
    let administrator = Administrator::new().await;
    let exchange = topology::exchange(&launch.room);
    administrator
        .unbind(&topology::log(&launch.room, &attached.epoch), &exchange)
        .await;
    publish(&broker, "a", ["unbound".to_owned()].into_iter()).await;
    administrator.delete_exchange(&exchange).await;
    publish(&broker, "a", ["without-exchange".to_owned()].into_iter()).await;
    assert_eq!(
        texts(&take(&mut attached.reader, 2).await),
        ["unbound", "without-exchange"]
    );
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn messages_wait_for_a_deleted_exchange() {
    let launch = launch(&amqp(), &["--declare", "--publish-timeout=60"]);
    let broker = connect(&launch).await;
    publish(&broker, "a", ["first".to_owned()].into_iter()).await;
    Administrator::new()
        .await
        .delete_exchange(&topology::exchange(&launch.room))
        .await;
    let waiting = tokio::spawn(broker.publish(record("a", "second", "second"), None));
    let mut attached = attach(&broker, Start::BeforeEnd(100)).await;
    in_time(waiting)
        .await
        .expect("no panic")
        .expect("stored in the end");
    assert_eq!(
        texts(&take(&mut attached.reader, 2).await),
        ["first", "second"]
    );
}

/// Sets an object of the broker by its management API.
async fn put(path: String, body: &str) {
    let api = std::env::var("PAPO_TEST_MANAGEMENT").expect("the management API");
    let request = reqwest::Client::new()
        .put(format!("{api}/api/{path}"))
        .basic_auth("guest", Some("guest"));
    let answer = request
        .body(body.to_owned())
        .send()
        .await
        .expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn rejected_record_does_not_stop_the_others() {
    let launch = launch(&amqp(), &["--declare", "--publish-timeout=60"]);
    let broker = connect(&launch).await;
    publish(&broker, "a", ["first".to_owned()].into_iter()).await;
    let mut state = broker.publishing();
    state.mark_unchanged();
    let send = |text: &str| broker.publish(record("a", text, text), None);
    // RabbitMQ's own max_message_size is 16 MiB.
    let long = record("a", "long", &"x".repeat(17 << 20));
    let numbers: Vec<String> = (0..200).map(|number: u32| number.to_string()).collect();
    let before: Vec<_> = numbers[..100].iter().map(|text| send(text)).collect();
    let rejected = [0, 1].map(|_| broker.publish(long.clone(), None));
    let after: Vec<_> = numbers[100..].iter().map(|text| send(text)).collect();
    for rejected in rejected {
        let error = in_time(rejected).await;
        assert!(matches!(error, Err(PublishError::Rejected(_))), "{error:?}");
    }
    for confirm in before.into_iter().chain(after) {
        in_time(confirm).await.expect("stored");
    }
    assert!(!state.has_changed().expect("publishing"), "no reconnection");
    // A record that was written twice may be stored twice, later than the first time.
    let mut attached = attach(&broker, Start::BeforeEnd(10_000)).await;
    let mut read: Vec<String> = Vec::new();
    while read.last().map(String::as_str) != Some("199") {
        let records = take(&mut attached.reader, 1).await;
        for text in texts(&records) {
            if !read.iter().any(|before| before == text) {
                read.push(text.to_owned());
            }
        }
    }
    let expected: Vec<String> = ["first".to_owned()].into_iter().chain(numbers).collect();
    assert_eq!(read, expected);
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and its API in PAPO_TEST_MANAGEMENT"]
async fn message_without_permission_is_rejected_for_good() {
    let (user, room) = (room(), room());
    put(
        format!("users/{user}"),
        r#"{"password":"secret","tags":""}"#,
    )
    .await;
    let all = r#"{"configure":".*","write":".*","read":".*"}"#;
    put(format!("permissions/%2f/{user}"), all).await;
    let url = amqp().replace("guest:guest", &format!("{user}:secret"));
    let arguments = ["--room", &room, "--broker", &url, "--declare"];
    let server = Server::start(&arguments, &[]).await;
    let (mut member, _) = Wire::join(&server, json!({})).await;
    let permit = async |keys: &str| {
        let exchange = format!("papo.default.{room}");
        let body = json!({ "exchange": exchange, "write": keys, "read": ".*" });
        put(format!("topic-permissions/%2f/{user}"), &body.to_string()).await;
    };
    permit("^signal").await;
    for number in 0..3 {
        let answer = member.ask(number, &json!(["message", "x"])).await;
        assert_eq!(answer["code"], json!("not_accepted"), "{answer}");
    }
    let (status, _) = server.get("/readyz").await.expect("an answer");
    assert_eq!(status, 200);
    permit(".*").await;
    let answer = member.ask(7, &json!(["message", "y"])).await;
    assert_eq!(answer["ok"], json!(true), "{answer}");
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and its API in PAPO_TEST_MANAGEMENT"]
async fn rotated_credentials_are_read_from_their_files() {
    let user = room();
    put(format!("users/{user}"), r#"{"password":"first","tags":""}"#).await;
    put(
        format!("permissions/%2f/{user}"),
        r#"{"configure":".*","write":".*","read":".*"}"#,
    )
    .await;
    let folder = std::env::temp_dir().join(&user);
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("username"), &user).expect("written");
    fs::write(folder.join("password"), "first\n").expect("written");

    let credentials = format!("--broker-credentials={}", folder.display());
    let direct = launch(
        &amqp(),
        &["--declare", "--publish-timeout=60", &credentials],
    );
    let (proxy, proxied) = behind_proxy(&direct).await;
    let broker = connect(&proxied).await;
    publish(&broker, "a", ["before".to_owned()].into_iter()).await;
    put(
        format!("users/{user}"),
        r#"{"password":"second","tags":""}"#,
    )
    .await;
    fs::write(folder.join("password"), "second\n").expect("written");
    proxy.cut();
    publish(&broker, "a", ["after".to_owned()].into_iter()).await;
    fs::remove_dir_all(folder).expect("removed");
}

/// Consumers of a queue, from the broker's management API.
async fn consumers(queue: &str) -> usize {
    let api = std::env::var("PAPO_TEST_MANAGEMENT").expect("the management API");
    let request = reqwest::Client::new()
        .get(format!("{api}/api/consumers/%2f"))
        .basic_auth("guest", Some("guest"));
    let answer = request.send().await.expect("an answer");
    let answer = answer.text().await.expect("a list");
    let all: Vec<serde_json::Value> = serde_json::from_str(&answer).expect("JSON");
    all.iter()
        .filter(|consumer| consumer["queue"]["name"] == queue)
        .count()
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and its API in PAPO_TEST_MANAGEMENT"]
async fn server_without_members_does_not_read_the_log() {
    let (room, url) = (room(), amqp());
    let arguments = [
        "--room",
        &room,
        "--broker",
        &url,
        "--declare",
        "--reader-idle-timeout=1",
    ];
    let busy = Server::start(&arguments, &[]).await;
    let (mut member, history) = Wire::join(&busy, json!({})).await;
    let idle = Server::start(&arguments, &[]).await;
    let epoch = history["epoch"].as_str().expect("an epoch");
    let log = format!("papo.default.{room}.log.{epoch}");
    let consumed_by = async |count: usize| {
        until("expected number of consumers", async || {
            (consumers(&log).await == count).then_some(())
        })
        .await;
    };
    consumed_by(1).await;
    let answer = member.ask(1, &json!(["message", "x"])).await;
    assert_eq!(answer["ok"], json!(true));
    let (newcomer, history) = Wire::join(&idle, json!({})).await;
    assert_eq!(history["messages"][0]["text"], json!("x"), "{history}");
    consumed_by(2).await;
    drop(newcomer);
    consumed_by(1).await;
    let ready = idle.get("/readyz").await.expect("an answer");
    assert_eq!(ready.0, 200, "{}", ready.1);
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn reader_attaches_while_records_are_published() {
    let launch = launch(&amqp(), &["--declare"]);
    let (publisher, reader) = (connect(&launch).await, connect(&launch).await);
    let publishing = tokio::spawn(async move {
        for number in 0_u32.. {
            publish(&publisher, "a", [number.to_string()].into_iter()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    attach(&reader, Start::BeforeEnd(10)).await;
    publishing.abort();
}

/// A member that has left costs the broker nothing more.
#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and its API in PAPO_TEST_MANAGEMENT"]
async fn dropped_read_ends_its_consumer() {
    let launch = launch(&amqp(), &["--declare", "--publish-timeout=100"]);
    let broker = connect(&launch).await;
    publish(&broker, "a", (0..3_000).map(|number| number.to_string())).await;
    let attached = attach(&broker, Start::BeforeEnd(1)).await;
    let log = topology::log(&launch.room, &attached.epoch);
    let mut reads = JoinSet::new();
    for _ in 0..8 {
        let (broker, epoch) = (broker.clone(), attached.epoch.clone());
        // They wait for records that never come.
        reads.spawn(async move { broker.read(&epoch, 0..1_000_000).await });
    }
    drop(attached);
    let consumed_by = async |count: usize| {
        until("expected number of consumers", async || {
            (consumers(&log).await == count).then_some(())
        })
        .await;
    };
    consumed_by(8).await;
    reads.abort_all();
    consumed_by(0).await;
}

/// A client may hang up at any moment of a read, also before the broker has answered.
#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP and its API in PAPO_TEST_MANAGEMENT"]
async fn read_dropped_at_any_moment_ends_its_consumer() {
    let launch = launch(&amqp(), &["--declare", "--publish-timeout=100"]);
    let broker = connect(&launch).await;
    publish(&broker, "a", (0..1_000).map(|number| number.to_string())).await;
    let epoch = attach(&broker, Start::BeforeEnd(1)).await.epoch;
    let log = topology::log(&launch.room, &epoch);
    let (mut dropped, mut moment) = (0, Duration::ZERO);
    while dropped < 500 {
        moment += Duration::from_micros(200);
        match tokio::time::timeout(moment, broker.read(&epoch, 0..1_000)).await {
            Err(_) => dropped += 1,
            Ok(records) => {
                assert_eq!(records.expect("records").len(), 1_000);
                moment = Duration::ZERO;
            }
        }
    }
    until("no consumer of dropped reads", async || {
        (consumers(&log).await == 0).then_some(())
    })
    .await;
}

/// A node that is cut off from the others keeps its connections, with their heartbeats.
#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn publisher_leaves_a_node_that_confirms_nothing() {
    let direct = launch(&amqp(), &["--declare", "--publish-timeout=100"]);
    let (proxies, launch) = behind_two_proxies(&direct).await;
    let broker = connect(&launch).await;
    publish(&broker, "a", ["before".to_owned()].into_iter()).await;
    let silent = used(&proxies, || broker.connections(), "publisher").await;
    silent.forward_only_heartbeats();
    publish(&broker, "a", ["after".to_owned()].into_iter()).await;
    let publisher = broker.connections().remove(0);
    assert_ne!(publisher.node, Some(silent.address.to_string()));
    assert_eq!(publisher.moves, [("stalled", 1)]);
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn reader_leaves_a_node_that_delivers_nothing() {
    let direct = launch(&amqp(), &["--declare"]);
    let (proxies, launch) = behind_two_proxies(&direct).await;
    let urls: Vec<&str> = launch.broker.iter().map(BrokerUrl::as_str).collect();
    let (room, urls) = (room(), urls.join(","));
    let server = Server::start(&["--room", &room, "--declare", "--broker", &urls], &[]).await;
    let (mut member, _) = Wire::join(&server, json!({})).await;
    // Both connections may use one node: then the publisher moves first.
    let stats = async || {
        let (_, stats) = server.get("/stats").await.expect("an answer");
        serde_json::from_str::<serde_json::Value>(&stats).expect("JSON")
    };
    let reader = stats().await["broker"]["reader"].clone();
    let silent = proxies
        .iter()
        .find(|proxy| reader == json!(proxy.address.to_string()))
        .expect("the reader's proxy");
    silent.forward_only_heartbeats();
    let answer = member.ask(1, &json!(["message", "x"])).await;
    assert_eq!(answer["ok"], json!(true), "{answer}");
    assert_ne!(stats().await["broker"]["reader"], reader);
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    let moved = r#"papo_broker_moves_total{connection="reader",reason="stalled"} 1"#;
    assert!(metrics.contains(moved), "{metrics}");
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn server_uses_another_node_when_one_does_not_answer() {
    let direct = launch(&amqp(), &["--declare", "--publish-timeout=100"]);
    let (proxies, launch) = behind_two_proxies(&direct).await;
    proxies[0].lose_answers(true);
    for _ in 0..4 {
        let broker = connect(&launch).await;
        publish(&broker, "a", ["x".to_owned()].into_iter()).await;
        for connection in broker.connections() {
            assert_eq!(connection.node, Some(proxies[1].address.to_string()));
        }
    }
}

/// A node of a cluster may not know yet what was declared on another one.
#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn log_that_a_node_does_not_know_yet_is_kept() {
    let direct = launch(&amqp(), &["--declare"]);
    let epoch = attach(&connect(&direct).await, Start::BeforeEnd(1))
        .await
        .epoch;
    let log = topology::log(&direct.room, &epoch);
    // Three looks find nothing, and the one after the declaration of another log does.
    for looks in 1..=3 {
        let (proxy, proxied) = behind_proxy(&direct).await;
        proxy.hide_queue(&log, looks);
        let broker = connect(&proxied).await;
        let attached = attach(&broker, Start::BeforeEnd(1)).await;
        assert_eq!(attached.epoch, epoch, "{looks} looks");
    }
}

#[tokio::test]
async fn urls_of_different_brokers_are_rejected() {
    let launch = launch("amqp://a/one,amqp://b/other", &["--declare"]);
    let error = RabbitMq::connect(&launch).await.expect_err("two brokers");
    let error = error.to_string();
    assert!(error.contains("amqp://a/one and amqp://b/other"), "{error}");
}

/// On the only worker, lapin's tasks run when the reader waits, the newest first.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn reader_whose_calls_are_cancelled_reads_on() {
    const RECORDS: u32 = 10_000;
    let launch = launch(&amqp(), &["--declare"]);
    let broker = connect(&launch).await;
    publish(&broker, "a", (0..RECORDS).map(|number| number.to_string())).await;
    let mut attached = attach(&broker, Start::BeforeEnd(100_000)).await;
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        while texts(&read).last() != Some(&"9999") {
            // Each call goes as far as it can, and is cancelled.
            let mut idle = 0;
            while idle < 3 {
                match attached.reader.next().now_or_never() {
                    Some(records) => read.append(&mut records.expect("the reader goes on")),
                    None => idle += 1,
                }
            }
            // One that has to ask the broker is not.
            let more = timeout(Duration::from_secs(1), attached.reader.next()).await;
            if let Ok(records) = more {
                read.append(&mut records.expect("the reader goes on"));
            }
        }
        read
    });
    let read = in_time(reading).await.expect("no panic");
    let numbers: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
    assert_eq!(texts(&read), numbers);
}
