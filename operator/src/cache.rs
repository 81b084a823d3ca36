//! What the operator knows of the cluster: one watch per kind that feeds both the controller's triggers and a cache to compare with.
//!
//! Only objects that bear the operator's label are watched. Secrets are not: the operator reads those that a room names, so that it
//! need not be allowed to list all Secrets.
//!
//! A kind that the operator cannot watch keeps no room from being served. Rooms that need the kind say so in a condition ([`Unwatched`]), all
//! rooms are reconciled as soon as the watch works, and `/readyz` and a metric name the kind meanwhile.

use std::{hash::Hash, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, channel::mpsc, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
    networking::v1::{Ingress, NetworkPolicy},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DynamicObject, NamespaceResourceScope},
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};
use papo_telemetry::{Latch, Note, Readiness};
use serde::de::DeserializeOwned;
use tokio::{sync::watch as signal, time::timeout};

use crate::{
    answer::{self, Answer},
    backoff::WatchBackoff,
    desired,
    metrics::Metrics,
    names,
    validate::Room,
};

/// How long a reconcile waits for the first list of the kinds that its room needs.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a kind is not watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwatched {
    /// The cluster does not have it.
    #[error("the cluster does not have this kind")]
    KindMissing,
    /// The operator's account may not list or watch it: the API server's own words.
    #[error("{0}")]
    Forbidden(String),
    /// The API server has not listed it yet, for a reason that may pass by itself.
    #[error("not listed yet: {0}")]
    NotListed(String),
}

/// How far the watch of a kind has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watched {
    /// No answer yet.
    Pending,
    /// It was listed; changes are heard.
    Yes,
    /// It cannot be watched.
    No(Unwatched),
}

/// The operator's objects, by kind.
pub struct Cache {
    /// Deployments.
    pub deployments: Kind<Deployment>,
    /// Services.
    pub services: Kind<Service>,
    /// Secrets; never cached.
    pub secrets: Kind<Secret>,
    /// NetworkPolicies.
    pub network_policies: Kind<NetworkPolicy>,
    /// PodDisruptionBudgets.
    pub pod_disruption_budgets: Kind<PodDisruptionBudget>,
    /// Ingresses.
    pub ingresses: Kind<Ingress>,
    /// HTTPRoutes; the kind may be missing.
    pub http_routes: Kind<DynamicObject>,
}

/// One kind: how to reach it and what is known of it.
pub struct Kind<K: Resource<DynamicType: Hash + Eq + Clone> + 'static> {
    client: Client,
    dynamic: K::DynamicType,
    store: Store<K>,
    watched: Arc<signal::Sender<Watched>>,
    api: fn(Client, &str, &K::DynamicType) -> Api<K>,
}

impl<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> Kind<K> {
    /// The API of the kind in a namespace.
    pub fn api(&self, namespace: &str) -> Api<K> {
        (self.api)(self.client.clone(), namespace, &self.dynamic)
    }

    /// The kind's name.
    pub fn name(&self) -> String {
        K::kind(&self.dynamic).into_owned()
    }

    /// What the watch has last seen of an object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new_with(name, self.dynamic.clone()).within(namespace);
        self.store.get(&key)
    }

    /// Why nothing is known of the kind; `None` if something is.
    pub fn unwatched(&self) -> Option<Unwatched> {
        match &*self.watched.borrow() {
            Watched::No(reason) => Some(reason.clone()),
            Watched::Yes | Watched::Pending => None,
        }
    }

    /// Waits until the kind is listed, or until it is known why not: an API server that does not answer in time is a reason too.
    /// False when the watch has ended.
    async fn is_decided(&self) -> bool {
        let mut watched = self.watched.subscribe();
        let decided = async {
            tokio::select! {
                ready = self.store.wait_until_ready() => ready.is_ok(),
                decided = watched.wait_for(|watched| *watched != Watched::Pending) => decided.is_ok(),
            }
        };
        timeout(LIST_TIMEOUT, decided).await.unwrap_or_else(|_| {
            let reason = Unwatched::NotListed("the API server does not answer".to_owned());
            self.watched.send_if_modified(|watched| {
                let is_pending = *watched == Watched::Pending;
                if is_pending {
                    *watched = Watched::No(reason);
                }
                is_pending
            });
            true
        })
    }
}

/// The writing end of one kind.
pub struct Feed<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> {
    /// What fills the cache.
    pub writer: Writer<K>,
    watched: Arc<signal::Sender<Watched>>,
    recovered: mpsc::UnboundedSender<()>,
}

impl<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> Feed<K> {
    fn new(dynamic: K::DynamicType, recovered: &mpsc::UnboundedSender<()>) -> Self {
        Self {
            writer: Writer::new(dynamic),
            watched: Arc::new(signal::Sender::new(Watched::Pending)),
            recovered: recovered.clone(),
        }
    }
}

/// Where the state of a kind's watch is shown.
pub(crate) struct Shown {
    /// The kind.
    pub(crate) kind: String,
    /// The scope of the watch; all namespaces if empty.
    pub(crate) namespace: String,
    /// `/readyz`.
    pub(crate) note: Note,
    /// The gauge of watched kinds.
    pub(crate) metrics: Metrics,
}

impl Shown {
    /// A line of `/readyz` and a gauge of its own for a kind.
    pub(crate) fn new(
        kind: String,
        namespace: Option<&str>,
        readiness: &Readiness,
        metrics: &Metrics,
    ) -> Self {
        let namespace = namespace.unwrap_or_default().to_owned();
        let mut title = format!("watch of {kind}");
        if !namespace.is_empty() {
            title = format!("{title} in {namespace}");
        }
        let shown = Self {
            kind,
            namespace,
            note: readiness.note(title),
            metrics: metrics.clone(),
        };
        shown.show(&Watched::Pending);
        shown
    }

    fn show(&self, watched: &Watched) {
        let Self {
            kind,
            namespace,
            note,
            metrics,
        } = self;
        metrics.watches(kind, namespace, *watched == Watched::Yes);
        match watched {
            Watched::Pending => note.set("not listed yet"),
            Watched::Yes => {
                tracing::info!(kind, namespace, "watching this kind");
                note.clear();
            }
            Watched::No(reason) => {
                tracing::warn!(kind, namespace, %reason, "cannot watch this kind; trying again");
                note.set(reason.to_string());
            }
        }
    }
}

/// What an event of a watch changes in what is known of the kind.
fn change<K>(
    event: &Result<watcher::Event<K>, watcher::Error>,
    known: &Watched,
) -> Option<Watched> {
    verdict(event, known).filter(|now| now != known)
}

fn verdict<K>(
    event: &Result<watcher::Event<K>, watcher::Error>,
    known: &Watched,
) -> Option<Watched> {
    let (error, answer) = match event {
        Ok(watcher::Event::InitDone) => return Some(Watched::Yes),
        Ok(_) => return None,
        Err(error) => (error, status_of(error)),
    };
    match answer.map(|status| (Answer::of_status(status), status)) {
        Some((Answer::KindMissing | Answer::NotFound, _)) => {
            Some(Watched::No(Unwatched::KindMissing))
        }
        Some((Answer::Forbidden, status)) => {
            Some(Watched::No(Unwatched::Forbidden(status.message.clone())))
        }
        // What was listed once stays known: the watch is resumed or the list repeated when the API server answers again.
        _ if *known == Watched::Yes => None,
        Some((_, status)) => Some(Watched::No(Unwatched::NotListed(answer::status_message(
            status,
        )))),
        None => Some(Watched::No(Unwatched::NotListed(error.to_string()))),
    }
}

fn status_of(error: &watcher::Error) -> Option<&kube::core::Status> {
    use watcher::Error::{InitialListFailed, WatchError, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status))
        | WatchError(status) => Some(status),
        _ => None,
    }
}

/// The writing ends of a [`Cache`], each to be fed by a watch.
pub struct Writers {
    /// Deployments.
    pub deployments: Feed<Deployment>,
    /// Services.
    pub services: Feed<Service>,
    /// NetworkPolicies.
    pub network_policies: Feed<NetworkPolicy>,
    /// PodDisruptionBudgets.
    pub pod_disruption_budgets: Feed<PodDisruptionBudget>,
    /// Ingresses.
    pub ingresses: Feed<Ingress>,
    /// HTTPRoutes.
    pub http_routes: Feed<DynamicObject>,
    /// Says when a kind that could not be watched is watched: then all rooms are reconciled.
    pub recovered: mpsc::UnboundedReceiver<()>,
}

impl Cache {
    /// An empty cache and what fills it.
    pub fn new(client: &Client) -> (Self, Writers) {
        let resource = desired::http_route_resource();
        let (sender, recovered) = mpsc::unbounded();
        let writers = Writers {
            deployments: Feed::new((), &sender),
            services: Feed::new((), &sender),
            network_policies: Feed::new((), &sender),
            pod_disruption_budgets: Feed::new((), &sender),
            ingresses: Feed::new((), &sender),
            http_routes: Feed::new(resource.clone(), &sender),
            recovered,
        };
        let cache = Self {
            deployments: kind(client, &writers.deployments),
            services: kind(client, &writers.services),
            secrets: kind(client, &Feed::<Secret>::new((), &sender)),
            network_policies: kind(client, &writers.network_policies),
            pod_disruption_budgets: kind(client, &writers.pod_disruption_budgets),
            ingresses: kind(client, &writers.ingresses),
            http_routes: Kind {
                client: client.clone(),
                store: writers.http_routes.writer.as_reader(),
                watched: writers.http_routes.watched.clone(),
                dynamic: resource,
                api: |client, namespace, resource| {
                    Api::namespaced_with(client, namespace, resource)
                },
            },
        };
        (cache, writers)
    }

    /// Waits until the kinds that a room needs are listed, or until it is known why not. False when the watches have ended.
    pub async fn is_ready_for(&self, room: &Room) -> bool {
        let decided = tokio::join!(
            self.deployments.is_decided(),
            self.services.is_decided(),
            self.network_policies.is_decided(),
            async { room.replicas < 2 || self.pod_disruption_budgets.is_decided().await },
            async { room.ingress.is_none() || self.ingresses.is_decided().await },
            async { room.route.is_none() || self.http_routes.is_decided().await },
        );
        decided == (true, true, true, true, true, true)
    }
}

fn kind<K>(client: &Client, feed: &Feed<K>) -> Kind<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + 'static,
{
    Kind {
        client: client.clone(),
        dynamic: (),
        store: feed.writer.as_reader(),
        watched: feed.watched.clone(),
        api: |client, namespace, (): &()| Api::namespaced(client, namespace),
    }
}

impl<K> Feed<K>
where
    K: Resource<DynamicType: Hash + Eq + Clone + Send + Sync>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    /// Watches the operator's objects of the kind: fills the cache and passes on what changed.
    ///
    /// A watch that fails is logged and tried again by itself. It does not slow the controller's other triggers down.
    pub(crate) fn watch(
        self,
        api: Api<K>,
        shown: Shown,
    ) -> impl Stream<Item = Result<K, watcher::Error>> + Send {
        let ours = watcher::Config::default().labels(&format!(
            "{}={}",
            names::MANAGED_BY_LABEL,
            names::MANAGER
        ));
        let Self {
            writer,
            watched,
            recovered,
        } = self;
        relisting(api, ours)
            .backoff(WatchBackoff::default())
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer)
            // After the cache has the list: whoever hears that the kind is watched finds its objects there.
            .inspect(move |event| {
                let known = watched.borrow().clone();
                let Some(now) = change(event, &known) else {
                    return;
                };
                shown.show(&now);
                let is_recovered = matches!(known, Watched::No(_)) && now == Watched::Yes;
                watched.send_replace(now);
                if is_recovered {
                    // Nobody listens any more only when the controller has ended.
                    let _ = recovered.unbounded_send(());
                }
            })
            .touched_objects()
            .filter_map(|event| std::future::ready(event.ok().map(Ok)))
    }
}

/// A watch that begins again with a list after an answer that makes its kind unknown. kube would resume the watch, and report nothing when
/// that works.
pub(crate) fn relisting<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let begin = move || watcher(api.clone(), config.clone()).boxed();
    stream::unfold((begin(), begin), |(mut events, begin)| async move {
        let event = events.next().await?;
        if event.as_ref().is_err_and(is_rejected) {
            events = begin();
        }
        Some((event, (events, begin)))
    })
}

fn is_rejected(error: &watcher::Error) -> bool {
    status_of(error).is_some_and(|status| {
        matches!(
            Answer::of_status(status),
            Answer::KindMissing | Answer::NotFound | Answer::Forbidden | Answer::Expired
        )
    })
}

/// Shows how the watch of the rooms goes, which have no place in the [`Cache`]. An operator that cannot watch them is not ready.
pub(crate) fn show<K>(
    shown: Shown,
    latch: Latch,
) -> impl FnMut(&Result<watcher::Event<K>, watcher::Error>) {
    let mut known = Watched::Pending;
    move |event| {
        let Some(now) = change(event, &known) else {
            return;
        };
        shown.show(&now);
        match &now {
            Watched::Yes => latch.ready(),
            Watched::No(reason) => {
                latch.not_ready(format!("chat rooms cannot be watched: {reason}"));
            }
            Watched::Pending => {}
        }
        known = now;
    }
}
