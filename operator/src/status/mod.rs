//! A room's status: a pure function of what came back.

mod conditions;
mod route;
mod servers;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};

use crate::{
    apply::{LogOrigin, Observed, Outcome, Replicas},
    crd::{ChatRoomStatus, LogReplicas, condition},
    desired,
    error::{BrokerError, ClusterError},
    names,
    validate::{Invalid, Room},
};

use self::conditions::{ConditionState, state};
pub(crate) use self::servers::has_never_had_servers;

/// The status of a room after it was applied. `last` keeps the times of conditions that have not changed.
pub fn status(
    room: &Room,
    generation: Option<i64>,
    outcome: &Outcome,
    last: &ChatRoomStatus,
    now: Timestamp,
) -> ChatRoomStatus {
    let Outcome {
        broker,
        epoch,
        replicas,
        failures,
        observed,
    } = outcome;
    let Observed {
        deployment,
        pods,
        ingress,
        http_route,
    } = observed;
    let deployment = deployment.as_deref();
    // The servers run whether a route leads to them or not.
    let (route_failures, failures): (Vec<_>, Vec<_>) = failures
        .iter()
        .partition(|failure| failure.is_about_route());
    let available = failed(&failures).unwrap_or_else(|| servers::available(room, deployment, pods));
    let up_to_date = servers::up_to_date(room, deployment, pods);
    let conflict = room.host_conflict.as_ref();
    let route_accepted = conflict
        .map(|conflict| state(false, "HostConflict", conflict.to_string()))
        .or_else(|| failed(&route_failures))
        .or_else(|| route::accepted(room, ingress.as_deref(), http_route.as_deref()));
    let servers = deployment.and_then(|deployment| deployment.status.as_ref());
    let mut states = vec![
        (condition::ACCEPTED, state(true, "Valid", "")),
        (
            condition::BROKER_READY,
            broker_ready(broker, replicas.as_ref(), last),
        ),
        (condition::AVAILABLE, available),
        (condition::UP_TO_DATE, up_to_date),
    ];
    states.extend(route_accepted.map(|accepted| (condition::ROUTE_ACCEPTED, accepted)));
    ChatRoomStatus {
        observed_generation: generation,
        conditions: conditions(&states, generation, last, now),
        url: Some(desired::url(room)),
        hosts: room.addresses().iter().map(ToString::to_string).collect(),
        replicas: Some(servers.and_then(|servers| servers.replicas).unwrap_or(0)),
        ready_replicas: Some(
            servers
                .and_then(|servers| servers.ready_replicas)
                .unwrap_or(0),
        ),
        selector: Some(names::selector_text(&room.name)),
        epoch: epoch.as_ref().map(ToString::to_string),
        log_replicas: replicas
            .as_ref()
            .map(|replicas| replicas.count)
            .or(last.log_replicas),
    }
}

/// The state of a condition whose objects could not all be applied: the reason of the first failure, and what all of them say.
fn failed(failures: &[&ClusterError]) -> Option<ConditionState> {
    let reason = failures.first()?.reason();
    let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Some(state(false, reason, all.join("; ")))
}

/// The reason of a log that is on fewer nodes than it should be. The room works, and survives the loss of fewer nodes.
const FEW_REPLICAS: &str = "FewReplicas";

fn few_replicas(replicas: &Replicas) -> Option<ConditionState> {
    let Replicas { count, command } = replicas;
    let LogReplicas {
        desired, members, ..
    } = count;
    let message = || {
        format!(
            "the log is on {members} of {desired} nodes of the broker; for each of the others run on the broker: {command}"
        )
    };
    (members < desired).then(|| state(true, FEW_REPLICAS, message()))
}

fn broker_ready(
    broker: &Result<LogOrigin, BrokerError>,
    replicas: Option<&Replicas>,
    last: &ChatRoomStatus,
) -> ConditionState {
    if broker.is_ok()
        && let Some(few) = replicas.and_then(few_replicas)
    {
        return few;
    }
    let message = match broker {
        // What was said when the log was found or created stays, or the next reconcile would write the status again.
        Ok(LogOrigin::Known) => last
            .conditions
            .iter()
            .find(|known| known.type_ == condition::BROKER_READY && known.status == "True")
            .filter(|known| known.reason != FEW_REPLICAS)
            .map(|known| known.message.clone())
            .unwrap_or_default(),
        Ok(LogOrigin::Adopted) => "an existing log is continued".to_owned(),
        Ok(LogOrigin::Created) => "a new log was created".to_owned(),
        Err(error) => return state(false, error.reason(), error.to_string()),
    };
    state(true, "Synced", message)
}

/// The status of a room whose spec is invalid: everything else stays as it was.
pub fn invalid(
    invalid: &Invalid,
    generation: Option<i64>,
    last: &ChatRoomStatus,
    now: Timestamp,
) -> ChatRoomStatus {
    let accepted = state(false, "Invalid", invalid.to_string());
    unchanged_but_accepted(last, accepted, generation, now)
}

/// The status of a room that is paused: everything else stays as it was.
pub fn paused(generation: Option<i64>, last: &ChatRoomStatus, now: Timestamp) -> ChatRoomStatus {
    unchanged_but_accepted(
        last,
        state(true, "Paused", "spec.paused is set: nothing is changed"),
        generation,
        now,
    )
}

/// The status of a deleted room that stays because its broker cannot be cleared and the list of such rooms does not take it: everything else stays
/// as it was.
pub fn kept(message: &str, last: &ChatRoomStatus, now: Timestamp) -> ChatRoomStatus {
    let (generation, kept) = (
        last.observed_generation,
        state(false, "LeftoversNotRecorded", message),
    );
    let changed = [condition::READY, condition::BROKER_READY];
    let new = changed.map(|type_| conditions::condition(type_, &kept, generation, last, now));
    let others = last.conditions.iter();
    let others = others.filter(|condition| !changed.contains(&condition.type_.as_str()));
    ChatRoomStatus {
        conditions: new.into_iter().chain(others.cloned()).collect(),
        ..last.clone()
    }
}

/// The last status with another state of `Accepted`.
fn unchanged_but_accepted(
    last: &ChatRoomStatus,
    accepted: ConditionState,
    generation: Option<i64>,
    now: Timestamp,
) -> ChatRoomStatus {
    let known = |type_: &str| last.conditions.iter().find(|known| known.type_ == type_);
    let repeated = |type_| match known(type_) {
        Some(known) => ConditionState {
            status: match known.status.as_str() {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            },
            reason: "Unchanged",
            message: known.message.clone(),
        },
        None => ConditionState {
            status: None,
            reason: "NotTried",
            message: String::new(),
        },
    };
    let tried = [
        condition::BROKER_READY,
        condition::AVAILABLE,
        condition::UP_TO_DATE,
    ];
    let route = known(condition::ROUTE_ACCEPTED).map(|_| condition::ROUTE_ACCEPTED);
    let mut states = vec![(condition::ACCEPTED, accepted)];
    states.extend(
        tried
            .into_iter()
            .chain(route)
            .map(|type_| (type_, repeated(type_))),
    );
    ChatRoomStatus {
        observed_generation: generation,
        conditions: conditions(&states, generation, last, now),
        ..last.clone()
    }
}

/// Since when servers are starting or updating; `None` if none are.
pub fn rolling_out_since(status: &ChatRoomStatus) -> Option<Timestamp> {
    let conditions = status.conditions.iter();
    conditions
        .filter(|it| it.type_ != condition::READY && is_rollout_reason(&it.reason))
        .map(|it| it.last_transition_time.0)
        .min()
}

/// Whether nobody has to do anything about a condition.
pub(crate) fn is_fine(condition: &Condition) -> bool {
    let is_true = condition.status == "True" && condition.reason != FEW_REPLICAS;
    is_true || is_rollout_reason(&condition.reason)
}

/// Whether this is the reason of servers that are starting or updating, which needs no warning.
fn is_rollout_reason(reason: &str) -> bool {
    servers::ROLLOUT_REASONS.contains(&reason)
}

fn conditions(
    parts: &[(&str, ConditionState)],
    generation: Option<i64>,
    last: &ChatRoomStatus,
    now: Timestamp,
) -> Vec<Condition> {
    let obstacle = parts.iter().find(|(type_, part)| match part.status {
        Some(status) => !status,
        None => *type_ != condition::ROUTE_ACCEPTED,
    });
    let ready = match obstacle {
        None => state(true, "Ready", ""),
        Some((type_, part)) => ConditionState {
            status: Some(false),
            reason: part.reason,
            message: format!("{type_}: {}", part.message),
        },
    };
    std::iter::once((condition::READY, &ready))
        .chain(parts.iter().map(|(type_, part)| (*type_, part)))
        .map(|(type_, part)| conditions::condition(type_, part, generation, last, now))
        .collect()
}
