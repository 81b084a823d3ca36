//! Requests for a session of another server of the room: behind a balancer without sticky sessions, they reach any server.
//!
//! - A request goes only to an address that the room's key has signed ([`Sids`]), and only once: it has a code of the same key, by
//!   which the other server knows that a server has forwarded it. A request with a wrong code is rejected.
//! - Only requests of sessions are forwarded. The server that opens a session sees its client, and counts for its address.
//! - What is forwarded at once is bounded in number; an answer, and what waits for the client of a WebSocket, in time and in bytes.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{OriginalUri, Request},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
        header::{
            CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT,
            SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};
use futures::{StreamExt, future::select};
use hyper::{
    client::conn::http1,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use papo_engineio::Query;
use papo_listener::Peer;
use parking_lot::Mutex;
use rustix::io::Errno;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf, split},
    net::{TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{debug, warn};

use super::{
    polling::BadRequest,
    sid::{Codes, Sids, is_same},
};
use crate::metrics::{Forwarding, Metrics};

/// The header with the code of a request that is forwarded.
const FORWARDED: HeaderName = HeaderName::from_static("papo-forwarded");
/// How long another server may take to accept a connection. All are in one cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long another server may take to answer: longer than a GET waits for a ping.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(50);
/// Bytes that wait on this server, between another server and a client: in the kernel, and in the copy of either direction.
const RECEIVE_BUFFER: u32 = 64 * 1024;
const FROM_CLIENT: usize = 2 * 1024;
const TO_CLIENT: usize = 8 * 1024;
/// How long another server may acknowledge nothing.
const USER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one direction of a WebSocket may go on when the other has ended.
const LINGER: Duration = Duration::from_secs(2);
/// What the head of an answer, and a chunk of its body, may take.
const ANSWER_BUFFER: usize = 16 * 1024;
/// How long a server that has forwarded a request is known by its address, and how many may be.
const KNOWN_FOR: Duration = Duration::from_mins(10);
const MOST_KNOWN: usize = 1_024;

/// Headers that the other server needs, and those of its answer.
static OF_REQUEST: [HeaderName; 7] = [
    HOST,
    ORIGIN,
    CONTENT_TYPE,
    UPGRADE,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
];
static OF_ANSWER: [HeaderName; 7] = [
    CONTENT_TYPE,
    CACHE_CONTROL,
    X_CONTENT_TYPE_OPTIONS,
    UPGRADE,
    SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION,
];

/// Forwards requests, and knows the servers that do.
pub(super) struct Forwarder {
    permits: Arc<Semaphore>,
    servers: Arc<Mutex<HashMap<IpAddr, OtherServer>>>,
    /// Cancelled when this server drains, which takes at most so long.
    draining: CancellationToken,
    drain_period: Duration,
    websockets: TaskTracker,
    metrics: Arc<Metrics>,
}

/// A server of the room that has forwarded a request.
struct OtherServer {
    /// When it did, or when the last of its WebSockets ended.
    seen: Instant,
    /// WebSockets that it forwards to this server.
    websockets: usize,
}

/// A WebSocket that another server forwards to this one. That server is known for as long as there is one.
pub(super) struct ForwardedWebSocket {
    servers: Arc<Mutex<HashMap<IpAddr, OtherServer>>>,
    server: IpAddr,
}

/// In the extensions of a request that another server has forwarded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forwarded;

/// A request says that another server has forwarded it, and none has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged;

#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("cannot connect to the server of a session")]
    Connect(#[source] io::Error),
    #[error("the server of a session did not accept a connection in time")]
    ConnectTime,
    #[error("the server of a session did not answer")]
    Http(#[from] hyper::Error),
    #[error("a program that is no server of the room has the address of the session's")]
    Stranger,
}

impl ForwardError {
    /// Whether this server has no descriptor or no port left.
    fn is_of_this_server(&self) -> bool {
        let Self::Connect(error) = self else {
            return false;
        };
        let of_process = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        error.kind() == io::ErrorKind::AddrNotAvailable
            || error
                .raw_os_error()
                .is_some_and(|errno| of_process.contains(&errno))
    }
}

impl OtherServer {
    fn is_known(&self) -> bool {
        self.websockets > 0 || self.seen.elapsed() < KNOWN_FOR
    }
}

impl Drop for ForwardedWebSocket {
    fn drop(&mut self) {
        if let Some(known) = self.servers.lock().get_mut(&self.server) {
            known.websockets = known.websockets.saturating_sub(1);
            known.seen = Instant::now();
        }
    }
}

/// The header for the answer to a request that another server has forwarded, by which that server believes it; `None` if a client has sent
/// the request.
pub(super) fn answer_code(
    sids: &Sids,
    request: &Request,
) -> Result<Option<(HeaderName, HeaderValue)>, Forged> {
    let Some(given) = request.headers().get(FORWARDED) else {
        return Ok(None);
    };
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let codes = sids.forward_codes(query.sid.unwrap_or_default());
    if !is_same(given, &codes.request) {
        return Err(Forged);
    }
    Ok(Some((FORWARDED, codes.answer)))
}

impl Forwarder {
    /// Forwards at most so many requests and WebSockets at once.
    pub(super) fn new(most: usize, drain_period: Duration, metrics: Arc<Metrics>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            servers: Arc::default(),
            draining: CancellationToken::new(),
            drain_period,
            websockets: TaskTracker::new(),
            metrics,
        }
    }

    /// Remembers the address of a server that has forwarded a request.
    pub(super) fn learn(&self, server: IpAddr) {
        let mut servers = self.servers.lock();
        if let Some(known) = servers.get_mut(&server) {
            known.seen = Instant::now();
            return;
        }
        if servers.len() >= MOST_KNOWN {
            servers.retain(|_, known| known.is_known());
        }
        if servers.len() < MOST_KNOWN {
            let known = OtherServer {
                seen: Instant::now(),
                websockets: 0,
            };
            servers.insert(server, known);
        }
    }

    /// Counts a WebSocket that a server forwards, which it has just requested.
    pub(super) fn hold(&self, server: IpAddr) -> Option<ForwardedWebSocket> {
        self.servers.lock().get_mut(&server)?.websockets += 1;
        Some(ForwardedWebSocket {
            servers: self.servers.clone(),
            server,
        })
    }

    /// Whether a server of the room has this address: its sockets are those of many clients.
    pub(super) fn is_server(&self, address: IpAddr) -> bool {
        let servers = self.servers.lock();
        servers.get(&address).is_some_and(OtherServer::is_known)
    }

    /// Closes the WebSockets that are forwarded, one after the other, and waits for the last one.
    pub(super) async fn drain(&self) {
        self.draining.cancel();
        self.websockets.close();
        self.websockets.wait().await;
    }

    /// Asks another server, and returns its answer.
    pub(super) async fn forward(
        &self,
        to: SocketAddr,
        request: Request,
        codes: Codes,
    ) -> Result<Response, BadRequest> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.metrics.forwarded(Forwarding::Full);
            return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
        };
        let peer = request.extensions().get::<Arc<Peer>>().cloned();
        let guard = Guard {
            _permit: permit,
            _peer: peer,
        };
        let asked = self.ask(to, request, codes, guard);
        match timeout(ANSWER_TIMEOUT, asked).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_of_this_server() => {
                warn!(%to, %error, "cannot forward a request");
                self.metrics.forwarded(Forwarding::Full);
                Ok(StatusCode::SERVICE_UNAVAILABLE.into_response())
            }
            Ok(Err(error)) => {
                debug!(%to, %error, "a request was not forwarded");
                self.metrics.forwarded(Forwarding::Unreachable);
                // Its sessions have gone with it: the client opens a new one.
                Err(BadRequest::UnknownSession)
            }
            Err(_) => {
                self.metrics.forwarded(Forwarding::Timeout);
                Ok(StatusCode::GATEWAY_TIMEOUT.into_response())
            }
        }
    }

    async fn ask(
        &self,
        to: SocketAddr,
        mut request: Request,
        codes: Codes,
        guard: Guard,
    ) -> Result<Response, ForwardError> {
        let connected = timeout(CONNECT_TIMEOUT, connect(to)).await;
        let stream = connected.map_err(|_| ForwardError::ConnectTime)?;
        let stream = TokioIo::new(stream.map_err(ForwardError::Connect)?);
        let mut http = http1::Builder::new();
        let (mut sender, connection) = http.max_buf_size(ANSWER_BUFFER).handshake(stream).await?;
        // Dropped with the answer, which ends the request on the other server too.
        let driver = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
        let ours = request.extensions_mut().remove::<OnUpgrade>();
        let mut answer = sender.send_request(copy_of(request, codes.request)).await?;
        let given = answer.headers().get(FORWARDED);
        if !given.is_some_and(|given| is_same(given, &codes.answer)) {
            return Err(ForwardError::Stranger);
        }
        let headers = only(answer.headers(), &OF_ANSWER);
        let status = answer.status();
        let mut response = match ours {
            Some(ours) if status == StatusCode::SWITCHING_PROTOCOLS => {
                self.metrics.forwarded(Forwarding::Upgraded);
                let theirs = hyper::upgrade::on(&mut answer);
                self.splice(ours, theirs, (guard, driver));
                let upgrade = HeaderValue::from_static("Upgrade");
                ([(CONNECTION, upgrade)], Body::empty()).into_response()
            }
            _ => {
                self.metrics.forwarded(Forwarding::Answered);
                let held = (guard, driver, sender);
                let chunks = Body::new(answer.into_body()).into_data_stream();
                let chunks = chunks.map(move |chunk| {
                    let _held = &held;
                    chunk
                });
                Body::from_stream(chunks).into_response()
            }
        };
        *response.status_mut() = status;
        response.headers_mut().extend(headers);
        Ok(response)
    }

    /// Copies the bytes of a WebSocket between its client and its server, in a task of its own.
    fn splice<H: Send + 'static>(&self, ours: OnUpgrade, theirs: OnUpgrade, held: H) {
        let (draining, period) = (self.draining.clone(), self.drain_period);
        let open = self.metrics.forwarded_websockets.clone();
        self.websockets.spawn(async move {
            let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else {
                return;
            };
            open.inc();
            let drained = async {
                draining.cancelled().await;
                sleep(period.mul_f64(rand::random())).await;
            };
            tokio::select! {
                copied = copy(ours, theirs) => if let Err(error) = copied {
                    debug!(%error, "a forwarded WebSocket ended");
                },
                () = drained => {}
            }
            open.dec();
            drop(held);
        });
    }
}

/// What a forwarded request holds: its place among them, and that of its socket among those of the listener.
struct Guard {
    _permit: OwnedSemaphorePermit,
    _peer: Option<Arc<Peer>>,
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.connect(to).await
}

/// The request as the other server gets it.
fn copy_of(request: Request, code: HeaderValue) -> Request {
    let (parts, body) = request.into_parts();
    let mut copy = Request::new(body);
    *copy.method_mut() = parts.method;
    let original = parts.extensions.get::<OriginalUri>();
    let uri = original.map_or(&parts.uri, |OriginalUri(uri)| uri);
    let path_and_query = uri.path_and_query().cloned();
    *copy.uri_mut() = path_and_query.map_or_else(Uri::default, Uri::from);
    *copy.headers_mut() = only(&parts.headers, &OF_REQUEST);
    // The other server closes the connection: a port that has been closed by the one that opened it is not free for a minute.
    let connection = if copy.headers().contains_key(UPGRADE) {
        "Upgrade"
    } else {
        "close"
    };
    copy.headers_mut()
        .insert(CONNECTION, HeaderValue::from_static(connection));
    copy.headers_mut().insert(FORWARDED, code);
    copy
}

fn only(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let chosen = |name: &HeaderName| Some((name.clone(), headers.get(name)?.clone()));
    names.iter().filter_map(chosen).collect()
}

/// Copies in both directions until both have ended, or one has and the other does not end soon.
async fn copy(ours: Upgraded, theirs: Upgraded) -> io::Result<()> {
    let (from_client, to_client) = split(TokioIo::new(ours));
    let (from_server, to_server) = split(TokioIo::new(theirs));
    let there = pin!(copy_one(from_client, FROM_CLIENT, to_server));
    let back = pin!(copy_one(from_server, TO_CLIENT, to_client));
    let (ended, other) = select(there, back).await.factor_first();
    ended.and(timeout(LINGER, other).await.unwrap_or(Ok(())))
}

async fn copy_one(
    from: impl AsyncRead + Unpin,
    buffer: usize,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut from = BufReader::with_capacity(buffer, from);
    copy_buf(&mut from, &mut to).await?;
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(code: Option<&str>) -> Request {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static("/socket.io/?EIO=4&transport=polling&sid=s1");
        let code = code.map(|code| code.parse().expect("a value"));
        let headers = request.headers_mut();
        headers.extend(code.map(|code: HeaderValue| (FORWARDED, code)));
        request
    }

    fn is_forwarded(sids: &Sids, request: &Request) -> Result<bool, Forged> {
        answer_code(sids, request).map(|code| code.is_some())
    }

    #[test]
    fn forwarded_request_is_known_by_its_code_only() {
        let sids = Sids::alone();
        assert_eq!(is_forwarded(&sids, &request(None)), Ok(false));
        let forwarded = copy_of(request(None), sids.forward_codes("s1").request);
        assert_eq!(is_forwarded(&sids, &forwarded), Ok(true));
        assert_eq!(is_forwarded(&Sids::alone(), &forwarded), Err(Forged));
        let of_another = [
            sids.forward_codes("s2").request,
            sids.forward_codes("s1").answer,
        ];
        for forged in ["", "1"]
            .map(HeaderValue::from_static)
            .iter()
            .chain(&of_another)
        {
            let forged = request(forged.to_str().ok());
            assert_eq!(is_forwarded(&sids, &forged), Err(Forged), "{forged:?}");
        }
    }

    #[test]
    fn headers_that_clients_invent_are_not_forwarded() {
        let mut from_client = request(Some("invented"));
        let headers = from_client.headers_mut();
        for name in [
            "x-forwarded-for",
            "cookie",
            "authorization",
            "transfer-encoding",
        ] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        headers.insert(HOST, HeaderValue::from_static("chat.example"));
        let copy = copy_of(from_client, HeaderValue::from_static("code"));
        assert_eq!(copy.headers().len(), 3, "{:?}", copy.headers());
        assert_eq!(copy.headers()[CONNECTION], "close");
        assert_eq!(copy.headers()[HOST], "chat.example");
        assert_eq!(copy.headers()[FORWARDED], "code");
        assert_eq!(copy.uri(), "/socket.io/?EIO=4&transport=polling&sid=s1");
    }

    #[test]
    fn servers_are_known_after_their_first_request() {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let forwarder = Forwarder::new(1, Duration::ZERO, metrics.into());
        let address =
            |number: u16| IpAddr::from([10, 0, number.to_be_bytes()[0], number.to_be_bytes()[1]]);
        assert!(!forwarder.is_server(address(1)));
        for number in 0..2_000 {
            forwarder.learn(address(number));
        }
        assert!(forwarder.is_server(address(1)));
        assert_eq!(forwarder.servers.lock().len(), MOST_KNOWN);
    }

    #[test]
    fn server_is_known_for_as_long_as_it_forwards_a_websocket() {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let forwarder = Forwarder::new(1, Duration::ZERO, metrics.into());
        let server = IpAddr::from([10, 0, 0, 1]);
        assert!(forwarder.hold(server).is_none(), "it has requested nothing");
        forwarder.learn(server);
        let held = [forwarder.hold(server), forwarder.hold(server)];
        let long_ago = Instant::now().checked_sub(KNOWN_FOR + Duration::from_secs(1));
        let forget = |forwarder: &Forwarder| {
            let mut servers = forwarder.servers.lock();
            servers.get_mut(&server).expect("known").seen = long_ago.expect("the machine runs");
        };
        forget(&forwarder);
        assert!(forwarder.is_server(server));
        drop(held);
        assert!(
            forwarder.is_server(server),
            "for some time after the last one"
        );
        forget(&forwarder);
        assert!(!forwarder.is_server(server));
    }
}
