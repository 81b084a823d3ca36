//! A virtual host of the RabbitMQ that tests share, and what its management API says of it.

use std::time::Duration;

use k8s_openapi::ByteString;
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

/// How long a request may take, and what the broker does at once.
const LIMIT: Duration = Duration::from_secs(20);

pub(super) struct Vhost {
    pub(super) name: String,
    /// `HOST:PORT` of AMQP.
    pub(super) amqp: String,
    management: String,
    http: reqwest::Client,
}

fn variable(name: &str) -> String {
    let hint = "`tests/rabbitmq/rabbitmq run COMMAND` sets it";
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; {hint}"))
}

impl Vhost {
    pub(super) async fn create() -> Self {
        let amqp: reqwest::Url = variable("PAPO_TEST_AMQP").parse().expect("a URL");
        let vhost = Self {
            name: format!("test-{:016x}", rand::random::<u64>()),
            amqp: format!(
                "{}:{}",
                amqp.host_str().expect("a host"),
                amqp.port().expect("a port")
            ),
            management: variable("PAPO_TEST_MANAGEMENT"),
            http: reqwest::Client::builder()
                .timeout(LIMIT)
                .build()
                .expect("a client"),
        };
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        vhost.put("vhosts/VHOST", json!({})).await;
        vhost.put("permissions/VHOST/guest", all).await;
        vhost
    }

    pub(super) async fn delete(self) {
        self.call(Method::DELETE, "vhosts/VHOST", Value::Null).await;
    }

    /// The Secret that leads an operator here.
    pub(super) fn secret(&self) -> Value {
        let encode = |text: &str| ByteString(text.as_bytes().to_vec());
        let url: reqwest::Url = self.management.parse().expect("a URL");
        let port = url.port().expect("a port").to_string();
        let (host, amqp_port) = self.amqp.split_once(':').expect("a port");
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "broker", "namespace": "papo"},
            "data": {"username": encode("guest"), "password": encode("guest"), "host": encode(host), "port": encode(amqp_port), "managementPort": encode(&port), "vhost": encode(&self.name)},
        })
    }

    /// The exchange and the log of another room, and a queue as its servers have.
    pub(super) async fn put_other_room(&self) {
        let stream = json!({"durable": true, "arguments": {"x-queue-type": "stream"}});
        let topic = json!({"type": "topic", "durable": true});
        self.put("exchanges/VHOST/papo.team.other", topic).await;
        self.put("queues/VHOST/papo.team.other.log.0a", stream.clone())
            .await;
        self.put("queues/VHOST/papo.team.other.signal.00", stream)
            .await;
    }

    pub(super) async fn put_stream(&self, name: &str) {
        let stream = json!({"durable": true, "arguments": {"x-queue-type": "stream"}});
        self.put(&format!("queues/VHOST/{name}"), stream).await;
    }

    pub(super) async fn delete_other_room(&self) {
        for path in [
            "exchanges/VHOST/papo.team.other",
            "queues/VHOST/papo.team.other.log.0a",
            "queues/VHOST/papo.team.other.signal.00",
        ] {
            self.call(Method::DELETE, path, Value::Null).await;
        }
    }

    /// The names of all objects of a kind.
    pub(super) async fn names(&self, kind: &str) -> Vec<String> {
        let listed = self.get(&format!("{kind}/VHOST")).await;
        let names = listed.as_array().expect("a list").iter();
        names
            .map(|object| object["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    /// Name and type of the queues and exchanges under the names of the room's signal queues.
    pub(super) async fn leftovers(&self) -> Vec<(String, String)> {
        let mut leftovers = Vec::new();
        for kind in ["queues", "exchanges"] {
            let listed = self.get(&format!("{kind}/VHOST")).await;
            let objects = listed.as_array().expect("a list").iter();
            let ours = objects.filter(|object| {
                object["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with("papo.team.geral.signal."))
            });
            leftovers.extend(ours.map(|object| {
                let type_ = if kind == "queues" {
                    object["type"].as_str()
                } else {
                    Some("stream")
                };
                (
                    object["name"].to_string(),
                    type_.unwrap_or_default().to_owned(),
                )
            }));
        }
        leftovers
    }

    /// Bytes of messages in the largest queue of a type. The broker counts them every 5 s.
    pub(super) async fn largest_queue(&self, type_: &str) -> u64 {
        let (mut last, mut largest) = (0, 0);
        let counted = format!("{type_} queue whose messages are not counted");
        self.until(LIMIT, &counted, async || {
            let listed = self.get("queues/VHOST").await;
            let queues = listed.as_array().expect("a list").iter();
            let bytes = queues
                .filter(|queue| queue["type"] == type_)
                .map(|queue| queue["message_bytes"].as_u64().unwrap_or(0));
            last = largest;
            largest = bytes.max().unwrap_or(0);
            largest > 0 && last == largest
        })
        .await;
        largest
    }

    /// Publishes messages of so many bytes to the log.
    pub(super) async fn publish_messages(&self, exchange: &str, count: usize, bytes: usize) {
        let path = format!("exchanges/VHOST/{exchange}/publish");
        let message = json!({"properties": {}, "routing_key": "message", "payload": "x".repeat(bytes), "payload_encoding": "string"});
        for _ in 0..count {
            let answer = self.call(Method::POST, &path, message.clone()).await;
            assert_eq!(answer["routed"], true);
        }
    }

    /// Messages in a queue, once the broker has counted them.
    pub(super) async fn messages(&self, queue: &str) -> u64 {
        let mut counted = None;
        self.until(LIMIT, "queue that is not counted", async || {
            let last = counted;
            let queue = self.get(&format!("queues/VHOST/{queue}")).await;
            counted = queue["messages"].as_u64();
            counted.is_some() && counted == last
        })
        .await;
        counted.expect("it was counted")
    }

    /// The names of all users, of all virtual hosts.
    pub(super) async fn users(&self) -> Vec<String> {
        let listed = self.get("users").await;
        let users = listed.as_array().expect("a list").iter();
        users
            .map(|user| user["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    pub(super) async fn user(&self, name: &str) -> Value {
        self.get(&format!("users/{name}")).await
    }

    /// Polls a condition until it holds.
    pub(super) async fn until(
        &self,
        limit: Duration,
        what: &str,
        mut is_so: impl AsyncFnMut() -> bool,
    ) {
        let polled = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let polled = tokio::time::timeout(limit, polled).await;
        polled.unwrap_or_else(|_| panic!("after {limit:?} there still is a {what}"));
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, Value::Null).await
    }

    async fn put(&self, path: &str, object: Value) {
        self.call(Method::PUT, path, object).await;
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let path = path.replace("VHOST", &self.name);
        let request = self
            .http
            .request(method, format!("{}/api/{path}", self.management));
        let request = request
            .basic_auth("guest", Some("guest"))
            .header(CONTENT_TYPE, "application/json");
        let answer = request
            .body(body.to_string())
            .send()
            .await
            .expect("an answer");
        let status = answer.status();
        let text = answer.text().await.expect("an answer");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}
