//! Faults of a RabbitMQ with three nodes. Each test starts its own.

use std::{path::PathBuf, process::Command};

use papo_protocol::Launch;
use papo_server::broker::{Attached, Broker, ReadError, Start, rabbitmq::RabbitMq};

use crate::fixture::{in_time, launch, publish, take, texts, until};

/// A cluster of three nodes, which ends with the test.
struct Cluster {
    handle: String,
    urls: Vec<String>,
    nodes: Vec<String>,
}

impl Cluster {
    async fn start() -> Self {
        tokio::task::spawn_blocking(|| {
            let started = script(&["start", "--nodes", "3"]);
            let value = |name: &str| {
                let lines = started.lines().filter_map(|line| line.split_once('='));
                let found = lines.into_iter().find(|(key, _)| *key == name);
                found.expect("a variable").1.to_owned()
            };
            let list = |name: &str| value(name).split(',').map(str::to_owned).collect();
            Self {
                handle: value("PAPO_TEST_RABBITMQ_HANDLE"),
                urls: list("PAPO_TEST_AMQP_NODES"),
                nodes: list("PAPO_TEST_RABBITMQ_HANDLES"),
            }
        })
        .await
        .expect("a cluster")
    }

    /// Kills the node at this host and port.
    fn kill(&self, node: &str) {
        let place = self.urls.iter().position(|url| url.contains(node));
        script(&["kill", &self.nodes[place.expect("a node of the cluster")]]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        script(&["stop", &self.handle]);
    }
}

fn script(arguments: &[&str]) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(root.join("../tests/rabbitmq/rabbitmq"))
        .args(arguments)
        .output()
        .expect("the script runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

async fn connect(launch: &Launch) -> RabbitMq {
    in_time(RabbitMq::connect(launch))
        .await
        .expect("a server starts")
}

async fn attach<T: Broker>(broker: &T, start: &Start) -> Attached<T::Reader> {
    until("reader", async || {
        match broker.attach(start.clone()).await {
            Ok(attached) => Some(attached),
            Err(ReadError::Unavailable(_)) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// The replicas of a new stream start one after the other: a node that has none yet is no reason to exit.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a RabbitMQ of three nodes"]
async fn servers_that_declare_together_on_three_nodes_agree_on_one_log() {
    let cluster = Cluster::start().await;
    for _ in 0..8 {
        let first = launch(&cluster.urls[0], &["--declare"]);
        let on = |node: usize| Launch {
            broker: vec![cluster.urls[node].parse().expect("valid")],
            ..first.clone()
        };
        let (two, three) = (on(1), on(2));
        let (a, b, c) = tokio::join!(connect(&first), connect(&two), connect(&three));
        let mut epochs = Vec::new();
        for broker in [a, b, c] {
            epochs.push(attach(&broker, &Start::BeforeEnd(1)).await.epoch);
        }
        epochs.dedup();
        assert_eq!(epochs.len(), 1, "{epochs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a RabbitMQ of three nodes"]
async fn killed_node_is_left_and_nothing_is_lost() {
    let cluster = Cluster::start().await;
    let arguments = ["--declare", "--publish-timeout=100"];
    let broker = connect(&launch(&cluster.urls.join(","), &arguments)).await;
    let number = |number: u32| number.to_string();
    publish(&broker, "a", (0..50).map(number)).await;
    let mut attached = attach(&broker, &Start::BeforeEnd(1_000)).await;
    let mut read = take(&mut attached.reader, 50).await;
    let node = |purpose: &str| {
        let mut connections = broker.connections().into_iter();
        connections
            .find(|connection| connection.purpose == purpose)?
            .node
    };
    let killed = node("reader").expect("a node");
    cluster.kill(&killed);
    publish(&broker, "a", (50..100).map(number)).await;
    let next = Start::At(attached.epoch.clone(), read[49].offset + 1);
    until("end of the reader", async || {
        in_time(papo_server::broker::Reader::next(&mut attached.reader))
            .await
            .err()
    })
    .await;
    let mut again = attach(&broker, &next).await;
    // What the publisher had to write again is there twice.
    let mut first: Vec<String> = Vec::new();
    while first.last().map(String::as_str) != Some("99") {
        for text in texts(&read) {
            if !first.iter().any(|before| before == text) {
                first.push(text.to_owned());
            }
        }
        if first.last().map(String::as_str) != Some("99") {
            read = take(&mut again.reader, 1).await;
        }
    }
    let expected: Vec<String> = (0..100).map(number).collect();
    assert_eq!(first, expected);
    assert_ne!(node("reader").expect("a node"), killed);
}
