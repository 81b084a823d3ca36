//! RabbitMQ's management API, as far as the operator uses it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use futures::StreamExt;
use k8s_openapi::ByteString;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Life;

#[derive(Clone)]
pub(crate) struct Broker {
    life: Arc<Mutex<Life>>,
    port: u16,
    connections: Arc<AtomicUsize>,
    huge_bytes: Arc<AtomicUsize>,
    state: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    /// Everything but bindings, by kind and name.
    objects: BTreeMap<(String, String), Value>,
    /// Source, destination.
    bindings: Vec<(String, String)>,
    writes: Vec<String>,
    requests: usize,
    /// How many of them were for a list.
    lists: usize,
    fault: Option<Fault>,
    /// As RabbitMQ 4.4.
    hides_hashes: bool,
    nodes: Vec<String>,
    definitions_size: usize,
    /// So many requests for the definitions are answered with 500.
    failing_definitions: usize,
}

/// What is wrong with the broker.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// It answers every request with this status code and words of its own.
    Status(u16),
    /// Each page of queues is full.
    EndlessPages,
    /// Each page of queues is full of empty logs with arguments of 8 kB.
    EndlessLogs,
    /// Each page of users has 155,000, whatever was asked for.
    ManyUsers,
    /// The definitions have 300,000 queues without a name.
    ManyQueues,
    /// Answers of so many bytes.
    Huge(usize),
    /// Each answer takes so long.
    Slow(Duration),
}

/// Words of the broker, which nobody must see.
pub(crate) const WORDS: &str = "the broker is on fire";

impl Broker {
    pub(crate) async fn start(life: Arc<Mutex<Life>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let broker = Self {
            life,
            port: listener.local_addr().expect("an address").port(),
            connections: Arc::default(),
            huge_bytes: Arc::default(),
            state: Arc::default(),
        };
        broker.set_nodes(&["rabbit@a"]);
        let connections = broker.connections.clone();
        let listener = listener.tap_io(move |_| {
            connections.fetch_add(1, Ordering::SeqCst);
        });
        let router = Router::new().fallback(answer).with_state(broker.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        broker
    }

    /// How many connections were ever made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The Secret that leads here.
    pub(crate) fn secret(&self) -> Value {
        let encode = |text: &str| ByteString(text.as_bytes().to_vec());
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "broker", "namespace": "papo"},
            "data": {"username": encode("admin"), "password": encode("secret"), "host": encode("127.0.0.1"), "managementPort": encode(&self.port.to_string())},
        })
    }

    pub(crate) fn put(&self, kind: &str, name: &str, object: Value) {
        self.inside(|inside| {
            inside
                .objects
                .insert((kind.to_owned(), name.to_owned()), object)
        });
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.inside(|inside| {
            inside
                .objects
                .get(&(kind.to_owned(), name.to_owned()))
                .cloned()
        })
    }

    pub(crate) fn remove(&self, kind: &str, name: &str) {
        self.inside(|inside| inside.remove(kind, name));
    }

    pub(crate) fn remove_bindings(&self) {
        self.inside(|inside| inside.bindings.clear());
    }

    pub(crate) fn remove_bindings_of(&self, exchange: &str) {
        self.inside(|inside| inside.bindings.retain(|(from, _)| from != exchange));
    }

    /// The definitions have at least so many bytes, as those of a virtual host with much else in it.
    pub(crate) fn set_definitions_size(&self, bytes: usize) {
        self.inside(|inside| inside.definitions_size = bytes);
    }

    /// So many requests for the definitions fail, as while a node restarts.
    pub(crate) fn fail_definitions(&self, times: usize) {
        self.inside(|inside| inside.failing_definitions = times);
    }

    /// Kinds and names of everything, bindings included.
    pub(crate) fn all(&self) -> Vec<String> {
        self.inside(|inside| {
            let objects = inside
                .objects
                .keys()
                .map(|(kind, name)| format!("{kind} {name}"));
            objects
                .chain(
                    inside
                        .bindings
                        .iter()
                        .map(|(from, to)| format!("binding {from} {to}")),
                )
                .collect()
        })
    }

    pub(crate) fn writes(&self) -> Vec<String> {
        self.inside(|inside| inside.writes.clone())
    }

    /// The nodes of the broker.
    pub(crate) fn set_nodes(&self, nodes: &[&str]) {
        let nodes = nodes.iter().map(|name| (*name).to_owned());
        self.inside(|inside| inside.nodes = nodes.collect());
    }

    /// Requests of all kinds so far.
    pub(crate) fn requests(&self) -> usize {
        self.inside(|inside| inside.requests)
    }

    /// Requests for a list so far: the broker goes through all its objects for each.
    pub(crate) fn lists(&self) -> usize {
        self.inside(|inside| inside.lists)
    }

    /// Answers nothing but errors from now on, or works again.
    pub(crate) fn set_down(&self, down: bool) {
        self.set_fault(down.then_some(Fault::Status(503)));
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.inside(|inside| inside.fault = fault);
    }

    /// Bytes of huge answers that were sent.
    pub(crate) fn huge_bytes(&self) -> usize {
        self.huge_bytes.load(Ordering::SeqCst)
    }

    /// An object that does not end before so many bytes, in pieces, without a length.
    fn huge(&self, bytes: usize) -> Response {
        const PIECE: usize = 1 << 20;
        let sent = self.huge_bytes.clone();
        let pieces = futures::stream::iter(0..bytes / PIECE).map(move |n| {
            sent.fetch_add(PIECE, Ordering::SeqCst);
            let mut piece = vec![b' '; PIECE];
            if n == 0 {
                piece[0] = b'{';
            }
            Ok::<_, std::io::Error>(piece)
        });
        Body::from_stream(pieces).into_response()
    }

    /// From now on users are shown without their password hashes.
    pub(crate) fn hide_password_hashes(&self) {
        self.inside(|inside| inside.hides_hashes = true);
    }

    fn inside<T>(&self, use_it: impl FnOnce(&mut Inside) -> T) -> T {
        use_it(&mut self.state.lock().expect("no panic"))
    }
}

impl Inside {
    fn remove(&mut self, kind: &str, name: &str) -> bool {
        self.bindings.retain(|(from, to)| {
            !(kind == "exchanges" && from == name || kind == "queues" && to == name)
        });
        if kind == "users" {
            // As RabbitMQ: permissions and limits go with their user.
            let limits = format!("{name} ");
            self.objects.retain(|(kind, of), _| {
                !(kind == "permissions" && of == name
                    || kind == "user-limits" && of.starts_with(&limits))
            });
        }
        self.objects
            .remove(&(kind.to_owned(), name.to_owned()))
            .is_some()
    }

    /// A user with its limits.
    fn user(&self, name: &str) -> Option<Value> {
        let mut user = self
            .objects
            .get(&("users".to_owned(), name.to_owned()))?
            .clone();
        let limits = self
            .objects
            .iter()
            .filter(|((kind, _), _)| kind == "user-limits");
        let limits = limits.filter_map(|((_, of), value)| {
            let limit = of.strip_prefix(name)?.strip_prefix(' ')?;
            Some((limit.to_owned(), value.clone()))
        });
        user["limits"] = Value::Object(limits.collect());
        if self.hides_hashes
            && let Some(fields) = user.as_object_mut()
        {
            fields.remove("password_hash");
        }
        Some(user)
    }

    /// All objects of a kind, by name.
    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = (&'a str, Value)> {
        let of_kind = self.objects.iter().filter(move |((of, _), _)| of == kind);
        of_kind.map(|((_, name), object)| {
            let mut object = object.clone();
            object["name"] = json!(name);
            (name.as_str(), object)
        })
    }

    /// The definitions of the virtual host: queues that end with their connections are not among them.
    fn definitions(&self) -> Value {
        let all = |kind| self.all(kind).map(|(_, object)| object);
        let queues: Vec<Value> = all("queues")
            .filter(|queue| queue["exclusive"] != true)
            .collect();
        let binding = |(from, to): &(String, String)| json!({"source": from, "destination": to, "destination_type": "queue", "routing_key": "message", "arguments": {}});
        let bindings: Vec<Value> = self.bindings.iter().map(binding).collect();
        let (exchanges, policies): (Vec<_>, Vec<_>) =
            (all("exchanges").collect(), all("policies").collect());
        json!({"rabbitmq_version": "4.3.6", "exchanges": exchanges, "queues": queues, "bindings": bindings, "policies": policies, "parameters": " ".repeat(self.definitions_size)})
    }
}

/// Which names a list is asked for, and which page.
struct NameQuery {
    part: String,
    is_regex: bool,
    page: usize,
    size: usize,
}

impl NameQuery {
    fn of(uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let value = |key: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(name, _)| *name == key);
            let value = found.map_or("", |(_, value)| value);
            percent_decode_str(value).decode_utf8_lossy().into_owned()
        };
        Self {
            part: value("name"),
            is_regex: value("use_regex") == "true",
            page: value("page").parse().unwrap_or(1),
            size: value("page_size").parse().unwrap_or(100),
        }
    }

    /// The page of these objects.
    fn page<'a>(&self, objects: impl Iterator<Item = (&'a str, Value)>) -> Response {
        let named = objects.filter(|(name, _)| self.matches(name));
        let all: Vec<Value> = named.map(|(_, object)| object).collect();
        let first = (self.page - 1) * self.size;
        if first > all.len() || first == all.len() && self.page > 1 {
            return StatusCode::BAD_REQUEST.into_response();
        }
        let items: Vec<&Value> = all.iter().skip(first).take(self.size).collect();
        Json(json!({"items": items, "page": self.page, "page_size": self.size, "item_count": items.len(), "total_count": all.len(), "filtered_count": all.len()})).into_response()
    }

    /// Of regular expressions it knows `^` and `\.`.
    fn matches(&self, name: &str) -> bool {
        if self.is_regex {
            let prefix = self.part.trim_start_matches('^').replace('\\', "");
            name.starts_with(&prefix)
        } else {
            name.contains(&self.part)
        }
    }
}

async fn answer(State(broker): State<Broker>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (method, path) = (parts.method, parts.uri.path().to_owned());
    let query = NameQuery::of(&parts.uri);
    let is_write = method != Method::GET;
    if !broker.life.lock().expect("no panic").answers(is_write) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let steps: Vec<String> = path
        .trim_start_matches("/api/")
        .split('/')
        .map(|step| percent_decode_str(step).decode_utf8_lossy().into_owned())
        .collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let fault = broker.inside(|inside| {
        inside.requests += 1;
        inside.fault
    });
    match fault {
        Some(Fault::Status(code)) => {
            let words = json!({"error": "internal", "reason": WORDS});
            let code = StatusCode::from_u16(code).expect("a code");
            return (code, Json(words)).into_response();
        }
        Some(Fault::Huge(bytes)) => return broker.huge(bytes),
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::EndlessPages) if !is_write && steps.as_slice() == ["queues", "/"] => {
            let page = vec![json!({"name": "another", "vhost": "/", "type": "quorum"}); 500];
            return Json(json!({"items": page, "page_size": 500})).into_response();
        }
        Some(Fault::EndlessLogs) if !is_write && steps.as_slice() == ["queues", "/"] => {
            return page_of_logs(query.page);
        }
        Some(Fault::ManyUsers) if steps.as_slice() == ["users"] => {
            return page_of_users(query.page);
        }
        Some(Fault::ManyQueues) if steps.as_slice() == ["definitions", "/"] => {
            return definitions_of_queues();
        }
        Some(_) | None => {}
    }
    broker.inside(|inside| {
        if is_write {
            inside.writes.push(format!("{method} {path}"));
        }
        match (method, steps.as_slice()) {
            (Method::GET, [kind @ ("queues" | "exchanges"), "/"]) => {
                inside.lists += 1;
                query.page(inside.all(kind))
            }
            (Method::GET, ["definitions", "/"]) => {
                inside.lists += 1;
                if inside.failing_definitions > 0 {
                    inside.failing_definitions -= 1;
                    return StatusCode::INTERNAL_SERVER_ERROR.into_response();
                }
                Json(inside.definitions()).into_response()
            }
            (Method::GET, ["vhosts", "/", "permissions"]) => {
                let all: Vec<Value> = inside.all("permissions").map(|(_, object)| object).collect();
                Json(all).into_response()
            }
            (Method::GET, ["users"]) => {
                let names = inside.all("users").map(|(name, _)| name);
                query.page(names.filter_map(|name| Some((name, inside.user(name)?))))
            }
            (Method::GET, ["nodes"]) => {
                let nodes: Vec<Value> = inside.nodes.iter().map(|name| json!({"name": name})).collect();
                Json(nodes).into_response()
            }
            (Method::GET, ["policies", "/"]) => {
                inside.lists += 1;
                let listed: Vec<&Value> = inside.objects.iter().filter(|((of, _), _)| of == "policies").map(|(_, object)| object).collect();
                Json(listed).into_response()
            }
            (Method::GET, ["users", name]) => match inside.user(name) {
                Some(user) => Json(user).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            },
            (Method::PUT, ["user-limits", user, limit @ ("max-connections" | "max-channels")]) => {
                inside.objects.insert(("user-limits".to_owned(), format!("{user} {limit}")), body["value"].clone());
                StatusCode::NO_CONTENT.into_response()
            }
            (Method::GET, ["queues", "/", queue, "bindings"]) => {
                let binding = |(from, to): &(String, String)| json!({"source": from, "destination": to, "vhost": "/", "destination_type": "queue", "routing_key": "message", "arguments": {}, "properties_key": "message"});
                let bindings: Vec<Value> = inside.bindings.iter().filter(|(_, to)| to == queue).map(binding).collect();
                Json(bindings).into_response()
            }
            (Method::POST, ["bindings", "/", "e", exchange, "q", queue]) => {
                inside.bindings.push(((*exchange).to_owned(), (*queue).to_owned()));
                StatusCode::CREATED.into_response()
            }
            (method, [kind, "/", name] | [kind @ "users", name]) => one(inside, &method, kind, name, body),
            _ => StatusCode::BAD_REQUEST.into_response(),
        }
    })
}

/// 500 logs of the room, with names that no other page has.
fn page_of_logs(page: usize) -> Response {
    let filler = "x".repeat(8_000);
    let log = |number: usize| {
        let name = format!("papo.team.geral.log.{:08x}", page * 500 + number);
        json!({"name": name, "type": "stream", "exclusive": false, "messages": page * 500 + number, "arguments": {"filler": filler}})
    };
    let logs: Vec<Value> = (0..500).map(log).collect();
    Json(json!({"items": logs, "page_size": 500})).into_response()
}

fn definitions_of_queues() -> Response {
    let queues = r#"{"name":""},"#.repeat(300_000);
    let rest = r#"{"name":""}],"bindings":[],"policies":[]}"#;
    format!(r#"{{"exchanges":[],"queues":[{queues}{rest}"#).into_response()
}

/// Four MiB of users. The first six pages have different names.
fn page_of_users(page: usize) -> Response {
    const USERS: usize = 155_000;
    let mut list = r#"{"items":["#.to_owned();
    for number in page * USERS..(page + 1) * USERS {
        // 27 bytes each.
        let name = number % (1 << 20);
        let end = if number % USERS == USERS - 1 {
            "]}"
        } else {
            ","
        };
        let user = format!(r#"{{"name":"{name:05x}","tags":[]}}{end}"#);
        list.push_str(&user);
    }
    list.into_response()
}

fn one(inside: &mut Inside, method: &Method, kind: &str, name: &str, mut body: Value) -> Response {
    let key = (kind.to_owned(), name.to_owned());
    match *method {
        Method::GET => match inside.objects.get(&key) {
            Some(object) => {
                let mut object = object.clone();
                object["name"] = json!(name);
                Json(object).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::DELETE if inside.remove(kind, name) => StatusCode::NO_CONTENT.into_response(),
        Method::DELETE => StatusCode::NOT_FOUND.into_response(),
        _ => {
            body["name"] = json!(name);
            body["vhost"] = json!("/");
            match kind {
                "queues" => {
                    body["type"] = body["arguments"]["x-queue-type"].clone();
                    let wanted = body["arguments"]["x-initial-cluster-size"].as_u64();
                    let nodes = inside
                        .nodes
                        .iter()
                        .take(wanted.map_or(1, |count| usize::try_from(count).expect("few")));
                    body["members"] = nodes.cloned().collect();
                    body["online"] = body["members"].clone();
                    body["exclusive"] = json!(false);
                }
                "users" => {
                    let tags = body["tags"].as_str().unwrap_or_default();
                    let tags = tags.split(',').filter(|tag| !tag.is_empty());
                    body["tags"] = tags.collect();
                }
                "permissions" => body["user"] = json!(name),
                _ => {}
            }
            // As RabbitMQ: declaring an exchange again does not change its arguments.
            if kind != "exchanges" || !inside.objects.contains_key(&key) {
                inside.objects.insert(key, body);
            }
            StatusCode::CREATED.into_response()
        }
    }
}
