//! Sessions that begin with WebSocket: requests in, the members' packets on [`papo_engineio`]'s connections.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use engineioxide::sid::Sid;
use papo_engineio::{CloseCode, Incoming, Message, Upgrade};
use tokio::time::timeout;
use tracing::{debug, error};

use super::{CONNECT_TIMEOUT, Connection, SocketServer, Transport};
use crate::broker::Broker;

/// Serves requests for a new WebSocket session. All others, and the upgrade of a polling client, go to engineioxide.
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
            tokio::spawn(serve(server, upgrade));
            response
        }
        Err(error) => error.response::<String>().into_response(),
    }
}

/// Serves one connection until it is closed.
async fn serve<B: Broker>(server: Arc<SocketServer<B>>, upgrade: Upgrade) {
    let sid = Sid::new();
    let (socket, mut incoming) = match upgrade.open(sid.as_str(), &server.engine_settings).await {
        Ok(opened) => opened,
        Err(error @ papo_engineio::UpgradeError::NotTcp) => {
            return error!(%error, "cannot serve a WebSocket");
        }
        Err(error) => return debug!(%error, "no WebSocket was opened"),
    };
    let connection = Connection::new(sid, Transport::WebSocket(socket));
    server.opened();
    let close_code = receive(&server, &connection, &mut incoming).await;
    debug!(%sid, ?close_code, "disconnected");
    server.left(&connection);
    drop(connection);
    incoming.close(close_code).await;
}

/// Handles packets until there is a reason to close the connection. A client must send its CONNECT packet within a limit.
async fn receive<B: Broker>(
    server: &Arc<SocketServer<B>>,
    connection: &Arc<Connection>,
    incoming: &mut Incoming,
) -> CloseCode {
    // On the heap only while it runs: a task keeps the size of its largest state for as long as it lives.
    let closed = Box::pin(timeout(
        CONNECT_TIMEOUT,
        receive_all(server, connection, incoming),
    ))
    .await;
    match closed {
        Ok(close_code) => close_code,
        Err(_) if !connection.has_connected() => CloseCode::GoingAway,
        Err(_) => receive_all(server, connection, incoming).await,
    }
}

async fn receive_all<B: Broker>(
    server: &Arc<SocketServer<B>>,
    connection: &Arc<Connection>,
    incoming: &mut Incoming,
) -> CloseCode {
    loop {
        let packet = match incoming.next().await {
            Ok(Message::Text(text)) => connection.parser.text(text.into()),
            Ok(Message::Binary(data)) => connection.parser.binary(data),
            Err(close_code) => return close_code,
        };
        server.receive(packet, connection);
    }
}
