//! What the operator reads of the management API's answers, and nothing else: a field that is not here costs no memory, whatever a broker puts
//! into it.

use papo_protocol::topology::{MAX_AGE_ARGUMENT, MAX_BYTES_ARGUMENT, PREFIX, STREAM_TYPE};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny},
};
use serde_json::{Map, Value, value::RawValue};

use super::rows::Rows;
use crate::{broker::FoundLog, desired::LogArguments};

/// The largest map of arguments or of a policy's definition that is looked at, in bytes. Ours have a hundred.
const MAP_MAX: usize = 16 << 10;
/// The longest `max-age` that counts, in bytes: it is kept for each log. The spec has shorter ones.
const MAX_AGE_MAX: usize = 32;
/// The longest name of an object, in bytes: RabbitMQ has no longer ones.
const NAME_MAX: usize = 255;
/// The most tags of a user that are read.
const TAGS_MAX: usize = 16;

/// An exchange.
#[derive(Debug, Deserialize)]
pub(in crate::apply) struct Exchange {
    pub(super) name: String,
    /// `topic`, `fanout` and others.
    #[serde(rename = "type")]
    pub(in crate::apply) kind: String,
    pub(in crate::apply) durable: bool,
    pub(in crate::apply) auto_delete: bool,
    arguments: Option<Box<RawValue>>,
}

impl Exchange {
    /// Whether it is of the kind that rooms have.
    pub(super) fn is_durable_topic(&self) -> bool {
        self.kind == "topic" && self.durable && !self.auto_delete
    }

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
    arguments: Option<Box<RawValue>>,
    /// The nodes that it is on.
    members: Option<Vec<IgnoredAny>>,
    /// Those of them on which it runs.
    online: Option<Vec<IgnoredAny>>,
}

impl Queue {
    /// How many messages it holds, as far as the broker knows.
    pub(super) fn messages(&self) -> u64 {
        self.messages.unwrap_or(0)
    }

    /// What is known of it as a log.
    pub(super) fn log(&self) -> FoundLog {
        FoundLog {
            arguments: log_arguments(self.arguments.as_deref()),
            members: count(self.members.as_deref()),
            online: count(self.online.as_deref()),
        }
    }
}

/// An object of which only the name matters.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// A binding.
#[derive(Debug, Deserialize)]
pub(super) struct Binding {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) routing_key: String,
}

/// A policy.
#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) name: String,
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
    pub(super) name: String,
    pub(super) password_hash: Option<String>,
    #[serde(deserialize_with = "tags")]
    pub(super) tags: Vec<String>,
    limits: Option<Box<RawValue>>,
}

/// The first tags in alphabetical order. A user with more than ours is not as it should be, however many there are.
fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let mut tags = Vec::new();
    Rows::at_most(TAGS_MAX, |tag| tags.push(tag)).deserialize(deserializer)?;
    tags.sort();
    Ok(tags)
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
    pub(super) user: String,
    pub(super) configure: String,
    pub(super) write: String,
    pub(super) read: String,
}

/// A queue in the definitions.
#[derive(Debug, Deserialize)]
pub(super) struct QueueDefinition {
    pub(super) name: String,
    /// Some versions of RabbitMQ leave it out.
    #[serde(rename = "type")]
    kind: Option<String>,
    arguments: Option<Box<RawValue>>,
}

impl QueueDefinition {
    /// What is known of it as a log; `None` if it is no stream.
    pub(super) fn log(&self) -> Option<FoundLog> {
        let (argument, stream) = STREAM_TYPE;
        let arguments = self.arguments.as_deref();
        let is_stream = match &self.kind {
            Some(kind) => kind == stream,
            None => map(arguments?)?.get(argument)? == stream,
        };
        is_stream.then(|| FoundLog {
            arguments: log_arguments(arguments),
            ..FoundLog::default()
        })
    }
}

/// The nodes of a queue in a list. A queue of another type than a stream may have none.
#[derive(Debug, Deserialize)]
pub(super) struct QueueReplicas {
    pub(super) name: String,
    #[serde(default)]
    pub(super) members: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    pub(super) online: Option<Vec<IgnoredAny>>,
}

/// Whether this is the name of an object of Papo. Only such names are kept.
pub(super) fn is_papos(name: &str) -> bool {
    name.starts_with(PREFIX) && name.len() <= NAME_MAX
}

/// What a log keeps by its arguments. Ones that we would not have written count as none: then a policy bounds the log.
fn log_arguments(arguments: Option<&RawValue>) -> LogArguments {
    let arguments = arguments.and_then(map).unwrap_or_default();
    let max_age = arguments.get(MAX_AGE_ARGUMENT).and_then(Value::as_str);
    LogArguments {
        max_bytes: arguments.get(MAX_BYTES_ARGUMENT).and_then(Value::as_u64),
        max_age: max_age
            .filter(|age| age.len() <= MAX_AGE_MAX)
            .map(str::to_owned),
    }
}

fn count(nodes: Option<&[IgnoredAny]>) -> Option<u32> {
    u32::try_from(nodes?.len()).ok()
}

fn map(raw: &RawValue) -> Option<Map<String, Value>> {
    let text = raw.get();
    if text.len() > MAP_MAX {
        return None;
    }
    serde_json::from_str(text).ok()
}
