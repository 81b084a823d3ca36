//! Serves a room on a broker: the two listeners, the tasks behind them, and the shutdown.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use papo_listener::{RESERVED, bind, raise_descriptor_limit};
use papo_protocol::Launch;
use papo_telemetry::{Latch, Readiness, admin_router, shutdown_signal};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    access::AccessControl,
    admin::stats_router,
    admin_ui,
    broker::Broker,
    metrics::{self, Metrics},
    room::Room,
    socket::{Sharing, Sids, SocketServer, wanted_sockets},
    task_set::TaskSet,
    web,
};

/// Bytes that the kernel may hold for a client and has not sent yet. Further messages stay in the log, which all clients share:
/// the kernel's default would be megabytes for each client that does not read.
const NOT_SENT: u32 = 64 * 1024;
/// How long, beyond the slow reader's time-out, a client may acknowledge no TCP segment before the kernel drops the connection. It
/// is longer so that the server can first close the connection with a reason.
const STUCK: Duration = Duration::from_secs(30);

/// Serves until asked to stop (`Ok`), or until a task ends by itself.
pub(crate) async fn serve<B: Broker>(broker: B, mut launch: Launch) -> anyhow::Result<()> {
    let stop = shutdown_signal().context("cannot listen for signals")?;
    let Sockets {
        public: sockets_allowed,
        forwarded,
    } = allowed_sockets(&launch)?;
    // An address has a share of the connections that there can be.
    let most = u32::try_from(sockets_allowed).unwrap_or(u32::MAX);
    launch.limits.connections = launch.limits.connections.min(most);
    let public = listen(launch.listen, "--listen")?;
    let sids = sids(&launch, &public)?;
    let admin = listen(launch.admin_listen, "--admin-listen")?;
    let launch = Arc::new(launch);
    let readiness = Readiness::default();
    let going = readiness.latch("draining");
    going.ready();
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let access = AccessControl::start(&launch, metrics.clone())?;

    let mut tasks = TaskSet::new(CancellationToken::new());
    let room = Room::start(
        broker.clone(),
        &launch,
        &readiness,
        metrics.clone(),
        &mut tasks,
    );
    let open_sockets = metrics.sockets.clone();
    let sharing = Sharing { sids, forwarded };
    let sockets = SocketServer::new(
        room.clone(),
        launch.clone(),
        sharing,
        access.clone(),
        metrics,
    );
    let access_status = access.clone();
    metrics::register_access(&mut registry, move || access_status.status());
    let client_memory = sockets.clone();
    metrics::register_client_memory(&mut registry, move || client_memory.client_memory());
    let connections = broker.clone();
    metrics::register_broker_connections(&mut registry, move || connections.connections());
    let admin_ui = admin_ui::router(&launch, &sockets, tasks.shutdown())?;
    greet(&launch, &public, &admin)?;
    let page = web::router(&sockets, &launch);
    let write_timeout = Duration::from_secs(launch.slow_reader_timeout.into()) + STUCK;
    tasks.spawn("join queue", sockets.clone().run_join_queue());
    if access.has_file() {
        tasks.spawn("access file", access.watch(readiness.note("access")));
        tasks.spawn("access of members", sockets.clone().watch_members());
    }
    let public = papo_listener::serve(
        public,
        page,
        public_settings(sockets_allowed, &sockets, open_sockets, write_timeout),
        // It serves until the process ends: members are drained while it does.
        CancellationToken::new(),
    );
    tasks.spawn("public listener", public);
    let operators = admin_router(readiness, Arc::new(registry))
        .merge(stats_router(launch.clone(), sockets.clone(), room, broker))
        .merge(admin_ui);
    let until = tasks.shutdown().clone();
    let admin = papo_listener::serve(admin, operators, papo_listener::Settings::admin(), until);
    tasks.spawn("admin listener", admin);

    tokio::select! {
        () = stop => {}
        ended = tasks.ended() => bail!(ended),
    }
    drain(&sockets, &going, &launch).await;
    tasks.stop().await;
    Ok(())
}

/// Makes the server unready, rejects new members, closes the members' connections one by one and waits until their messages are
/// stored.
async fn drain<B: Broker>(sockets: &SocketServer<B>, going: &Latch, launch: &Launch) {
    going.not_ready("this server is shutting down");
    let period = Duration::from_secs(launch.drain_period.into());
    info!(connections = sockets.connections(), ?period, "draining");
    if tokio::time::timeout(launch.grace_period(), sockets.drain(period))
        .await
        .is_err()
    {
        error!("the grace period ended before all messages were stored");
    }
}

fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!("cannot listen on {address}: another program uses this address; stop it, or choose another address with {flag}"),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!("cannot listen on {address}: not permitted; choose a port above 1023 with {flag}"),
        _ => anyhow::anyhow!("cannot listen on {address}: {error}; choose another address with {flag}"),
    })
}

/// The ids of this server's sessions.
fn sids(launch: &Launch, public: &TcpListener) -> anyhow::Result<Sids> {
    let Some(file) = &launch.session_key else {
        return Ok(Sids::alone());
    };
    let port = public
        .local_addr()
        .context("a listener has an address")?
        .port();
    let own = launch
        .advertise
        .map(|ip| SocketAddr::new(ip.to_canonical(), port));
    Sids::shared(file, own).with_context(|| format!("cannot use --session-key {}", file.display()))
}

/// How many sockets there may be.
struct Sockets {
    /// Of the public listener.
    public: usize,
    /// To other servers of the room. Each is beside one of the listener.
    forwarded: usize,
}

/// As many sockets as are wanted, or as the limit of file descriptors allows.
fn allowed_sockets(launch: &Launch) -> anyhow::Result<Sockets> {
    let (wanted, allowed) = (
        wanted_sockets(launch.limits.connections),
        raise_descriptor_limit(),
    );
    if allowed == 0 {
        bail!(
            "cannot serve: the hard limit of file descriptors is {RESERVED} or less, which the server needs for itself; raise it (ulimit -Hn)"
        );
    }
    let forwards = launch.session_key.is_some() && launch.advertise.is_some();
    let sockets = share(wanted, allowed, forwards);
    if sockets.public < wanted {
        warn!(
            allowed = sockets.public,
            forwarded = sockets.forwarded,
            wanted,
            reserved = RESERVED,
            "the limit of file descriptors (ulimit -n) allows fewer sockets than --max-connections needs; raise it, or lower --max-connections"
        );
    }
    Ok(sockets)
}

/// Sockets for clients and, if the server forwards, for other servers: as many as are left, and at least a quarter.
fn share(wanted: usize, allowed: usize, forwards: bool) -> Sockets {
    let left = allowed.saturating_sub(wanted).min(wanted);
    let forwarded = if forwards { left.max(allowed / 4) } else { 0 };
    Sockets {
        public: wanted.min(allowed - forwarded),
        forwarded,
    }
}

fn public_settings<B: Broker>(
    allowed: usize,
    sockets: &Arc<SocketServer<B>>,
    open: Gauge,
    write_timeout: Duration,
) -> papo_listener::Settings {
    let (counting, rejecting) = (sockets.clone(), sockets.clone());
    papo_listener::Settings {
        sockets: allowed,
        prepare: Box::new(move |stream| prepare(stream, write_timeout)),
        sockets_of: Box::new(move |peer| counting.sockets_of(peer)),
        on_count: Arc::new(move |change| {
            open.inc_by(change);
        }),
        on_exceeded: Box::new(move |peer, exceeded| rejecting.listener_exceeded(peer, exceeded)),
    }
}

/// Sends small packets at once, and lets the kernel drop a client that acknowledges nothing: closing such a connection waits until
/// what was written to it is acknowledged, which could be for ever.
fn prepare(stream: &TcpStream, write_timeout: Duration) {
    let socket = SockRef::from(stream);
    let set = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_notsent_lowat(NOT_SENT))
        .and_then(|()| socket.set_tcp_user_timeout(Some(write_timeout)));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set the options of a connection");
    }
}

/// Prints, for people who start the server by hand, its address and what to try next.
fn greet(launch: &Launch, public: &TcpListener, admin: &TcpListener) -> anyhow::Result<()> {
    let address = public.local_addr().context("a listener has an address")?;
    let admin = admin.local_addr().context("a listener has an address")?;
    let (port, path) = (address.port(), launch.base_path.prefix());
    info!(version = env!("CARGO_PKG_VERSION"), %address, %admin, room = %launch.room, "serving");
    let urls: Vec<String> = launch.broker.iter().map(ToString::to_string).collect();
    let log = match &urls[..] {
        [_, ..] => format!("in RabbitMQ at {}", urls.join(", ")),
        [] => "in this process, and ends with it; keep it in RabbitMQ with --broker amqp://... --declare".to_owned(),
    };
    let greeting = format!(
        "Papo is at http://localhost:{port}{path}: open it in two windows and talk.\n\
         The log of room {} is {log}.\n\
         Stop with Ctrl-C; more with --help.\n",
        launch.room
    );
    // Serving does not depend on somebody reading this.
    let _ = io::stdout().write_all(greeting.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_shared_with_other_servers() {
        for (wanted, allowed, forwards, public, forwarded) in [
            (10, 100, false, 10, 0),
            (10, 5, false, 5, 0),
            (10, 100, true, 10, 25),
            (60, 100, true, 60, 40),
            (100, 100, true, 75, 25),
            (1_000, 100, true, 75, 25),
            (1, 1, true, 1, 0),
        ] {
            let sockets = share(wanted, allowed, forwards);
            let shared = (sockets.public, sockets.forwarded);
            assert_eq!(shared, (public, forwarded), "{wanted} of {allowed}");
        }
    }
}
