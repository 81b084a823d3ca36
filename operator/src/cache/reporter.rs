//! Reports how watches go: in `/readyz`, in a gauge and in the log.

use kube::runtime::watcher;
use papo_telemetry::{Latch, Note, Readiness};

use super::watched::Watched;
use crate::metrics::Metrics;

/// Reports the state of the watch of one kind.
pub(crate) struct WatchReporter {
    kind: String,
    /// All namespaces if empty.
    namespace: String,
    note: Note,
    metrics: Metrics,
}

impl WatchReporter {
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
        let reporter = Self {
            kind,
            namespace,
            note: readiness.note(title),
            metrics: metrics.clone(),
        };
        reporter.report(&Watched::Pending);
        reporter
    }

    pub(super) fn report(&self, watched: &Watched) {
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

/// Reports the state of the watch of the rooms, which are not in the [`Cache`](super::Cache). An operator that cannot watch them is not ready.
pub(crate) fn report_rooms<K>(
    reporter: WatchReporter,
    latch: Latch,
) -> impl FnMut(&Result<watcher::Event<K>, watcher::Error>) {
    let mut known = Watched::Pending;
    move |event| {
        let Some(now) = known.changed_by(event) else {
            return;
        };
        reporter.report(&now);
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
