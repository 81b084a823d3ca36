//! Serves a room on a broker: the two listeners, the tasks behind them, and the shutdown.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use axum::{Router, serve::ListenerExt};
use papo_protocol::Launch;
use papo_telemetry::{Latch, Readiness, admin_router, shutdown_signal};
use prometheus_client::registry::Registry;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    admin::stats_router, broker::Broker, metrics::Metrics, room::Room, socket::SocketServer,
    task_set::TaskSet, web,
};

/// Connections that the kernel may accept before the server takes them: after a failure all clients reconnect at once.
const BACKLOG: u32 = 4_096;
/// Bytes that the kernel may hold for a client and has not sent yet. Further messages stay in the log, which all clients share:
/// the kernel's default would be megabytes for each client that does not read.
const NOT_SENT: u32 = 64 * 1024;
/// How long, beyond the slow reader's time-out, a client may acknowledge no TCP segment before the kernel drops the connection. It
/// is longer so that the server can first close the connection with a reason.
const STUCK: Duration = Duration::from_secs(30);

/// Serves until told to stop (`Ok`), or until a task ends by itself.
pub(crate) async fn serve<B: Broker>(broker: B, launch: Launch) -> anyhow::Result<()> {
    let stop = shutdown_signal().context("cannot listen for signals")?;
    let public = listen(launch.listen, "--listen")?;
    let admin = listen(launch.admin_listen, "--admin-listen")?;
    let launch = Arc::new(launch);
    let readiness = Readiness::default();
    let going = readiness.latch("draining");
    going.ready();
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));

    let mut tasks = TaskSet::new(CancellationToken::new());
    let room = Room::start(
        broker.clone(),
        &launch,
        &readiness,
        metrics.clone(),
        &mut tasks,
    );
    let sockets = SocketServer::new(room.clone(), launch.clone(), metrics);
    greet(&launch, &public, &admin)?;
    let page = web::router(&sockets, &launch);
    let write_timeout = Duration::from_secs(launch.slow_reader_timeout.into()) + STUCK;
    tasks.spawn("public listener", serve_public(public, page, write_timeout));
    let operators = admin_router(readiness, Arc::new(registry)).merge(stats_router(
        launch.clone(),
        sockets.clone(),
        room,
        broker,
    ));
    let until = tasks.shutdown().clone();
    tasks.spawn("admin listener", async move {
        log_end(
            "admin listener",
            papo_telemetry::serve(admin, operators, until).await,
        );
    });

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
    let bound = || -> io::Result<TcpListener> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!("cannot listen on {address}: another program uses this address; stop it, or choose another address with {flag}"),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!("cannot listen on {address}: not permitted; choose a port above 1023 with {flag}"),
        _ => anyhow::anyhow!("cannot listen on {address}: {error}; choose another address with {flag}"),
    })
}

async fn serve_public(listener: TcpListener, router: Router, write_timeout: Duration) {
    let listener = listener.tap_io(move |stream| prepare(stream, write_timeout));
    log_end("public listener", axum::serve(listener, router).await);
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

fn log_end(listener: &str, result: io::Result<()>) {
    if let Err(error) = result {
        error!(listener, %error, "a listener failed");
    }
}

/// Prints, for people who start the server by hand, its address and what to try next.
fn greet(launch: &Launch, public: &TcpListener, admin: &TcpListener) -> anyhow::Result<()> {
    let address = public.local_addr().context("a listener has an address")?;
    let admin = admin.local_addr().context("a listener has an address")?;
    let port = address.port();
    info!(version = env!("CARGO_PKG_VERSION"), %address, %admin, room = %launch.room, "serving");
    let log = match &launch.broker {
        Some(url) => format!("in RabbitMQ at {url}"),
        None => "in this process, and ends with it; keep it in RabbitMQ with --broker amqp://... --declare".to_owned(),
    };
    let greeting = format!(
        "Papo is at http://localhost:{port}: open it in two windows and talk.\n\
         The log of room {} is {log}.\n\
         Stop with Ctrl-C; more with --help.\n",
        launch.room
    );
    // Serving does not depend on somebody reading this.
    let _ = io::stdout().write_all(greeting.as_bytes());
    Ok(())
}
