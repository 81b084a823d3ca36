//! What users read about a room: a pure function of what came back.

mod exposure;
mod servers;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{
    apply::{LogNews, Outcome, Seen},
    crd::{ChatRoomStatus, condition},
    desired, names,
    validate::{Invalid, Room},
};

/// The longest message: what the API server takes in a condition.
const MESSAGE_MAX: usize = 4_096;

/// What is said of one condition.
#[derive(Clone, Debug)]
struct Verdict {
    holds: Option<bool>,
    reason: &'static str,
    message: String,
}

fn verdict(holds: bool, reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict {
        holds: Some(holds),
        reason,
        message: message.into(),
    }
}

/// The status of a room after a pass. `before` keeps the times of conditions that have not changed.
pub fn status(
    room: &Room,
    generation: Option<i64>,
    outcome: &Outcome,
    before: &ChatRoomStatus,
    now: Timestamp,
) -> ChatRoomStatus {
    let Outcome {
        broker,
        epoch,
        failures,
        seen,
    } = outcome;
    let Seen {
        deployment,
        pods,
        ingress,
        http_route,
    } = seen;
    let deployment = deployment.as_deref();
    let accepted = verdict(true, "Valid", "");
    let broker = match broker {
        Ok(LogNews::Known) => verdict(true, "Synced", ""),
        Ok(LogNews::Adopted) => verdict(true, "Synced", "an existing log is continued"),
        Ok(LogNews::Created) => verdict(true, "Synced", "a new log was made"),
        Err(error) => verdict(false, error.reason(), error.to_string()),
    };
    let available = match failures.first() {
        Some(first) => {
            let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
            verdict(false, first.reason(), all.join("; "))
        }
        None => servers::available(room, deployment, pods),
    };
    let updated = servers::updated(room, deployment, pods);
    let exposed = exposure::exposed(room, ingress.as_deref(), http_route.as_deref());
    let servers = deployment.and_then(|deployment| deployment.status.as_ref());
    let mut parts = vec![
        (condition::ACCEPTED, accepted),
        (
            condition::BROKER_READY,
            keep_message(broker, condition::BROKER_READY, before),
        ),
        (condition::AVAILABLE, available),
        (condition::UP_TO_DATE, updated),
    ];
    parts.extend(exposed.map(|exposed| (condition::ROUTE_ACCEPTED, exposed)));
    ChatRoomStatus {
        observed_generation: generation,
        conditions: conditions(&parts, generation, before, now),
        url: Some(desired::url(room)),
        replicas: Some(servers.and_then(|servers| servers.replicas).unwrap_or(0)),
        ready_replicas: Some(
            servers
                .and_then(|servers| servers.ready_replicas)
                .unwrap_or(0),
        ),
        selector: Some(names::selector_text(&room.name)),
        epoch: epoch.as_ref().map(ToString::to_string),
    }
}

/// The status of a room whose spec is refused: everything else stays as it was.
pub fn refused(
    invalid: &Invalid,
    generation: Option<i64>,
    before: &ChatRoomStatus,
    now: Timestamp,
) -> ChatRoomStatus {
    let refusal = verdict(false, "Invalid", invalid.to_string());
    held(before, refusal, generation, now)
}

/// The status of a room that is left alone: everything else stays as it was.
pub fn paused(generation: Option<i64>, before: &ChatRoomStatus, now: Timestamp) -> ChatRoomStatus {
    held(
        before,
        verdict(true, "Paused", "spec.paused is set: nothing is changed"),
        generation,
        now,
    )
}

/// Says something new about the spec alone.
fn held(
    before: &ChatRoomStatus,
    accepted: Verdict,
    generation: Option<i64>,
    now: Timestamp,
) -> ChatRoomStatus {
    let known = |type_: &str| before.conditions.iter().find(|known| known.type_ == type_);
    let last = |type_| match known(type_) {
        Some(known) => Verdict {
            holds: match known.status.as_str() {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            },
            reason: "Unchanged",
            message: known.message.clone(),
        },
        None => Verdict {
            holds: None,
            reason: "NotTried",
            message: String::new(),
        },
    };
    let tried = [
        condition::BROKER_READY,
        condition::AVAILABLE,
        condition::UP_TO_DATE,
    ];
    let exposed = known(condition::ROUTE_ACCEPTED).map(|_| condition::ROUTE_ACCEPTED);
    let mut parts = vec![(condition::ACCEPTED, accepted)];
    parts.extend(
        tried
            .into_iter()
            .chain(exposed)
            .map(|type_| (type_, last(type_))),
    );
    ChatRoomStatus {
        observed_generation: generation,
        conditions: conditions(&parts, generation, before, now),
        ..before.clone()
    }
}

/// Whether the servers are on their way to what the spec says, so that a look is worth while before anything is heard of them.
pub fn is_moving(status: &ChatRoomStatus) -> bool {
    let mut told = status.conditions.iter();
    told.any(|told| told.type_ != condition::READY && is_moving_reason(&told.reason))
}

/// Whether this is the reason of servers that are on their way, which is nothing to be warned of.
pub(crate) fn is_moving_reason(reason: &str) -> bool {
    servers::MOVING.contains(&reason)
}

/// What made the log stays said until something else is to be said: else the next pass would write the status again.
fn keep_message(verdict: Verdict, type_: &str, before: &ChatRoomStatus) -> Verdict {
    let known = before
        .conditions
        .iter()
        .find(|known| known.type_ == type_ && known.status == "True");
    match known {
        Some(known) if verdict.holds == Some(true) && verdict.message.is_empty() => Verdict {
            message: known.message.clone(),
            ..verdict
        },
        _ => verdict,
    }
}

fn conditions(
    parts: &[(&str, Verdict)],
    generation: Option<i64>,
    before: &ChatRoomStatus,
    now: Timestamp,
) -> Vec<Condition> {
    let obstacle = parts.iter().find(|(type_, part)| match part.holds {
        Some(holds) => !holds,
        None => *type_ != condition::ROUTE_ACCEPTED,
    });
    let ready = match obstacle {
        None => verdict(true, "Ready", ""),
        Some((type_, part)) => Verdict {
            holds: Some(false),
            reason: part.reason,
            message: format!("{type_}: {}", part.message),
        },
    };
    std::iter::once((condition::READY, &ready))
        .chain(parts.iter().map(|(type_, part)| (*type_, part)))
        .map(|(type_, part)| told(type_, part, generation, before, now))
        .collect()
}

fn told(
    type_: &str,
    part: &Verdict,
    generation: Option<i64>,
    before: &ChatRoomStatus,
    now: Timestamp,
) -> Condition {
    let status = match part.holds {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let known = before
        .conditions
        .iter()
        .find(|known| known.type_ == type_ && known.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: part.reason.to_owned(),
        message: part.message.chars().take(MESSAGE_MAX).collect(),
        observed_generation: generation,
        last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
    }
}
