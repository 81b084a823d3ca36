//! One pass over a room, and when to make the next one.
//!
//! A pass that succeeds is repeated after the resync period, because brokers tell nobody when something is taken from them. One that fails
//! is repeated with a delay that doubles, per room: a dead broker slows its own rooms down and no others. The room's own status is not
//! a reason for a pass, or each pass would cause the next.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt,
        controller::{Action, Config, Controller},
        events::Recorder,
        predicates,
        reflector::store,
        watcher,
    },
};
use papo_protocol::Epoch;
use papo_telemetry::Readiness;
use rand::RngExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{self, World, apply},
    backoff::WatchBackoff,
    cache::{self, Cache, Shown, Writers},
    config::Defaults,
    crd::{ChatRoom, ChatRoomStatus},
    desired, finalize,
    progress::{Progress, Watchdog},
    report,
    status::{self, status},
    validate::validate,
};

/// The longest that a reconcile may take: more than all requests to a slow broker together, so that only one that hangs is ended.
const TIMEOUT: Duration = Duration::from_mins(3);
/// The longest delay after a failure: what a room may lag behind a broker that has come back.
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// The delay after the first failure.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// When to look again at servers that are on their way. Most of it is heard of; what their pods wait for is not.
const NEXT_LOOK: Duration = Duration::from_secs(5);

/// What a pass needs.
pub struct Context {
    /// Where effects go.
    pub world: World,
    /// Who tells events.
    pub recorder: Recorder,
    /// What rooms get unless they say otherwise.
    pub defaults: Defaults,
    /// When a room in which nothing has changed is looked at again.
    pub resync: Duration,
    /// How long a broker that cannot be cleared keeps a deleted room from going.
    pub cleanup_timeout: Duration,
    /// How often rooms have failed in a row, by identity.
    pub failures: Failures,
    /// When a reconcile has last finished.
    pub progress: Progress,
}

/// How often rooms have failed in a row, by identity.
#[derive(Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    fn reset(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// The delay before the next attempt: between half of and the whole of what has doubled with every failure.
    fn next_delay(&self, uid: &str) -> Duration {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_default();
        let delay = FIRST_DELAY
            .saturating_mul(1 << (*count).min(10))
            .min(LONGEST_DELAY);
        *count = count.saturating_add(1);
        delay.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

/// Why a pass has to be repeated soon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is not as it should be; the status says what.
    #[error("{0}")]
    Incomplete(String),
    /// The room itself could not be written.
    #[error("the room could not be written: {}", crate::answer::message(.0))]
    Room(#[from] kube::Error),
    /// It took longer than [`TIMEOUT`].
    #[error("not finished after {} s", TIMEOUT.as_secs())]
    TimedOut,
    /// The watches have ended.
    #[error("the operator is stopping")]
    Stopping,
}

/// Makes a room as it should be, and tells how it is.
pub async fn reconcile(chat_room: Arc<ChatRoom>, context: Arc<Context>) -> Result<Action, Error> {
    let began = Instant::now();
    let result = timeout(TIMEOUT, pass(&chat_room, &context))
        .await
        .unwrap_or(Err(Error::TimedOut));
    // Only a reconcile that comes to an end by itself is progress.
    if !matches!(result, Err(Error::TimedOut)) {
        context.progress.finished();
    }
    context
        .world
        .metrics
        .reconciled(began.elapsed(), result.is_ok());
    if result.is_ok() {
        context.failures.reset(&chat_room.uid().unwrap_or_default());
    }
    result
}

async fn pass(chat_room: &ChatRoom, context: &Context) -> Result<Action, Error> {
    let Context {
        world, defaults, ..
    } = context;
    if chat_room.meta().deletion_timestamp.is_some() {
        return finalize::finalize(chat_room, context).await;
    }
    let before = chat_room.status.clone().unwrap_or_default();
    let generation = chat_room.meta().generation;
    if chat_room.spec.paused == Some(true) {
        let status = status::paused(generation, &before, Timestamp::now());
        report::report(context, chat_room, &status).await?;
        return Ok(resync(context));
    }
    let room = match validate(chat_room, defaults) {
        Ok(room) => room,
        Err(invalid) => {
            let status = status::refused(&invalid, generation, &before, Timestamp::now());
            report::report(context, chat_room, &status).await?;
            // Only another spec can help, and that is a reason for a pass by itself.
            return Ok(resync(context));
        }
    };
    finalize::hold(chat_room, context).await?;
    if !world.cache.is_ready_for(&room).await {
        return Err(Error::Stopping);
    }

    let outcome = apply(world, &room, recorded(&before)).await;
    let status = status(&room, generation, &outcome, &before, Timestamp::now());
    report::report(context, chat_room, &status).await?;
    match trouble(&outcome) {
        // What is heard of by a watch needs no requeue.
        None if status::is_moving(&status) && outcome.seen.deployment.is_some() => {
            Ok(Action::requeue(NEXT_LOOK.min(context.resync)))
        }
        None => Ok(resync(context)),
        Some(trouble) => Err(Error::Incomplete(trouble)),
    }
}

/// The epoch of the last status.
pub(crate) fn recorded(before: &ChatRoomStatus) -> Option<Epoch> {
    before.epoch.as_ref()?.parse().ok()
}

/// What a retry may mend. A kind that the cluster does not have, or that may not be watched, is reconciled when its watch works.
fn trouble(outcome: &apply::Outcome) -> Option<String> {
    let broker = outcome.broker.as_ref().err().map(ToString::to_string);
    let cluster = outcome
        .failures
        .iter()
        .find(|failure| !failure.waits_for_a_watch());
    broker.or_else(|| cluster.map(ToString::to_string))
}

/// Rooms that were made together do not stay in step.
pub(crate) fn resync(context: &Context) -> Action {
    Action::requeue(context.resync.mul_f64(rand::rng().random_range(0.8..=1.2)))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that `Controller::run` asks for"
)]
fn after_failure(chat_room: Arc<ChatRoom>, error: &Error, context: Arc<Context>) -> Action {
    let delay = context
        .failures
        .next_delay(&chat_room.uid().unwrap_or_default());
    // The end of a room's patience is kept to the second, not to the next attempt after it.
    let delay = finalize::patience_left(&chat_room, &context).map_or(delay, |left| delay.min(left));
    let room = format!(
        "{}/{}",
        chat_room.namespace().unwrap_or_default(),
        chat_room.name_any()
    );
    tracing::warn!(room, %error, ?delay, "a room is not as it should be");
    Action::requeue(delay)
}

/// What a controller is to look after, and how.
pub struct Scope {
    /// One namespace; all if `None`.
    pub namespace: Option<String>,
    /// How many rooms are worked on at once.
    pub concurrency: u16,
    /// How long rooms may wait without any reconcile finishing.
    pub stall_timeout: Duration,
}

/// The objects of a namespace, or of all.
pub(crate) fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        api(client, self.namespace.as_deref())
    }

    fn http_routes(&self, client: &Client) -> Api<kube::core::DynamicObject> {
        let resource = desired::http_route_resource();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }
}

/// Looks after the rooms of a scope until `shutdown`; passes under way are finished.
pub async fn run(
    scope: Scope,
    client: Client,
    context: impl FnOnce(Cache) -> Context,
    readiness: &Readiness,
    shutdown: CancellationToken,
) {
    let (cache, writers) = Cache::new(&client);
    let context = Arc::new(context(cache));
    let metrics = context.world.metrics.clone();
    let shown = |kind: &str| {
        let namespace = scope.namespace.as_deref();
        Shown::new(kind.to_owned(), namespace, readiness, &metrics)
    };
    let Writers {
        deployments,
        services,
        network_policies,
        pod_disruption_budgets,
        ingresses,
        http_routes,
        recovered,
    } = writers;
    let (rooms, writer) = store();
    let watchdog = Watchdog {
        rooms: rooms.clone(),
        namespace: scope.namespace.clone().unwrap_or_default(),
        limit: scope.stall_timeout,
        latch: readiness.latch("progress"),
        metrics: metrics.clone(),
    };
    let changed = cache::relisting(scope.api::<ChatRoom>(&client), watcher::Config::default())
        .backoff(WatchBackoff::default())
        .reflect(writer)
        .inspect(cache::show::<ChatRoom>(
            shown("ChatRoom"),
            readiness.latch("rooms"),
        ))
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers),
            PredicateConfig::default(),
        );
    let config = Config::default().concurrency(scope.concurrency);
    let controller = Controller::for_stream(changed, rooms)
        .owns_stream(deployments.watch(scope.api(&client), shown("Deployment")))
        .owns_stream(services.watch(scope.api(&client), shown("Service")))
        .owns_stream(network_policies.watch(scope.api(&client), shown("NetworkPolicy")))
        .owns_stream(pod_disruption_budgets.watch(scope.api(&client), shown("PodDisruptionBudget")))
        .owns_stream(ingresses.watch(scope.api(&client), shown("Ingress")))
        .owns_stream_with(
            http_routes.watch(scope.http_routes(&client), shown("HTTPRoute")),
            desired::http_route_resource(),
        )
        .reconcile_all_on(recovered)
        .with_config(config)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, after_failure, context.clone())
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a pass failed");
            }
            std::future::ready(())
        });
    tokio::select! {
        () = controller => {}
        () = watchdog.run(&context.progress) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_after_failures_doubles_up_to_a_bound_and_is_per_room() {
        let failures = Failures::default();
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let delay = failures.next_delay("a").as_secs_f64();
            assert!(
                (expected / 2.0..=expected).contains(&delay),
                "{delay} {expected}"
            );
        }
        assert!(failures.next_delay("b") <= FIRST_DELAY);
        failures.reset("a");
        assert!(failures.next_delay("a") <= FIRST_DELAY);
    }
}
