//! Sessions that begin with long-polling: HTTP requests in, the packets of [`papo_engineio::Polling`] out.
//!
//! - A session lives on the server that opened it. A request for another server's session is [forwarded](super::forward).
//! - A client that upgrades gets the same WebSocket connection as one that begins with it.

use std::{
    collections::HashMap,
    convert::Infallible,
    future,
    sync::{Arc, OnceLock},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        Method, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::StreamExt;
use papo_engineio::{Budget, CloseCode, Kept, Polling, Query};
use papo_listener::Peer;
use parking_lot::Mutex;
use tracing::debug;

use super::{
    Connection, SocketServer, Transport,
    forward::{Forwarded, ForwardedWebSocket},
    sid::Sid,
    websocket::receive,
};
use crate::{address::Address, broker::Broker, metrics::Bound};

/// Bytes of a request's body that are not kept of the budget: a client whose address has used it up can still answer a ping.
const ALLOWANCE: usize = 4_096;

/// The sessions of this server that poll, by their ids.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Sid, Arc<Session>>>);

struct Session {
    connection: Arc<Connection>,
    polling: Arc<Polling>,
    /// The socket that the client has upgraded on: it counts among those of the listener until the session ends.
    peer: OnceLock<(Arc<Peer>, Option<ForwardedWebSocket>)>,
}

/// Why a request gets no answer of a session, as Engine.IO's own server numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadRequest {
    UnknownTransport = 0,
    UnknownSession = 1,
    HandshakeMethod = 2,
    Malformed = 3,
    UnsupportedVersion = 5,
}

impl Sessions {
    fn get(&self, sid: &str) -> Option<Arc<Session>> {
        self.0.lock().get(sid).cloned()
    }

    fn add(&self, session: Arc<Session>) {
        self.0
            .lock()
            .insert(session.connection.sid.clone(), session);
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    fn remove(&self, sid: &Sid) {
        self.0.lock().remove(sid);
    }
}

/// Serves the requests of clients that poll, and their upgrades.
pub(crate) async fn poll<B: Broker>(
    State(server): State<Arc<SocketServer<B>>>,
    request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let answer = answer(&server, &Query::parse(&query), request).await;
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn answer<B: Broker>(
    server: &Arc<SocketServer<B>>,
    query: &Query<'_>,
    request: Request,
) -> Result<Response, BadRequest> {
    if query.version != Some("4") {
        return Err(BadRequest::UnsupportedVersion);
    }
    let is_websocket = match query.transport {
        Some("websocket") => true,
        Some("polling") if server.launch.long_polling => false,
        _ => return Err(BadRequest::UnknownTransport),
    };
    let Some(sid) = query.sid else {
        return match request.method() {
            // It is no WebSocket handshake, or it would have been served.
            _ if is_websocket => Err(BadRequest::Malformed),
            &Method::GET => Ok(open(server, &request).unwrap_or_else(IntoResponse::into_response)),
            _ => Err(BadRequest::HandshakeMethod),
        };
    };
    let Some(session) = server.sessions.get(sid) else {
        return elsewhere(server, sid, request).await;
    };
    match request.method().clone() {
        Method::GET if is_websocket => Ok(upgrade(server.clone(), session, request)),
        Method::GET => {
            let body = session.polling.poll(query.request).await;
            Ok(packets(body.map_err(|_| BadRequest::UnknownSession)?))
        }
        Method::POST if !is_websocket => post(server, &session, query.request, request).await,
        _ => Err(BadRequest::Malformed),
    }
}

/// Asks the server that has the session.
async fn elsewhere<B: Broker>(
    server: &Arc<SocketServer<B>>,
    sid: &str,
    request: Request,
) -> Result<Response, BadRequest> {
    // A request goes from one server to another only once.
    let is_forwarded = request.extensions().get::<Forwarded>().is_some();
    let other = server.sids.other_server(sid).filter(|_| !is_forwarded);
    let other = other.ok_or(BadRequest::UnknownSession)?;
    let codes = server.sids.forward_codes(sid);
    server.forwarder.forward(other, request, codes).await
}

fn open<B: Broker>(
    server: &Arc<SocketServer<B>>,
    request: &Request,
) -> Result<Response, StatusCode> {
    let address = request.extensions().get::<Address>();
    let place = server.bounds.open(address.copied().unwrap_or_default());
    if let Some(exceeded) = server.exceeded_by_session(&place) {
        server.exceeded(place.address, exceeded);
        let message = "server_full: this server has no room; try again later\n";
        let headers = [(RETRY_AFTER, "5")];
        return Ok((StatusCode::SERVICE_UNAVAILABLE, headers, message).into_response());
    }
    let bearer = server.bearer(request.headers(), &place)?;
    let polling = Arc::new(Polling::new(&server.engine_settings, &place.budget));
    let sid = server.sids.create();
    let body = polling.open_packet(sid.as_str());
    let connection = Connection::new(sid, Transport::Polling(polling.clone()), place, bearer);
    let session = Arc::new(Session {
        connection,
        polling,
        peer: OnceLock::new(),
    });
    server.sessions.add(session.clone());
    server.opened();
    tokio::spawn(serve(server.clone(), session));
    Ok(packets(body.into()))
}

/// Serves one session until it is closed.
async fn serve<B: Broker>(server: Arc<SocketServer<B>>, session: Arc<Session>) {
    let Session {
        connection,
        polling,
        peer: _,
    } = &*session;
    let joining = async {
        if !connection.joins_in_time().await {
            server.metrics.exceeded(Bound::ConnectTime);
            polling.close(CloseCode::GoingAway);
        }
        future::pending::<Infallible>().await
    };
    let left = tokio::select! {
        left = polling.run() => left,
        never = joining => match never {},
    };
    match left {
        Ok(mut incoming) => {
            server.sessions.remove(&connection.sid);
            let code = receive(&server, connection, &mut incoming).await;
            server.closed(connection, code);
            incoming.close(code).await;
        }
        Err(code) => {
            server.closed(connection, code);
            // Its last packets are for the client's next request.
            polling.finish().await;
            server.sessions.remove(&connection.sid);
        }
    }
}

async fn post<B: Broker>(
    server: &Arc<SocketServer<B>>,
    session: &Session,
    id: Option<&str>,
    request: Request,
) -> Result<Response, BadRequest> {
    let Session {
        connection,
        polling,
        ..
    } = session;
    if !polling.is_polling() {
        return Err(BadRequest::UnknownSession);
    }
    let Some(_turn) = polling.begin_post() else {
        polling.close(CloseCode::ProtocolError);
        return Err(BadRequest::Malformed);
    };
    let most = server.launch.limits.frame_size as usize;
    let (body, kept) = match read(request.into_body(), most, &connection.place.budget).await {
        Ok(read) => read,
        Err(code) => {
            polling.close(code);
            return Ok(status_of(code).into_response());
        }
    };
    let Ok(body) = String::from_utf8(body) else {
        polling.close(CloseCode::InvalidData);
        return Err(BadRequest::Malformed);
    };
    let received = polling.receive(id, &body, |message| {
        server.receive(connection.decode(message), connection);
    });
    drop(kept);
    received.map_err(|_| BadRequest::Malformed)?;
    Ok(packets(Bytes::from_static(b"ok")))
}

/// Reads a body, and keeps it of the budget.
async fn read(body: Body, most: usize, budget: &Arc<Budget>) -> Result<(Vec<u8>, Kept), CloseCode> {
    let (mut bytes, mut kept) = (Vec::new(), Kept::nothing(budget));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| CloseCode::Normal)?;
        if bytes.len() + chunk.len() > most {
            return Err(CloseCode::TooBig);
        }
        bytes.extend_from_slice(&chunk);
        if !kept.set(bytes.capacity().saturating_sub(ALLOWANCE)) {
            return Err(CloseCode::TryAgainLater);
        }
    }
    Ok((bytes, kept))
}

fn status_of(code: CloseCode) -> StatusCode {
    match code {
        CloseCode::TooBig => StatusCode::PAYLOAD_TOO_LARGE,
        CloseCode::TryAgainLater => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn upgrade<B: Broker>(
    server: Arc<SocketServer<B>>,
    session: Arc<Session>,
    mut request: Request,
) -> Response {
    match papo_engineio::upgrade(&mut request) {
        Ok((response, upgrade)) => {
            let peer = request.extensions_mut().remove::<Arc<Peer>>();
            let is_forwarded = request.extensions().get::<Forwarded>().is_some();
            tokio::spawn(async move {
                match session.polling.upgrade(upgrade).await {
                    Ok(true) => {
                        if let Some(peer) = peer {
                            let by = peer.address().ip();
                            let forwarded =
                                is_forwarded.then(|| server.forwarder.hold(by)).flatten();
                            let _ = session.peer.set((peer, forwarded));
                        }
                        server.upgraded(&session.connection);
                    }
                    Ok(false) => debug!(sid = %session.connection.sid, "a client has not upgraded"),
                    Err(error) => debug!(%error, "no WebSocket was opened"),
                }
            });
            response
        }
        Err(error) => error.response::<String>().into_response(),
    }
}

/// An answer of Engine.IO, which is for no other request, and no document.
fn packets(body: Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=UTF-8"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, body).into_response()
}

impl BadRequest {
    fn message(self) -> &'static str {
        match self {
            Self::UnknownTransport => "Transport unknown",
            Self::UnknownSession => "Session ID unknown",
            Self::HandshakeMethod => "Bad handshake method",
            Self::Malformed => "Bad request",
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }
}

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self as u8, "message": self.message() });
        (StatusCode::BAD_REQUEST, axum::Json(body)).into_response()
    }
}
