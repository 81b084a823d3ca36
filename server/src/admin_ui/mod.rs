//! The Socket.IO Admin UI: the namespace `/admin` on the admin listener, which the official web page (npm `@socket.io/admin-ui`) connects to.
//!
//! - It is off unless user and password are given, and then shows the sockets of this server's members. It can disconnect one, and nothing else.
//! - Nothing of it runs when a message is sent or delivered. Each of its clients reads the [`Directory`] at its own pace.
//! - Whoever reaches the listener may open [`SESSIONS`] connections to it, and try [`sign_in`] at a bounded rate.
//!
//! There is no specification of what the page expects: the server part of the package (0.5.1) is the reference.

mod feed;
mod packet;
mod sign_in;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::any_service,
};
use papo_listener::Peer;
use papo_protocol::{AllowedOrigin, Launch, ports::SOCKET_IO_PATH};
use socketioxide::{
    SendError, SocketError, SocketIo,
    extract::{SocketRef, TryData},
    handler::ConnectHandler,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, MissedTickBehavior, interval, interval_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    address::Address,
    broker::Broker,
    socket::{Directory, SocketServer, has_session},
    web::{preflight, readers, share},
};
use feed::Feed;
use packet::{Packet, ServerStats};
use sign_in::{Auth, Rejected, SignIn};

/// The namespace that the page asks for unless it is told another.
const NAMESPACE: &str = "/admin";
/// Connections that may be open at once, signed in or not.
const SESSIONS: usize = 16;
/// How long a connection may take to sign in.
const SIGN_IN_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request or frame that a client may send, in bytes.
const REQUEST_SIZE: usize = 16 * 1024;
/// Largest body of an answer to a client that polls, in bytes, beyond its first packet.
const ANSWER_SIZE: u64 = 100_000;
/// How often changes are sent. All of one time are sent together.
const UPDATE_INTERVAL: Duration = Duration::from_millis(200);
/// How soon the next packet is tried when a client has not taken those before it.
const RETRY: Duration = Duration::from_millis(20);
/// How often the statistics of the server are sent, as the reference does. The page calls a server unhealthy after 10 s without.
const STATS_INTERVAL: Duration = Duration::from_secs(2);

/// What the Admin UI's clients share.
struct AdminUi<B: Broker> {
    sockets: Arc<SocketServer<B>>,
    directory: Arc<Directory>,
    room: String,
    hostname: String,
    started: Instant,
    sign_in: SignIn,
    clients: TaskTracker,
    shutdown: CancellationToken,
}

/// What is asked before a request is served.
struct Gate {
    origins: Vec<AllowedOrigin>,
    sessions: Arc<Semaphore>,
}

/// Serves Socket.IO on the admin listener; nothing if the Admin UI is off.
pub(crate) fn router<B: Broker>(
    launch: &Launch,
    sockets: &Arc<SocketServer<B>>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Router> {
    let (Some(directory), Some(sign_in)) = (sockets.directory(), SignIn::new(launch)?) else {
        return Ok(Router::new());
    };
    let ui = Arc::new(AdminUi {
        sockets: sockets.clone(),
        directory: directory.clone(),
        room: launch.room.to_string(),
        hostname: hostname(),
        started: Instant::now(),
        sign_in,
        clients: TaskTracker::new(),
        shutdown: shutdown.clone(),
    });
    let (service, io) = SocketIo::builder()
        .req_path(SOCKET_IO_PATH)
        .connect_timeout(SIGN_IN_TIMEOUT)
        .max_payload(ANSWER_SIZE)
        .ws_max_message_size(REQUEST_SIZE)
        .ws_max_frame_size(REQUEST_SIZE)
        .build_svc();
    let signing_in = ui.clone();
    let sign_in = move |socket: SocketRef, TryData(auth): TryData<Auth>| {
        let ui = signing_in.clone();
        async move { ui.sign_in(&socket, auth.unwrap_or_default()).await }
    };
    let connected = move |socket: SocketRef, TryData(auth): TryData<Auth>| {
        let ui = ui.clone();
        async move { ui.connected(socket, &auth.unwrap_or_default()) }
    };
    io.ns(NAMESPACE, connected.with(sign_in));
    let gate = Arc::new(Gate {
        origins: launch
            .admin_ui_origin
            .iter()
            .cloned()
            .map(AllowedOrigin::One)
            .collect(),
        sessions: Arc::new(Semaphore::new(SESSIONS)),
    });
    info!("the Socket.IO Admin UI is on");
    let service = any_service(service).layer(middleware::from_fn_with_state(gate, admit));
    Ok(Router::new()
        .route(SOCKET_IO_PATH, service.clone())
        .route(&format!("{SOCKET_IO_PATH}/"), service))
}

/// Rejects requests of origins that are not allowed, and new connections beyond the limit.
async fn admit(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let readers = match readers(request.uri().authority(), request.headers(), &gate.origins) {
        Ok(readers) => readers,
        Err(origin) => {
            let message = format!(
                "origin {origin} may not connect here; allow it with --admin-ui-origin {origin}"
            );
            warn!(%origin, "rejected a page of another origin at the Admin UI");
            return (StatusCode::FORBIDDEN, message + "\n").into_response();
        }
    };
    if let Some(response) = preflight(&request, &readers) {
        return response;
    }
    let mut response = if has_session(&request) {
        next.run(request).await
    } else if let Ok(place) = gate.sessions.clone().try_acquire_owned() {
        // The session keeps the parts of its first request, and so its place.
        request.extensions_mut().insert(Arc::new(place));
        next.run(request).await
    } else {
        let message = format!("there are {SESSIONS} connections to the Admin UI already\n");
        (
            StatusCode::SERVICE_UNAVAILABLE,
            [(RETRY_AFTER, "10")],
            message,
        )
            .into_response()
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        share(&mut response, &readers);
    }
    response
}

impl<B: Broker> AdminUi<B> {
    async fn sign_in(&self, socket: &SocketRef, auth: Auth) -> Result<(), Rejected> {
        let address = address(socket);
        let signed_in = self.sign_in.check(&auth, address).await;
        match &signed_in {
            Ok(()) => {}
            // The attempts before it are in the log, and it is at no bounded rate.
            Err(rejected @ Rejected::Attempts(_)) => {
                debug!(%address, reason = %rejected, "rejected a sign-in to the Admin UI");
            }
            Err(rejected) => {
                warn!(%address, reason = %rejected, "rejected a sign-in to the Admin UI");
            }
        }
        signed_in
    }

    /// Answers a client that has signed in, and serves it for as long as it is connected.
    fn connected(self: Arc<Self>, socket: SocketRef, auth: &Auth) {
        let address = address(&socket);
        info!(%address, "signed in to the Admin UI");
        let first = [
            self.sign_in.session(auth).map(Packet::session),
            Some(Packet::config()),
        ];
        for packet in first.into_iter().flatten() {
            // The buffer of a new connection is empty.
            let _ = emit(&socket, &packet);
        }
        let ui = self.clone();
        socket.on(
            "_disconnect",
            move |TryData(arguments): TryData<(String, bool, String)>| {
                let ui = ui.clone();
                async move {
                    // Without an id it asks for all sockets, which is not supported.
                    if let Ok((namespace, _, id)) = arguments {
                        ui.disconnect(&namespace, &id, address);
                    }
                }
            },
        );
        let ui = self.clone();
        self.clients.spawn(async move {
            let serving = ui.serve(&socket);
            ui.shutdown.run_until_cancelled(serving).await;
        });
    }

    /// Disconnects a member. Its connection serves one namespace, so it is closed too.
    fn disconnect(&self, namespace: &str, id: &str, by: Address) {
        if let Some(entry) = self.directory.get(id).filter(|_| namespace == "/") {
            let sender = &entry.member.sender;
            info!(socket = id, %sender, address = %entry.address, %by, "a user of the Admin UI disconnects a member");
            entry.disconnect();
        }
    }

    /// Sends a client what happens, until it has gone. One that does not read is sent no more; it gets all sockets when it reads again.
    async fn serve(&self, socket: &SocketRef) {
        let mut feed = Feed::new(self.directory.clone(), self.room.clone());
        let mut stats = interval(STATS_INTERVAL);
        stats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut updates = interval(UPDATE_INTERVAL);
        updates.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while socket.connected() {
            tokio::select! {
                _ = stats.tick() => {
                    // The next ones say the same.
                    let _ = emit(socket, &Packet::server_stats(&self.stats()));
                }
                _ = updates.tick() => {
                    if send(socket, &mut feed).is_err() {
                        updates = interval_at(Instant::now() + RETRY, UPDATE_INTERVAL);
                    }
                }
            }
        }
    }

    fn stats(&self) -> ServerStats<'_> {
        ServerStats {
            hostname: &self.hostname,
            process: std::process::id(),
            uptime: self.started.elapsed(),
            connections: self.sockets.connections(),
            polling: self.sockets.polling(),
            sockets: self.directory.len(),
        }
    }
}

/// A client has not taken what was sent before.
struct Full;

/// Sends what there is to send for as long as the client takes it.
fn send(socket: &SocketRef, feed: &mut Feed) -> Result<(), Full> {
    while let Some(packet) = feed.next() {
        match emit(socket, packet) {
            Err(SendError::Socket(SocketError::InternalChannelFull)) => return Err(Full),
            Ok(()) | Err(_) => feed.sent(),
        }
    }
    Ok(())
}

fn emit(socket: &SocketRef, packet: &Packet) -> Result<(), SendError> {
    socket.emit(packet.event, &packet.arguments)
}

/// The address of the peer: nobody reaches this listener through a proxy that could be trusted.
fn address(socket: &SocketRef) -> Address {
    let peer = socket.req_parts().extensions.get::<Arc<Peer>>();
    peer.map_or_else(Address::default, |peer| peer.address().ip().into())
}

/// The name of this machine: on Kubernetes that of the pod.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "papo-server".to_owned(), |name| name.trim().to_owned())
}
