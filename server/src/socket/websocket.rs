//! Sessions that begin with WebSocket: requests in, the members' packets on [`papo_engineio`]'s connections.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{StatusCode, header::RETRY_AFTER},
    middleware::Next,
    response::{IntoResponse, Response},
};
use papo_engineio::{CloseCode, Incoming, Query, Upgrade};
use papo_listener::Peer;
use papo_protocol::event::Code;
use tracing::{debug, error};

use super::{
    Connection, SocketServer, Transport,
    bearer::Bearer,
    forward::{self, Forwarded},
    places::Place,
    sid::Sid,
};
use crate::{
    address::Address,
    broker::Broker,
    metrics::{Bound, Forwarding},
};

/// Finds the address of the client, and rejects a new session of an address that opens too many.
pub(crate) async fn admit<B: Broker>(
    State(server): State<Arc<SocketServer<B>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Ok(forwarded) = forward::answer_code(&server.sids, &request) else {
        server.metrics.forwarded(Forwarding::Forged);
        return StatusCode::FORBIDDEN.into_response();
    };
    let address = server.address_of(&request);
    request.extensions_mut().insert(address);
    if let Some(code) = forwarded {
        request.extensions_mut().insert(Forwarded);
        if let Some(peer) = request.extensions().get::<Arc<Peer>>() {
            server.forwarder.learn(peer.address().ip());
        }
        let mut response = next.run(request).await;
        response.headers_mut().extend([code]);
        return response;
    }
    if has_session(&request) {
        return next.run(request).await;
    }
    match server.bounds.connect(address) {
        Ok(()) => next.run(request).await,
        Err(wait) => {
            let message = "too many new connections from your network address";
            server.bounds.reject(Code::RateLimited, address, message);
            server.bounds.delay_rejection().await;
            let seconds = wait.as_secs() + 1;
            let body = format!("rate_limited: {message}; try again in {seconds} s\n");
            let headers = [(RETRY_AFTER, seconds.to_string())];
            (StatusCode::TOO_MANY_REQUESTS, headers, body).into_response()
        }
    }
}

impl<B: Broker> SocketServer<B> {
    /// Counts and logs the rejection of an HTTP request.
    pub(crate) fn reject_request(&self, code: Code, request: &Request, message: &str) {
        let address = self.address_of(request);
        self.bounds.reject(code, address, message);
    }

    /// The address of the client that has sent a request.
    fn address_of(&self, request: &Request) -> Address {
        let peer = request.extensions().get::<Arc<Peer>>();
        peer.map_or_else(Address::default, |peer| {
            let trusted = &self.launch.trusted_proxies;
            Address::of_client(peer.address().ip(), request.headers(), trusted)
        })
    }
}

/// Whether the request belongs to a session that is open already.
pub(crate) fn has_session(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    Query::parse(query).sid.is_some()
}

/// Serves requests for a new WebSocket session. All others are those of [clients that poll](super::poll).
pub(crate) async fn upgrade<B: Broker>(
    State(server): State<Arc<SocketServer<B>>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !papo_engineio::is_session_request(&request) {
        return next.run(request).await;
    }
    match papo_engineio::upgrade(&mut request) {
        Ok((response, upgrade)) => {
            let address = request.extensions().get::<Address>();
            let place = server.bounds.open(address.copied().unwrap_or_default());
            let bearer = match server.bearer(request.headers(), &place) {
                Ok(bearer) => bearer,
                Err(status) => return status.into_response(),
            };
            // The connection counts among the sockets of the listener until it ends.
            let peer = request.extensions_mut().remove::<Arc<Peer>>();
            tokio::spawn(serve(server, upgrade, place, bearer, peer));
            response
        }
        Err(error) => error.response::<String>().into_response(),
    }
}

/// Serves one connection until it is closed.
async fn serve<B: Broker>(
    server: Arc<SocketServer<B>>,
    upgrade: Upgrade,
    place: Place,
    bearer: Option<Bearer>,
    _peer: Option<Arc<Peer>>,
) {
    let sid = Sid::random();
    let opened = upgrade.open(sid.as_str(), &server.engine_settings, &place.budget);
    let (socket, mut incoming) = match opened.await {
        Ok(opened) => opened,
        Err(error @ papo_engineio::UpgradeError::NotTcp) => {
            return error!(%error, "cannot serve a WebSocket");
        }
        Err(error) => return debug!(%error, "no WebSocket was opened"),
    };
    let connection = Connection::new(sid, Transport::WebSocket(socket), place, bearer);
    server.opened();
    let close_code = receive(&server, &connection, &mut incoming).await;
    server.closed(&connection, close_code);
    drop(connection);
    incoming.close(close_code).await;
}

/// Handles packets until there is a reason to close the connection. A client must join within a limit.
pub(super) async fn receive<B: Broker>(
    server: &Arc<SocketServer<B>>,
    connection: &Arc<Connection>,
    incoming: &mut Incoming,
) -> CloseCode {
    // On the heap for as long as it is needed: a task keeps the size of its largest state for as long as it lives.
    let mut joining = Some(Box::pin(connection.joins_in_time()));
    loop {
        let message = match &mut joining {
            None => incoming.next().await,
            Some(in_time) => tokio::select! {
                message = incoming.next() => message,
                has_joined = in_time => {
                    if !has_joined {
                        server.metrics.exceeded(Bound::ConnectTime);
                        return CloseCode::GoingAway;
                    }
                    joining = None;
                    continue;
                }
            },
        };
        match message {
            Ok(message) => server.receive(connection.decode(message), connection),
            Err(close_code) => return close_code,
        }
        if let Some(pause) = connection.take_pause()
            && let Err(close_code) = incoming.pause(pause).await
        {
            return close_code;
        }
    }
}
