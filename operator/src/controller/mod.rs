//! When rooms are reconciled: on changes of a room or its children, after the resync period, and with a growing delay after a failure.
//!
//! The resync is needed because a broker reports nothing when somebody removes something from it. The delay after failures is per room: a broker
//! that does not answer slows its own rooms down and no others. The status of a room does not trigger a reconcile, or each would cause the next.

mod context;
mod finalize;
mod leftovers;
mod reconcile;
mod report;

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DynamicObject, NamespaceResourceScope},
    runtime::{
        Predicate, PredicateConfig, WatchStreamExt,
        controller::{Action, Config, Controller},
        predicates,
        reflector::Store,
        watcher,
    },
};
use papo_telemetry::Readiness;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    backoff::WatchBackoff,
    cache::{self, Cache, WatchReporter, Writers},
    clients,
    crd::StoredRoom,
    desired,
    metrics::Metrics,
    progress::{FORGET_PERIOD, Watchdog},
    rooms::ScopeWriter,
};

pub use context::{Context, Error};
pub use leftovers::Retries;
pub use reconcile::reconcile;
pub use report::Reported;

/// Which rooms a controller reconciles, and how.
pub struct Scope {
    /// One namespace; all if `None`.
    pub namespace: Option<String>,
    /// How many rooms are reconciled concurrently.
    pub concurrency: u16,
    /// How long rooms may wait without any reconcile finishing.
    pub stall_timeout: Duration,
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        clients::api(client, self.namespace.as_deref())
    }

    fn http_routes(&self, client: &Client) -> Api<DynamicObject> {
        let resource = desired::http_route_resource();
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        }
    }

    /// A name that is unique among the scopes of this operator.
    fn named(&self, name: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("{name} in {namespace}"),
            None => name.to_owned(),
        }
    }

    fn reporter(&self, kind: &str, readiness: &Readiness, metrics: &Metrics) -> WatchReporter {
        let namespace = self.namespace.as_deref();
        WatchReporter::new(kind.to_owned(), namespace, readiness, metrics)
    }
}

/// Reconciles the rooms of a scope, which `rooms` keeps, until `shutdown`. Reconciles under way are finished.
pub async fn run(
    scope: Scope,
    rooms: ScopeWriter,
    client: Client,
    context: impl FnOnce(Cache) -> Context,
    readiness: &Readiness,
    shutdown: CancellationToken,
) {
    let (cache, writers) = Cache::new(&client);
    let context = Arc::new(context(cache));
    let metrics = context.clients.metrics.clone();
    let (rooms, changed) = watch_rooms(&scope, rooms, &client, readiness, &metrics);
    let watchdog = Watchdog {
        rooms: rooms.clone(),
        namespace: scope.namespace.clone().unwrap_or_default(),
        limit: scope.stall_timeout,
        forget_period: FORGET_PERIOD,
        latch: readiness.latch(scope.named("progress")),
        metrics: metrics.clone(),
    };
    // A task of its own: a controller that hangs must not keep the watchdog from reporting it.
    let forgets = context.clone();
    let watchdog = watchdog.run(context.progress.clone(), move |uids| {
        forgets.forget_others(uids);
    });
    let watchdog = tokio::spawn(watchdog);
    let retries = Retries::default().run(context.clone(), scope.namespace.clone());
    let retries = tokio::spawn(retries);
    let reporter = |kind| scope.reporter(kind, readiness, &metrics);
    let Writers {
        deployments,
        services,
        network_policies,
        pod_disruption_budgets,
        ingresses,
        http_routes,
        recovered,
    } = writers;
    let config = Config::default().concurrency(scope.concurrency);
    let controller = Controller::for_stream(changed, rooms)
        .owns_stream(deployments.watch(scope.api(&client), reporter("Deployment")))
        .owns_stream(services.watch(scope.api(&client), reporter("Service")))
        .owns_stream(network_policies.watch(scope.api(&client), reporter("NetworkPolicy")))
        .owns_stream(
            pod_disruption_budgets.watch(scope.api(&client), reporter("PodDisruptionBudget")),
        )
        .owns_stream(ingresses.watch(scope.api(&client), reporter("Ingress")))
        .owns_stream_with(
            http_routes.watch(scope.http_routes(&client), reporter("HTTPRoute")),
            desired::http_route_resource(),
        )
        .reconcile_all_on(recovered)
        .with_config(config)
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(reconcile, after_failure, context.clone())
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(%error, "a reconcile failed");
            }
            std::future::ready(())
        });
    tokio::select! {
        () = controller => {}
        ended = AbortOnDropHandle::new(watchdog) => {
            if let Err(error) = ended {
                tracing::error!(%error, "the watchdog ended");
            }
        }
        ended = AbortOnDropHandle::new(retries) => {
            if let Err(error) = ended {
                tracing::error!(%error, "the task that clears brokers later ended");
            }
        }
    }
}

/// The rooms of the scope, and a stream of those whose spec or finalizers have changed.
fn watch_rooms(
    scope: &Scope,
    rooms: ScopeWriter,
    client: &Client,
    readiness: &Readiness,
    metrics: &Metrics,
) -> (
    Store<StoredRoom>,
    impl Stream<Item = Result<StoredRoom, watcher::Error>> + Send + use<>,
) {
    let ScopeWriter { writer, index } = rooms;
    let rooms = writer.as_reader();
    let reporter = scope.reporter("ChatRoom", readiness, metrics);
    let latch = readiness.latch(scope.named("rooms"));
    let changed = cache::relisting(scope.api::<StoredRoom>(client), watcher::Config::default())
        .backoff(WatchBackoff::default())
        // What others have written costs memory, and nobody reads it.
        .modify(|stored| stored.meta_mut().managed_fields = None)
        .inspect(move |event| {
            if let Ok(event) = event {
                index.note(event);
            }
        })
        .reflect(writer)
        .inspect(cache::report_rooms::<StoredRoom>(reporter, latch))
        .applied_objects()
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers),
            PredicateConfig::default(),
        );
    (rooms, changed)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that `Controller::run` asks for"
)]
fn after_failure(stored: Arc<StoredRoom>, error: &Error, context: Arc<Context>) -> Action {
    let (failures, uid) = (&context.failures, stored.uid().unwrap_or_default());
    let is_waiting = matches!(error, Error::Busy(_));
    let delay = if is_waiting {
        failures.next_turn(&uid)
    } else {
        failures.next_delay(&uid)
    };
    // The clean-up of a deleted room ends at its time-out, not at the first attempt after it.
    let delay = finalize::cleanup_time_left(&stored.room, &context)
        .map_or(delay, |time_left| delay.min(time_left));
    let room = format!(
        "{}/{}",
        stored.namespace().unwrap_or_default(),
        stored.name_any()
    );
    if is_waiting {
        tracing::debug!(room, %error, ?delay, "the room waits for its turn");
        return Action::requeue(delay);
    }
    tracing::warn!(room, %error, ?delay, "the room is not as its spec says; retrying");
    Action::requeue(delay)
}
