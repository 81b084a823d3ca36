//! From an HTTP request to a WebSocket on the bare TCP connection (RFC 6455, 4.2).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use tokio::net::TcpStream;
use tracing::{debug, error};
use tungstenite::handshake::derive_accept_key;

use super::serve;
use crate::{broker::Broker, socket::Edge};

/// Takes requests for a WebSocket of its own; all others, and a polling client's upgrade, are the engine's.
pub(crate) async fn upgrade<B: Broker>(
    State(edge): State<Arc<Edge<B>>>,
    mut request: Request,
    next: Next,
) -> Response {
    if !is_ours(&request) {
        return next.run(request).await;
    }
    let Some(key) = key(request.headers()) else {
        let message = "this is no WebSocket handshake of version 13 (RFC 6455)\n";
        return (
            StatusCode::BAD_REQUEST,
            [(SEC_WEBSOCKET_VERSION, "13")],
            message,
        )
            .into_response();
    };
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return (
            StatusCode::UPGRADE_REQUIRED,
            "this connection cannot be upgraded\n",
        )
            .into_response();
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => begin(edge, upgraded).await,
            Err(error) => debug!(%error, "a client left before its connection was upgraded"),
        }
    });
    let headers: [(HeaderName, HeaderValue); 3] = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, key),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Engine.IO 4, WebSocket from the start.
fn is_ours(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    let session = query.split('&').any(|pair| pair.starts_with("sid="));
    let websocket = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket && has("EIO=4") && has("transport=websocket") && !session
}

/// The answer to the handshake's key.
fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    headers
        .get(SEC_WEBSOCKET_VERSION)
        .filter(|version| *version == "13")?;
    derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes())
        .parse()
        .ok()
}

async fn begin<B: Broker>(edge: Arc<Edge<B>>, upgraded: Upgraded) {
    if let Ok(parts) = downcast::<TokioIo<TcpStream>>(upgraded) {
        serve(edge, parts.io.into_inner(), parts.read_buf).await;
    } else {
        error!("the public listener's connections are not TCP");
    }
}
