//! An API server for as much as the operator asks of one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::{BROKER_SECRET, Life, ROOM};

#[derive(Clone)]
pub(crate) struct Cluster {
    life: Arc<Mutex<Life>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    writes: Vec<String>,
    refusals: BTreeMap<String, (u16, String)>,
}

impl Cluster {
    pub(crate) fn new(life: Arc<Mutex<Life>>) -> Self {
        Self {
            life,
            state: Arc::default(),
        }
    }

    pub(crate) fn client(&self) -> Client {
        // A client of an operator that has died must stay dead.
        let (cluster, life) = (self.clone(), self.life.lock().expect("no panic").clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (cluster, life) = (cluster.clone(), life.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                let (code, answer) = if life.hears(parts.method != Method::GET) {
                    cluster.answer(&parts.method, parts.uri.path(), body)
                } else {
                    (500, failure(500, "InternalError", "the operator is dead"))
                };
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, kube::Error>(response.expect("a response"))
            }
        });
        Client::new(service, "papo")
    }

    fn answer(&self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let mut state = self.state.lock().expect("no panic");
        let (key, is_status) = path
            .strip_suffix("/status")
            .map_or((path, false), |key| (key, true));
        if *method != Method::GET {
            state.writes.push(format!("{method} {path}"));
            if let Some((code, message)) = state.refusals.get(key) {
                return (*code, failure(*code, "Invalid", message));
            }
        }
        let there = state.objects.get(key).cloned();
        match *method {
            Method::GET => there.map_or_else(not_found, |object| (200, object)),
            Method::POST => (201, body),
            Method::DELETE => {
                state.objects.remove(key);
                there.map_or_else(not_found, |object| (200, object))
            }
            _ => {
                let mut object = there.unwrap_or_else(|| json!({"metadata": {"uid": format!("uid of {key}"), "resourceVersion": "0", "generation": 1}}));
                if is_status {
                    object["status"] = body["status"].clone();
                } else {
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
        self.state.lock().expect("no panic").objects.remove(path)
    }

    /// Changes an object as a user would.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).expect("the object");
        change(&mut object);
        bump(&mut object);
        self.put(path, object);
    }

    /// Refuses every write of an object.
    pub(crate) fn refuse(&self, path: &str, code: u16, message: &str) {
        self.state
            .lock()
            .expect("no panic")
            .refusals
            .insert(path.to_owned(), (code, message.to_owned()));
    }

    pub(crate) fn accept(&self, path: &str) {
        self.state.lock().expect("no panic").refusals.remove(path);
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

    pub(crate) fn status(&self) -> Value {
        self.get(ROOM)
            .map(|room| room["status"].clone())
            .unwrap_or_default()
    }

    /// A condition of the room as `status reason message`.
    pub(crate) fn condition(&self, type_: &str) -> (String, String, String) {
        let status = self.status();
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

fn not_found() -> (u16, Value) {
    (404, failure(404, "NotFound", "not found"))
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code})
}
