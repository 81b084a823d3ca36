//! An API server, as far as the operator uses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    body::{Body as Answer, Bytes},
    http::{Method, Request, Response, Uri},
};
use futures::StreamExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{BROKER_SECRET, Life, ROOM, recorded};

#[derive(Clone)]
pub(crate) struct Cluster {
    life: Arc<Mutex<Life>>,
    state: Arc<Mutex<State>>,
    /// Ends the watches under way.
    watches_end: Arc<Notify>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    /// Events, which are not stored with the objects.
    events: Vec<Value>,
    requests: usize,
    rejections: BTreeMap<String, (u16, String)>,
    /// What was last applied to an object: a field that is not applied again goes.
    applied: BTreeMap<String, Value>,
    /// Kinds, by their plurals, that may be listed but not watched.
    rejected_watches: BTreeSet<String>,
    /// Paths whose requests get no answer.
    held: BTreeSet<String>,
    /// Paths whose next write is done, but not answered by a proxy in time.
    lost_answers: BTreeSet<String>,
    /// Paths that are answered by a proxy which does not know them.
    hidden: BTreeSet<String>,
    /// How many requests the proxy has answered.
    hidden_requests: usize,
    /// Kinds, by their plurals, that are not there or may not be used.
    rejected_kinds: BTreeMap<String, u16>,
}

impl Cluster {
    pub(crate) fn new(life: Arc<Mutex<Life>>) -> Self {
        Self {
            life,
            state: Arc::default(),
            watches_end: Arc::default(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.counted_client().0
    }

    /// A client, and how often it has asked for anything but a Lease.
    pub(crate) fn counted_client(&self) -> (Client, Arc<AtomicUsize>) {
        // A client of an operator that has died must stay dead.
        let (cluster, life) = (self.clone(), self.life.lock().expect("no panic").clone());
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (cluster, life, count) = (cluster.clone(), life.clone(), count.clone());
            async move {
                let (parts, body) = request.into_parts();
                if !parts.uri.path().contains("/leases") {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                if cluster.holds(parts.uri.path()) {
                    std::future::pending::<()>().await;
                }
                let body = body.collect_bytes().await?;
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let applies = parts
                    .headers
                    .get("content-type")
                    .is_some_and(|kind| kind == "application/apply-patch+yaml");
                let (code, answer) = if life.answers(parts.method != Method::GET) {
                    cluster.answer(&parts.method, &parts.uri, applies, body)
                } else {
                    (500, failure(500, "InternalError", "the operator is dead"))
                };
                let lost = parts.method != Method::GET && cluster.loses_answer(parts.uri.path());
                let (code, answer) = if lost {
                    (504, json!("Gateway Timeout"))
                } else {
                    (code, answer)
                };
                // A watch reports nothing after its list: tests change objects before operators start, or wait for the resync.
                let answer = if code == 200 && is_watch(&parts.uri) {
                    let ended = futures::stream::once(cluster.watches_end.clone().notified_owned());
                    Answer::from_stream(ended.filter_map(async |()| None::<io::Result<Bytes>>))
                } else {
                    Answer::from(recorded::body(&answer))
                };
                let response = Response::builder().status(code).body(answer);
                Ok::<_, kube::Error>(response.expect("a response"))
            }
        });
        (Client::new(service, "papo"), counted)
    }

    fn answer(&self, method: &Method, uri: &Uri, applies: bool, body: Value) -> (u16, Value) {
        let path = uri.path();
        let mut state = self.state.lock().expect("no panic");
        state.requests += 1;
        let (key, is_status) = path
            .strip_suffix("/status")
            .map_or((path, false), |key| (key, true));
        if state.hidden.contains(path) {
            state.hidden_requests += 1;
            return (404, json!("404 page not found"));
        }
        if is_watch(uri)
            && let Some(kind) = state
                .rejected_watches
                .iter()
                .find(|kind| path.split('/').any(|step| step == kind.as_str()))
        {
            return recorded::forbidden(path, kind);
        }
        let rejected = state
            .rejected_kinds
            .iter()
            .find(|(kind, _)| path.split('/').any(|step| step == kind.as_str()));
        match rejected {
            Some((_, 404)) => return recorded::missing_group(),
            Some((kind, 403)) => return recorded::forbidden(path, kind),
            Some((_, code)) => return recorded::unavailable(*code),
            None => {}
        }
        if *method != Method::GET {
            state.writes.push(format!("{method} {path}"));
            if let Some((code, message)) = state.rejections.get(key) {
                return (*code, failure(*code, "Invalid", message));
            }
        }
        if *method == Method::GET
            && let Some(items) = state.collection(path)
        {
            return (
                200,
                json!({"metadata": {"resourceVersion": "1"}, "items": items}),
            );
        }
        let there = state.objects.get(key).cloned();
        match *method {
            Method::GET => {
                there.map_or_else(|| recorded::missing_object(key), |object| (200, object))
            }
            Method::POST => match body["metadata"]["name"].as_str() {
                Some(name) if !path.ends_with("/events") => {
                    state.put_new(&format!("{path}/{name}"), body)
                }
                _ => {
                    state.events.push(body.clone());
                    (201, body)
                }
            },
            Method::PUT => match there {
                Some(there)
                    if there["metadata"]["resourceVersion"]
                        == body["metadata"]["resourceVersion"] =>
                {
                    let mut object = body;
                    bump(&mut object);
                    state.objects.insert(key.to_owned(), object.clone());
                    (200, object)
                }
                Some(_) => recorded::conflict(key),
                None => recorded::missing_object(key),
            },
            Method::DELETE => {
                state.objects.remove(key);
                state.applied.remove(key);
                there.map_or_else(|| recorded::missing_object(key), |object| (200, object))
            }
            _ => {
                let mut object = there.unwrap_or_else(|| json!({"metadata": {"uid": format!("uid of {key}"), "resourceVersion": "0", "generation": 1}}));
                if is_status {
                    object["status"] = body["status"].clone();
                } else {
                    if applies
                        && let Some(before) = state.applied.insert(key.to_owned(), body.clone())
                    {
                        withdraw(&mut object, &before, &body);
                    }
                    merge(&mut object, &body);
                }
                bump(&mut object);
                let finalizers = object["metadata"]["finalizers"]
                    .as_array()
                    .map_or(0, Vec::len);
                if object["metadata"]["deletionTimestamp"].is_string() && finalizers == 0 {
                    state.objects.remove(key);
                } else {
                    state.objects.insert(key.to_owned(), object.clone());
                }
                (200, object)
            }
        }
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state
            .lock()
            .expect("no panic")
            .objects
            .insert(path.to_owned(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state
            .lock()
            .expect("no panic")
            .objects
            .get(path)
            .cloned()
    }

    pub(crate) fn remove(&self, path: &str) -> Option<Value> {
        let mut state = self.state.lock().expect("no panic");
        state.applied.remove(path);
        state.objects.remove(path)
    }

    /// From now on the API server says 404 (it does not have the kind), 403 (the operator may not use it) or 5xx.
    pub(crate) fn reject_kind(&self, plural: &str, code: u16) {
        let mut state = self.state.lock().expect("no panic");
        state.rejected_kinds.insert(plural.to_owned(), code);
    }

    /// From now on the kind may be listed but not watched.
    pub(crate) fn reject_watch(&self, plural: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.rejected_watches.insert(plural.to_owned());
    }

    /// Ends all watches under way, as an API server does every few minutes. Their clients go on with new ones.
    pub(crate) fn end_watches(&self) {
        self.watches_end.notify_waiters();
    }

    pub(crate) fn accept_watch(&self, plural: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.rejected_watches.remove(plural);
    }

    /// From now on requests for this path get no answer at all.
    pub(crate) fn hold_answers(&self, path: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.held.insert(path.to_owned());
    }

    /// From now on a proxy answers requests for this path with a plain 404.
    pub(crate) fn hide(&self, path: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.hidden.insert(path.to_owned());
    }

    /// How many requests the proxy has answered.
    pub(crate) fn hidden_requests(&self) -> usize {
        self.state.lock().expect("no panic").hidden_requests
    }

    pub(crate) fn show(&self, path: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.hidden.remove(path);
    }

    /// The next write of this object is done, and a proxy says that it was not answered in time.
    pub(crate) fn lose_answer(&self, path: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.lost_answers.insert(path.to_owned());
    }

    /// Whether that write is still to come.
    pub(crate) fn will_lose_answer(&self, path: &str) -> bool {
        let state = self.state.lock().expect("no panic");
        state.lost_answers.contains(path)
    }

    fn loses_answer(&self, path: &str) -> bool {
        let mut state = self.state.lock().expect("no panic");
        state.lost_answers.remove(path)
    }

    fn holds(&self, path: &str) -> bool {
        let state = self.state.lock().expect("no panic");
        state.held.contains(path)
    }

    pub(crate) fn accept_kind(&self, plural: &str) {
        let mut state = self.state.lock().expect("no panic");
        state.rejected_kinds.remove(plural);
    }

    /// Changes an object as a user would.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).expect("the object");
        change(&mut object);
        bump(&mut object);
        self.put(path, object);
    }

    /// Rejects every write of an object.
    pub(crate) fn reject(&self, path: &str, code: u16, message: &str) {
        self.state
            .lock()
            .expect("no panic")
            .rejections
            .insert(path.to_owned(), (code, message.to_owned()));
    }

    pub(crate) fn accept(&self, path: &str) {
        self.state.lock().expect("no panic").rejections.remove(path);
    }

    /// All objects of a kind that bear the operator's label.
    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        let state = self.state.lock().expect("no panic");
        let of_kind = state.objects.iter().filter(|(path, object)| {
            path.contains(&format!("/{plural}/"))
                && object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "papo-operator"
        });
        of_kind.map(|(_, object)| object.clone()).collect()
    }

    /// All rooms.
    pub(crate) fn rooms(&self) -> Vec<Value> {
        let state = self.state.lock().expect("no panic");
        let rooms = state.objects.iter();
        rooms
            .filter(|(path, _)| path.contains("/chatrooms/"))
            .map(|(_, room)| room.clone())
            .collect()
    }

    /// Paths of everything below a namespace.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.state
            .lock()
            .expect("no panic")
            .objects
            .keys()
            .cloned()
            .collect()
    }

    pub(crate) fn writes(&self) -> Vec<String> {
        self.state.lock().expect("no panic").writes.clone()
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Value {
        json!(self.state.lock().expect("no panic").events)
    }

    /// Requests of all kinds so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.lock().expect("no panic").requests
    }

    pub(crate) fn status(&self) -> Value {
        self.get(ROOM)
            .map(|room| room["status"].clone())
            .unwrap_or_default()
    }

    /// A condition of the room as `status reason message`.
    pub(crate) fn condition(&self, type_: &str) -> (String, String, String) {
        self.condition_of(ROOM, type_)
    }

    /// A condition of any room; empty if it has none of this type.
    pub(crate) fn condition_of(&self, room: &str, type_: &str) -> (String, String, String) {
        let status = self.get(room).unwrap_or_default()["status"].clone();
        let found = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == type_)
            .cloned();
        let found = found.unwrap_or_default();
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// Every object, with what each run draws or counts differently left out.
    pub(crate) fn all(&self) -> Value {
        let mut objects = self.state.lock().expect("no panic").objects.clone();
        objects.remove(BROKER_SECRET); // the port in it is another one in each run
        for object in objects.values_mut() {
            object["metadata"]["resourceVersion"] = Value::Null;
            object["metadata"]["annotations"]["papo.chat/applied"] = Value::Null;
            object["data"]["password"] = Value::Null;
            object["data"]["session-key"] = Value::Null;
            for condition in object["status"]["conditions"]
                .as_array_mut()
                .into_iter()
                .flatten()
            {
                condition["lastTransitionTime"] = Value::Null;
                condition["message"] = Value::Null;
            }
        }
        json!(objects)
    }
}

impl State {
    /// The objects below the path of a kind, in one namespace or in all; `None` if it is the path of one object.
    fn collection(&self, path: &str) -> Option<Vec<Value>> {
        let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (["api", _, plural]
        | ["apis", _, _, plural]
        | ["api", _, "namespaces", _, plural]
        | ["apis", _, _, "namespaces", _, plural]) = steps.as_slice()
        else {
            return None;
        };
        let base = path.strip_suffix(plural)?;
        let below = self.objects.iter().filter(|(key, _)| {
            key.starts_with(base)
                && key
                    .rsplit_once('/')
                    .is_some_and(|(kind, _)| kind.ends_with(&format!("/{plural}")))
        });
        Some(below.map(|(_, object)| object.clone()).collect())
    }

    fn put_new(&mut self, key: &str, mut object: Value) -> (u16, Value) {
        if self.objects.contains_key(key) {
            return recorded::exists(key);
        }
        bump(&mut object);
        self.objects.insert(key.to_owned(), object.clone());
        (201, object)
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query()
        .is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// Takes away what was applied before and is not applied now.
fn withdraw(object: &mut Value, before: &Value, now: &Value) {
    let (Value::Object(fields), Value::Object(before)) = (object, before) else {
        return;
    };
    for (key, before) in before {
        match (fields.get_mut(key), now.get(key)) {
            (Some(field), Some(now)) => withdraw(field, before, now),
            (Some(_), None) => {
                fields.remove(key);
            }
            (None, _) => {}
        }
    }
}

/// As far as the operator's own fields go, applying is merging.
fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

fn bump(object: &mut Value) {
    let version = object["metadata"]["resourceVersion"]
        .as_str()
        .and_then(|version| version.parse::<u64>().ok())
        .unwrap_or(0);
    object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code})
}
