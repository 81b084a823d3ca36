//! The reconcile of one room: validate, apply, report.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{Resource, ResourceExt, runtime::controller::Action};
use papo_protocol::Epoch;
use tokio::time::timeout;

use super::{
    context::{Context, Error, TIMEOUT},
    finalize,
    leftovers::clear_earlier,
    report::report,
};
use crate::{
    apply::{self, apply},
    crd::{ChatRoom, ChatRoomStatus, StoredRoom},
    error::BrokerError,
    finalizers,
    status::{self, status},
    validate::{Invalid, Room, validate},
};

/// The shortest and the longest requeue while servers are starting or updating. A watch reports most of that, but not what their pods wait for.
const ROLLOUT_REQUEUE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// The part of the time that a rollout has taken so far, after which its room is reconciled again.
const ROLLOUT_PART: u32 = 4;

/// A room that has waited for its turn on its broker for so long says so, and its servers are reconciled without the broker. A shorter wait is
/// not worth a change of the status: many rooms wait for a moment when the operator starts.
const BUSY_REPORTED_AFTER: Duration = Duration::from_secs(20);
/// The same while other rooms of the namespace's brokers have their turn: a thousand new rooms take a minute.
const BUSY_REPORTED_AT_LAST: Duration = Duration::from_mins(3);

/// Makes a room as its spec says, and reports its status.
pub async fn reconcile(stored: Arc<StoredRoom>, context: Arc<Context>) -> Result<Action, Error> {
    let began = Instant::now();
    let result = timeout(TIMEOUT, reconcile_in_time(&stored, &context))
        .await
        .unwrap_or(Err(Error::TimedOut));
    // A reconcile that hangs until its time-out is no progress: the operator must not look healthy because of it.
    if !matches!(result, Err(Error::TimedOut)) {
        context.progress.finished();
    }
    let metrics = &context.clients.metrics;
    // A room that waits for its turn is not reconciled yet, and has not failed.
    if !matches!(result, Err(Error::Busy(_))) {
        metrics.reconciled(began.elapsed(), result.is_ok());
    }
    if result.is_ok() {
        context.failures.reset(&stored.uid().unwrap_or_default());
    }
    result
}

async fn reconcile_in_time(stored: &StoredRoom, context: &Context) -> Result<Action, Error> {
    let chat_room = &stored.room;
    if chat_room.meta().deletion_timestamp.is_some() {
        return finalize::finalize(stored, context).await;
    }
    let last = context.reported.last(chat_room);
    let generation = chat_room.meta().generation;
    if chat_room.spec.paused == Some(true) {
        let status = status::paused(generation, &last, Timestamp::now());
        report(context, chat_room, &status).await?;
        return Ok(context.resync());
    }
    match read(stored, context) {
        Ok(room) => {
            let others = &context.rooms;
            let room = others
                .without_foreign_hosts(room, stored, &context.defaults)
                .await;
            apply_and_report(chat_room, &room, &last, context).await
        }
        Err(invalid) => {
            let status = status::invalid(&invalid, generation, &last, Timestamp::now());
            report(context, chat_room, &status).await?;
            // Only another spec can help, and that triggers a reconcile by itself.
            Ok(context.resync())
        }
    }
}

fn read(stored: &StoredRoom, context: &Context) -> Result<Room, Invalid> {
    if stored.unreadable.is_empty() {
        return validate(&stored.room, &context.defaults);
    }
    let problems: Vec<String> = stored.unreadable.iter().map(ToString::to_string).collect();
    Err(Invalid::Unreadable(problems.join("; ")))
}

async fn apply_and_report(
    chat_room: &ChatRoom,
    room: &Room,
    last: &ChatRoomStatus,
    context: &Context,
) -> Result<Action, Error> {
    let clients = &context.clients;
    if !finalizers::has(chat_room) {
        clients.metrics.cluster_write();
        finalizers::add(&clients.client, chat_room).await?;
    }
    if !clients.cache.is_ready_for(room).await {
        return Err(Error::Stopping);
    }
    let earlier = Box::pin(clear_earlier(room, context)).await;
    // On the heap: the requests of all children make it large.
    let outcome = Box::pin(apply(clients, room, epoch_of(last), earlier)).await;
    let limit = if clients.brokers.are_moving(&room.broker) {
        BUSY_REPORTED_AT_LAST
    } else {
        BUSY_REPORTED_AFTER
    };
    if matches!(outcome.broker, Err(BrokerError::Busy)) && context.failures.age(&room.uid) < limit {
        return Err(Error::Busy(BrokerError::Busy));
    }
    let generation = chat_room.meta().generation;
    let status = status(room, generation, &outcome, last, Timestamp::now());
    report(context, chat_room, &status).await?;
    if let Some(failure) = retryable_failure(&outcome) {
        return Err(Error::Incomplete(failure));
    }
    Ok(match early_requeue(&outcome, &status, Timestamp::now()) {
        Some(requeue) => Action::requeue(requeue.min(context.resync)),
        None => context.resync(),
    })
}

/// The requeue while servers are starting or updating. Without an observed Deployment its kind is not watched, and the room is reconciled when the watch
/// works.
fn early_requeue(
    outcome: &apply::Outcome,
    status: &ChatRoomStatus,
    now: Timestamp,
) -> Option<Duration> {
    let since = status::rolling_out_since(status)?;
    outcome.observed.deployment.as_ref()?;
    let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let (shortest, longest) = ROLLOUT_REQUEUE;
    Some((age / ROLLOUT_PART).clamp(shortest, longest))
}

/// The epoch that the last status names.
fn epoch_of(last: &ChatRoomStatus) -> Option<Epoch> {
    last.epoch.as_ref()?.parse().ok()
}

/// The first failure that a retry may fix. A kind that the cluster does not have, or that the operator may not watch, needs no retry: its
/// rooms are reconciled when its watch works.
fn retryable_failure(outcome: &apply::Outcome) -> Option<String> {
    let broker = outcome.broker.as_ref().err().map(ToString::to_string);
    let cluster = outcome
        .failures
        .iter()
        .find(|failure| !failure.waits_for_a_watch());
    broker.or_else(|| cluster.map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::{
        api::apps::v1::Deployment,
        apimachinery::pkg::apis::meta::v1::{Condition, Time},
    };

    use super::*;
    use crate::{
        apply::{LogOrigin, Observed, Outcome},
        cache::Unwatched,
        crd::condition,
        error::{ClusterError, Problem},
    };

    fn outcome(failures: Vec<ClusterError>, deployment: Option<Arc<Deployment>>) -> Outcome {
        Outcome {
            broker: Ok(LogOrigin::Known),
            epoch: None,
            replicas: None,
            failures,
            observed: Observed {
                deployment,
                ..Observed::default()
            },
        }
    }

    fn unwatched(reason: Unwatched) -> ClusterError {
        ClusterError {
            kind: "Deployment".to_owned(),
            name: "chat-geral".to_owned(),
            problem: Problem::Unwatched(reason),
        }
    }

    fn starting() -> ChatRoomStatus {
        let available = Condition {
            type_: condition::AVAILABLE.to_owned(),
            status: "False".to_owned(),
            reason: "NotStarted".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        ChatRoomStatus {
            conditions: vec![available],
            ..ChatRoomStatus::default()
        }
    }

    #[test]
    fn starting_servers_are_reconciled_early_only_if_they_are_watched() {
        let requeue = |outcome: &Outcome, status: &ChatRoomStatus, seconds: i64| {
            let now = Timestamp::from_second(seconds).expect("a time");
            early_requeue(outcome, status, now).map(|requeue| requeue.as_secs())
        };
        let watched = outcome(Vec::new(), Some(Arc::default()));
        // The longer it takes, the less often.
        for (seconds, expected) in [(-1, 5), (0, 5), (20, 5), (40, 10), (240, 60), (86_400, 60)] {
            assert_eq!(
                requeue(&watched, &starting(), seconds),
                Some(expected),
                "{seconds} s"
            );
        }
        let unwatched = outcome(vec![unwatched(Unwatched::KindMissing)], None);
        assert_eq!(requeue(&unwatched, &starting(), 0), None);
        assert_eq!(requeue(&watched, &ChatRoomStatus::default(), 0), None);
    }

    #[test]
    fn unwatched_kind_is_retried_only_if_it_was_not_listed() {
        for (reason, is_retried) in [
            (Unwatched::KindMissing, false),
            (Unwatched::Forbidden("no".to_owned()), false),
            (Unwatched::NotListed("503".to_owned()), true),
        ] {
            let failure = retryable_failure(&outcome(vec![unwatched(reason)], None));
            assert_eq!(failure.is_some(), is_retried, "{failure:?}");
        }
    }
}
