//! The operator as a process: probes and metrics, leader election, and a controller for each scope.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::anyhow;
use futures::FutureExt;
use kube::{
    Api, Client,
    api::ListParams,
    runtime::events::{Recorder, Reporter},
};
use papo_telemetry::{Latch, Readiness};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::{self, Answer},
    apply::{RecentSecrets, Settled},
    backoff::Failures,
    broker::{Brokers, Policy},
    clients::{self, Clients},
    config::{self, Run},
    controller::{self, Context, Reported, Scope},
    counted::counted,
    crd::{CRD_NAME, StoredRoom},
    lease::{self, Election, Leadership},
    leftovers::Leftovers,
    metrics::Metrics,
    names,
    patience::Patience,
    rooms::Rooms,
};

/// How often to look for the definition of the resource.
const CRD_RETRY: Duration = Duration::from_secs(5);

/// How long reconciles under way may take after the operator was asked to stop, if the Lease, which is not renewed any more, lasts as long.
const DRAIN: Duration = Duration::from_secs(5);

type Tasks = JoinSet<anyhow::Result<()>>;

/// Runs the operator until `stop` resolves. Probes and metrics are served on `admin`. An error means that the operator cannot go on and should
/// be started again.
pub async fn run(
    settings: Run,
    client: Client,
    admin: TcpListener,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (metrics, mut registry) = (Metrics::default(), Registry::default());
    metrics.register(&mut registry);
    let client = counted(&client, &metrics);
    let (readiness, shutdown, mut tasks) =
        (Readiness::default(), CancellationToken::new(), Tasks::new());
    let crd = readiness.latch("crd");
    let router = papo_telemetry::admin_router(readiness.clone(), Arc::new(registry));
    let probes = papo_listener::serve(
        admin,
        router,
        papo_listener::Settings::admin(),
        shutdown.clone(),
    );
    tasks.spawn(probes.map(Ok));

    let mut stop = std::pin::pin!(stop);
    let mut leadership = tokio::select! {
        leadership = lead(&settings, &client, &crd) => leadership,
        ended = tasks.join_next() => return Err(unexpected(ended)),
        () = &mut stop => return Ok(()),
    };
    metrics.leads(true);
    start_controllers(
        &mut tasks, &settings, &client, &metrics, &readiness, &shutdown,
    );
    tokio::select! {
        lost = leadership.lost() => return Err(lost.into()),
        ended = tasks.join_next() => return Err(unexpected(ended)),
        () = &mut stop => shutdown.cancel(),
    }
    let limit = DRAIN.min(leadership.left());
    if tokio::time::timeout(limit, tasks.join_all()).await.is_err() {
        tracing::warn!("reconciles under way were cut short; the next operator resumes them");
    }
    leadership.release().await;
    Ok(())
}

/// No task ends while nobody has asked it to.
fn unexpected(ended: Option<Result<anyhow::Result<()>, JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error,
        Some(Err(panic)) => panic.into(),
        Some(Ok(Ok(()))) | None => anyhow!("a task ended although nobody asked it to"),
    }
}

async fn lead(settings: &Run, client: &Client, crd: &Latch) -> Leadership {
    wait_for_crd(settings, client, crd).await;
    lease::acquire(client.clone(), election(&settings.lease, client)).await
}

fn election(lease: &config::Lease, client: &Client) -> Election {
    Election {
        namespace: lease
            .lease_namespace
            .clone()
            .unwrap_or_else(|| client.default_namespace().to_owned()),
        name: lease.lease_name.clone(),
        identity: lease.identity(),
        duration: Duration::from_secs(lease.lease_duration.into()),
    }
}

/// Waits for somebody to install the definition of the resource, and says so.
async fn wait_for_crd(settings: &Run, client: &Client, crd: &Latch) {
    let api: Api<StoredRoom> = clients::api(client, settings.namespaces.each()[0]);
    loop {
        match api.list(&ListParams::default().limit(1)).await {
            Ok(_) => return crd.ready(),
            Err(error) if Answer::of(&error).is_missing() => {
                crd.not_ready(format!("{CRD_NAME} is not installed; `papo-operator crd | kubectl apply -f -` installs it"));
            }
            Err(error) => crd.not_ready(format!(
                "chat rooms cannot be listed: {}",
                answer::message(&error)
            )),
        }
        tokio::time::sleep(CRD_RETRY).await;
    }
}

fn start_controllers(
    tasks: &mut Tasks,
    settings: &Run,
    client: &Client,
    metrics: &Metrics,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) {
    let rooms = Rooms::default();
    let scope = |namespace: Option<&str>| Scope {
        namespace: namespace.map(str::to_owned),
        concurrency: settings.concurrency,
        stall_timeout: Duration::from_secs(settings.stall_timeout.into()),
    };
    // All of them before the first is reconciled: whether a host is free is a question to all rooms.
    let namespaces = settings.namespaces.each().into_iter();
    let scopes: Vec<_> = namespaces
        .map(|namespace| (scope(namespace), rooms.add_scope(&settings.defaults)))
        .collect();
    let leftovers = leftovers(settings, client, metrics);
    for (scope, of_scope) in scopes {
        let (rooms, leftovers) = (rooms.clone(), leftovers.clone());
        let (client, metrics, readiness, settings, shutdown) = (
            client.clone(),
            metrics.clone(),
            readiness.clone(),
            settings.clone(),
            shutdown.clone(),
        );
        let reporter = Reporter {
            controller: names::MANAGER.to_owned(),
            instance: Some(settings.lease.identity()),
        };
        let resync = Duration::from_secs(settings.resync_period.into());
        tasks.spawn(async move {
            let context = |cache| Context {
                recorder: Recorder::new(client.clone(), reporter),
                clients: Clients {
                    client: client.clone(),
                    cache,
                    brokers: Brokers::new(broker_policy(&settings)),
                    settled: Settled::default(),
                    // Each resync reads the Secrets of rooms with servers: none comes earlier than after 0.8 of the period.
                    secrets: RecentSecrets::new(resync.mul_f64(0.7)),
                    metrics,
                },
                resync,
                cleanup_timeout: Duration::from_secs(settings.cleanup_timeout.into()),
                patience: Patience::default(),
                reported: Reported::default(),
                leftovers,
                rooms,
                defaults: settings.defaults,
                failures: Failures::default(),
                progress: Arc::default(),
            };
            controller::run(
                scope,
                of_scope,
                client.clone(),
                context,
                &readiness,
                shutdown,
            )
            .await;
            Ok(())
        });
    }
}

fn leftovers(settings: &Run, client: &Client, metrics: &Metrics) -> Leftovers {
    let Election {
        namespace, name, ..
    } = election(&settings.lease, client);
    let own = settings.defaults.broker_secret.as_ref();
    let (client, name) = (client.clone(), names::leftovers(&name));
    Leftovers::new(client, &namespace, name, own, metrics.clone())
}

fn broker_policy(settings: &Run) -> Policy {
    let bounds = &settings.broker_bounds;
    let hosts = bounds.allow_broker_hosts.iter();
    Policy {
        concurrency: settings.concurrency.into(),
        timeout: Duration::from_secs(bounds.broker_timeout.into()),
        inventory_period: Duration::from_secs(settings.resync_period.into()) / 2,
        allowed_hosts: hosts.filter(|host| !host.is_empty()).cloned().collect(),
        default_secret: settings.defaults.broker_secret.clone(),
        ..Policy::default()
    }
}
