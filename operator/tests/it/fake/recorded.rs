//! How a real API server answers requests that it does not fulfil, as `record.sh` has recorded it, with the names at hand put in.

use serde_json::{Value, json};

/// Status code and body. A body that is a string is plain text.
type Answer = (u16, Value);

/// The answers as they were recorded: name, status code, body.
pub(crate) const RECORDED: [(&str, u16, &str); 12] = [
    (
        "missing-group",
        404,
        include_str!("recorded/missing-group.404"),
    ),
    (
        "missing-kind",
        404,
        include_str!("recorded/missing-kind.404"),
    ),
    (
        "missing-object",
        404,
        include_str!("recorded/missing-object.404"),
    ),
    (
        "missing-namespace",
        404,
        include_str!("recorded/missing-namespace.404"),
    ),
    ("forbidden", 403, include_str!("recorded/forbidden.403")),
    ("exists", 409, include_str!("recorded/exists.409")),
    ("conflict", 409, include_str!("recorded/conflict.409")),
    ("expired", 410, include_str!("recorded/expired.410")),
    // A patch of the wrong type is answered with 500, as if a retry could help.
    ("malformed", 500, include_str!("recorded/malformed.500")),
    ("invalid", 422, include_str!("recorded/invalid.422")),
    (
        "too-many-requests",
        429,
        include_str!("recorded/too-many-requests.429"),
    ),
    ("unavailable", 500, include_str!("recorded/unavailable.500")),
];

/// The bytes that go over the wire.
pub(crate) fn body(answer: &Value) -> String {
    answer
        .as_str()
        .map_or_else(|| answer.to_string(), str::to_owned)
}

pub(crate) fn answer(name: &str) -> Answer {
    let (_, code, body) = RECORDED
        .iter()
        .find(|(known, ..)| *known == name)
        .expect("it was recorded");
    let text = || Value::String((*body).to_owned());
    (*code, serde_json::from_str(body).unwrap_or_else(|_| text()))
}

pub(crate) fn missing_group() -> Answer {
    answer("missing-group")
}

pub(crate) fn unavailable(code: u16) -> Answer {
    let (_, mut status) = answer("unavailable");
    status["code"] = json!(code);
    (code, status)
}

/// About a kind, in the path of which request does not matter.
pub(crate) fn forbidden(path: &str, plural: &str) -> Answer {
    let (code, mut status) = answer("forbidden");
    rename(&mut status, group(path), plural, None);
    (code, status)
}

pub(crate) fn missing_object(path: &str) -> Answer {
    of_object("missing-object", path)
}

pub(crate) fn conflict(path: &str) -> Answer {
    of_object("conflict", path)
}

pub(crate) fn exists(path: &str) -> Answer {
    of_object("exists", path)
}

fn of_object(name: &str, path: &str) -> Answer {
    let (code, mut status) = answer(name);
    let mut steps = path.rsplit('/');
    let (object, plural) = (steps.next().unwrap_or_default(), steps.next());
    rename(
        &mut status,
        group(path),
        plural.unwrap_or_default(),
        Some(object),
    );
    (code, status)
}

/// The API group of a path; empty for the core.
fn group(path: &str) -> &str {
    let grouped = path.strip_prefix("/apis/");
    grouped
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_default()
}

/// Puts another kind and object into the place of those that were recorded.
fn rename(status: &mut Value, group: &str, plural: &str, object: Option<&str>) {
    let old = |key: &str| {
        status["details"][key]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let (old_kind, old_group, old_name) = (old("kind"), old("group"), old("name"));
    let resource = |plural: &str, group: &str| match group {
        "" => plural.to_owned(),
        group => format!("{plural}.{group}"),
    };
    let mut message = status["message"].as_str().unwrap_or_default().to_owned();
    message = message.replace(&resource(&old_kind, &old_group), &resource(plural, group));
    message = message.replace(&format!("\"{old_group}\""), &format!("\"{group}\""));
    message = message.replace(&format!("\"{old_kind}\""), &format!("\"{plural}\""));
    if let Some(object) = object {
        message = message.replace(&format!("\"{old_name}\""), &format!("\"{object}\""));
        status["details"]["name"] = json!(object);
    }
    status["message"] = json!(message);
    status["details"]["kind"] = json!(plural);
    status["details"]["group"] = json!(group);
}
