//! Tells whether an object needs writing, so that a steady state writes nothing.
//!
//! Two questions: has what we want changed since we applied it (its digest is kept in an annotation, so that a field that is no longer wanted
//! is noticed too), and has somebody changed a field that we want otherwise?

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;

use crate::names::APPLIED_ANNOTATION;

/// Adds the digest of an object to its annotations.
pub(super) fn stamp(wanted: &mut Value) {
    // Another release of Rust may hash otherwise: then everything is applied once more, without effect.
    let mut hasher = DefaultHasher::new();
    wanted.to_string().hash(&mut hasher);
    let digest = format!("{:016x}", hasher.finish());
    wanted["metadata"]["annotations"][APPLIED_ANNOTATION] = Value::String(digest);
}

/// Whether everything in `wanted` is so in `live`. What the API server or others have added does not matter.
pub(super) fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) if key == "resources" => same_amounts(live, wanted),
                Some(live) => covers(live, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len()
                && live
                    .iter()
                    .zip(wanted)
                    .all(|(live, wanted)| covers(live, wanted))
        }
        _ => live == wanted,
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
fn same_amounts(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted
            .iter()
            .all(|(key, wanted)| live.get(key).is_some_and(|live| same_amounts(live, wanted))),
        (Value::String(live), Value::String(wanted)) => {
            live == wanted || amount(live).is_some_and(|live| Some(live) == amount(wanted))
        }
        _ => live == wanted,
    }
}

/// A quantity in thousandths.
fn amount(text: &str) -> Option<u128> {
    const UNITS: [(&str, u128); 13] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("Ei", 1 << 60),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
        ("E", 1_000_000_000_000_000_000),
        ("", 1),
    ];
    let (text, divisor) = text
        .strip_suffix('m')
        .map_or((text, 1), |rest| (rest, 1_000));
    let (number, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some(digits.checked_mul(unit)?.checked_mul(1_000)? / divisor / scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_add_is_no_drift() {
        let wanted = json!({"spec": {"replicas": 2, "ports": [{"port": 80}]}});
        let live = json!({"spec": {"replicas": 2, "ports": [{"port": 80, "nodePort": 3}], "clusterIP": "x"}, "status": {}});
        assert!(covers(&live, &wanted));
    }

    #[test]
    fn what_others_change_or_remove_is_drift() {
        let wanted = json!({"spec": {"replicas": 2, "ports": [{"port": 80}]}});
        for live in [
            json!({"spec": {"replicas": 3, "ports": [{"port": 80}]}}),
            json!({"spec": {"replicas": 2, "ports": []}}),
            json!({"spec": {"replicas": 2}}),
        ] {
            assert!(!covers(&live, &wanted), "{live}");
        }
    }

    #[test]
    fn what_is_empty_may_be_left_out() {
        let wanted = json!({"spec": {"from": [{"namespaceSelector": {}}], "podSelector": {}}});
        assert!(covers(
            &json!({"spec": {"from": [{"namespaceSelector": {}}]}}),
            &wanted
        ));
    }

    #[test]
    fn the_same_amount_of_memory_is_written_in_several_ways() {
        for (live, wanted) in [
            ("1", "1000m"),
            ("500m", "0.5"),
            ("1Gi", "1024Mi"),
            ("1536Mi", "1.5Gi"),
        ] {
            let resources = |amount: &str| json!({"resources": {"limits": {"x": amount}}});
            assert!(
                covers(&resources(live), &resources(wanted)),
                "{live} {wanted}"
            );
        }
        assert_ne!(amount("1G"), amount("1Gi"));
        assert!(!covers(&json!({"value": "1"}), &json!({"value": "1000m"})));
    }

    #[test]
    fn another_wish_has_another_digest() {
        let mut one = json!({"metadata": {}, "spec": {"a": 1}});
        let mut two = json!({"metadata": {}, "spec": {}});
        stamp(&mut one);
        stamp(&mut two);
        assert_ne!(one["metadata"], two["metadata"]);
        assert!(!covers(&one, &two));
    }
}
