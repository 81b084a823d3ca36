//! Whether an object needs to be written, so that a steady state writes nothing.
//!
//! An object is written if its desired state has changed since it was last applied (an annotation keeps the digest of that state, which notices
//! fields that are no longer desired), or if somebody has changed one of the desired fields.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use crate::{names::APPLIED_ANNOTATION, quantity::thousandths};

/// Adds the digest of an object to its annotations.
pub(super) fn stamp(desired: &mut Value) {
    let digest = digest(&desired.to_string());
    desired["metadata"]["annotations"][APPLIED_ANNOTATION] = Value::String(digest);
}

/// A text that differs if the given one does. Another release of Rust may hash differently: then everything is applied once more, without effect.
pub(super) fn digest(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Whether `live` has every field of `desired` with an equal value.
pub(super) fn covers(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => {
            desired.iter().all(|(key, desired)| match live.get(key) {
                Some(live) if key == "resources" => same_amounts(live, desired),
                Some(live) => covers(live, desired),
                None => is_empty(desired),
            })
        }
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live
                    .iter()
                    .zip(desired)
                    .all(|(live, desired)| covers(live, desired))
        }
        _ => live == desired,
    }
}

/// The API server leaves out what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// As [`covers`], for requests and limits: the API server rewrites quantities (`1000m` becomes `1`).
fn same_amounts(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, desired)| {
            live.get(key)
                .is_some_and(|live| same_amounts(live, desired))
        }),
        (Value::String(live), Value::String(desired)) => {
            live == desired
                || thousandths(live).is_some_and(|live| Some(live) == thousandths(desired))
        }
        _ => live == desired,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_others_add_are_no_drift() {
        let desired = json!({"spec": {"replicas": 2, "ports": [{"port": 80}]}});
        let live = json!({"spec": {"replicas": 2, "ports": [{"port": 80, "nodePort": 3}], "clusterIP": "x"}, "status": {}});
        assert!(covers(&live, &desired));
    }

    #[test]
    fn changed_or_removed_fields_are_drift() {
        let desired = json!({"spec": {"replicas": 2, "ports": [{"port": 80}]}});
        for live in [
            json!({"spec": {"replicas": 3, "ports": [{"port": 80}]}}),
            json!({"spec": {"replicas": 2, "ports": []}}),
            json!({"spec": {"replicas": 2}}),
        ] {
            assert!(!covers(&live, &desired), "{live}");
        }
    }

    #[test]
    fn empty_fields_may_be_left_out() {
        let desired = json!({"spec": {"from": [{"namespaceSelector": {}}], "podSelector": {}}});
        assert!(covers(
            &json!({"spec": {"from": [{"namespaceSelector": {}}]}}),
            &desired
        ));
    }

    #[test]
    fn equal_quantities_are_no_drift() {
        for (live, desired) in [
            ("1", "1000m"),
            ("500m", "0.5"),
            ("1Gi", "1024Mi"),
            ("1536Mi", "1.5Gi"),
        ] {
            let resources = |amount: &str| json!({"resources": {"limits": {"x": amount}}});
            assert!(
                covers(&resources(live), &resources(desired)),
                "{live} {desired}"
            );
        }
        assert!(!covers(&json!({"value": "1"}), &json!({"value": "1000m"})));
    }

    #[test]
    fn changed_desired_state_has_another_digest() {
        let mut one = json!({"metadata": {}, "spec": {"a": 1}});
        let mut two = json!({"metadata": {}, "spec": {}});
        stamp(&mut one);
        stamp(&mut two);
        assert_ne!(one["metadata"], two["metadata"]);
        assert!(!covers(&one, &two));
    }
}
