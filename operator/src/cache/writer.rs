//! The watch of one kind, which fills the cache and triggers reconciles.

use std::{hash::Hash, sync::Arc};

use futures::{Stream, StreamExt, TryStreamExt, channel::mpsc, stream};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, reflector::store::Writer, watcher},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch as signal;

use super::{
    compact::Compact,
    reporter::WatchReporter,
    watched::{Watched, status_of},
};
use crate::{answer::Answer, backoff::WatchBackoff, names};

/// Objects that are listed with one request. The operator's memory has to hold them with all that other programs note in them, of all kinds at
/// the same time.
const PAGE_SIZE: u32 = 100;

/// The writing end of one kind.
pub struct KindWriter<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> {
    /// What fills the cache.
    pub writer: Writer<Compact<K>>,
    pub(super) watched: Arc<signal::Sender<Watched>>,
    recovered: mpsc::UnboundedSender<()>,
}

impl<K: Resource<DynamicType: Hash + Eq + Clone> + Clone + 'static> KindWriter<K> {
    pub(super) fn new(dynamic: K::DynamicType, recovered: &mpsc::UnboundedSender<()>) -> Self {
        Self {
            writer: Writer::new(dynamic),
            watched: Arc::new(signal::Sender::new(Watched::Pending)),
            recovered: recovered.clone(),
        }
    }
}

impl<K> KindWriter<K>
where
    K: Resource<DynamicType: Hash + Eq + Clone + Send + Sync>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    /// Watches the operator's objects of the kind: fills the cache and yields what has changed.
    ///
    /// A watch that fails is logged and tried again by itself. It does not slow the controller's other triggers down.
    pub(crate) fn watch(
        self,
        api: Api<K>,
        reporter: WatchReporter,
    ) -> impl Stream<Item = Result<Compact<K>, watcher::Error>> + Send {
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
            .map_ok(Compact::event)
            .reflect(writer)
            // After the cache has the list: a reconcile that this triggers must find the objects there.
            .inspect(move |event| {
                let known = watched.borrow().clone();
                let Some(now) = known.changed_by(event) else {
                    return;
                };
                reporter.report(&now);
                let is_recovered = matches!(known, Watched::No(_)) && now == Watched::Yes;
                watched.send_replace(now);
                if is_recovered {
                    // It fails only when the controller has ended.
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
    let config = config.page_size(PAGE_SIZE);
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
