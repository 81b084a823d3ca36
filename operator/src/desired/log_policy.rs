//! The policy over a room's log: only a log whose own arguments say something else than the spec needs one.
//!
//! RabbitMQ applies each policy to each queue whenever any policy changes, so one policy for each room would make the work of the broker
//! quadratic. What a policy sets overrides the argument, up and down. What it leaves out stays as the argument says.

use papo_protocol::RoomName;
use serde_json::{Map, Value, json};

use crate::validate::Retention;

/// An age that no record reaches. A policy cannot take a `max-age` away that is among the stream's arguments.
const NO_MAX_AGE: &str = "999999Y";

/// A policy over all logs of the room: unlike a stream's arguments, it can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// Its name.
    pub name: String,
    /// Regular expression of the streams it is about.
    pub pattern: String,
    /// What they keep.
    pub retention: Retention,
}

/// What a log keeps by its own arguments, which never change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogArguments {
    /// RabbitMQ's `x-max-length-bytes`.
    pub max_bytes: Option<u64>,
    /// RabbitMQ's `x-max-age`.
    pub max_age: Option<String>,
}

impl LogArguments {
    /// The arguments of a log that is created with this retention.
    pub fn of(retention: &Retention) -> Self {
        let Retention { max_age, max_bytes } = retention;
        Self {
            max_bytes: Some(*max_bytes),
            max_age: max_age.clone(),
        }
    }
}

impl LogPolicy {
    /// The policy over the logs of a room. `logs` is a regular expression of their names.
    pub(super) fn new(room: &RoomName, logs: &str, retention: Retention) -> Self {
        Self {
            name: papo_protocol::topology::exchange(room),
            pattern: format!("^{logs}$"),
            retention,
        }
    }

    /// What the policy sets; `None` if the log needs none, because its arguments say the same.
    pub fn definition(&self, arguments: &LogArguments) -> Option<Map<String, Value>> {
        let Retention { max_age, max_bytes } = &self.retention;
        if *arguments == LogArguments::of(&self.retention) {
            return None;
        }
        let mut definition = Map::from_iter([("max-length-bytes".to_owned(), json!(max_bytes))]);
        let is_aged = arguments.max_age.is_some();
        let age = max_age.as_deref().or(is_aged.then_some(NO_MAX_AGE));
        if let Some(age) = age {
            definition.insert("max-age".to_owned(), json!(age));
        }
        Some(definition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(max_bytes: u64, max_age: Option<&str>) -> Retention {
        Retention {
            max_bytes,
            max_age: max_age.map(str::to_owned),
        }
    }

    fn definition(created: &Retention, desired: Retention) -> Option<Value> {
        let room = "team/geral".parse().expect("valid");
        let policy = LogPolicy::new(&room, "x", desired);
        policy
            .definition(&LogArguments::of(created))
            .map(Value::Object)
    }

    #[test]
    fn unchanged_retention_needs_no_policy() {
        for kept in [retention(1, None), retention(1, Some("7D"))] {
            assert_eq!(definition(&kept, kept.clone()), None);
        }
    }

    #[test]
    fn policy_overrides_all_that_the_arguments_set() {
        let (plain, aged) = (retention(1, None), retention(1, Some("7D")));
        for (created, desired, expected) in [
            (&plain, retention(2, None), json!({"max-length-bytes": 2})),
            (
                &plain,
                aged.clone(),
                json!({"max-length-bytes": 1, "max-age": "7D"}),
            ),
            (
                &aged,
                plain.clone(),
                json!({"max-length-bytes": 1, "max-age": NO_MAX_AGE}),
            ),
        ] {
            assert_eq!(definition(created, desired), Some(expected));
        }
    }

    #[test]
    fn log_without_arguments_is_bounded_by_its_policy() {
        let room = "team/geral".parse().expect("valid");
        let policy = LogPolicy::new(&room, "x", retention(1, None));
        let definition = policy.definition(&LogArguments::default());
        assert_eq!(
            definition.map(Value::Object),
            Some(json!({"max-length-bytes": 1}))
        );
    }
}
