//! What the operator reads of the management API's answers, and nothing else: a field that is not here costs no memory, whatever a broker puts
//! into it.

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

/// The largest map of arguments or of a policy's definition that is looked at, in bytes. Ours have a hundred.
const MAP_MAX: usize = 16 << 10;

/// An exchange.
#[derive(Debug, Deserialize)]
pub(in crate::apply) struct Exchange {
    /// `topic`, `fanout` and others.
    #[serde(rename = "type")]
    pub(in crate::apply) kind: String,
    pub(in crate::apply) durable: bool,
    pub(in crate::apply) auto_delete: bool,
    arguments: Option<Box<RawValue>>,
}

impl Exchange {
    /// A text among the arguments.
    pub(super) fn argument(&self, key: &str) -> Option<String> {
        match map(self.arguments.as_deref()?)?.remove(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

/// A queue or a stream.
#[derive(Debug, Deserialize)]
pub(in crate::apply) struct Queue {
    pub(in crate::apply) name: String,
    /// `stream`, `quorum`, `classic`.
    #[serde(rename = "type")]
    pub(in crate::apply) kind: String,
    /// Whether it ends with the connection that declared it.
    pub(super) exclusive: Option<bool>,
    /// Missing as long as the broker has not counted them.
    messages: Option<u64>,
}

impl Queue {
    /// How many messages it holds, as far as the broker knows.
    pub(super) fn messages(&self) -> u64 {
        self.messages.unwrap_or(0)
    }
}

/// An object of which only the name matters.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
}

/// A binding.
#[derive(Debug, Deserialize)]
pub(super) struct Binding {
    pub(super) source: String,
    pub(super) routing_key: String,
}

/// A policy.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) pattern: String,
    #[serde(rename = "apply-to")]
    pub(super) apply_to: String,
    definition: Box<RawValue>,
}

impl Policy {
    /// What it sets; `None` if that is nothing that we would have written.
    pub(super) fn definition(&self) -> Option<Map<String, Value>> {
        map(&self.definition)
    }
}

/// A user.
#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) password_hash: Option<String>,
    pub(super) tags: Vec<String>,
    limits: Option<Box<RawValue>>,
}

impl User {
    /// A limit by its name; `None` if it is not set.
    pub(super) fn limit(&self, name: &str) -> Option<u64> {
        map(self.limits.as_deref()?)?.get(name)?.as_u64()
    }
}

/// A user's permissions on a virtual host.
#[derive(Debug, Deserialize)]
pub(super) struct Permissions {
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
}

fn map(raw: &RawValue) -> Option<Map<String, Value>> {
    let text = raw.get();
    if text.len() > MAP_MAX {
        return None;
    }
    serde_json::from_str(text).ok()
}
