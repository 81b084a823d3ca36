//! The receiving end of OTLP over HTTP: keeps every request's body.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    routing::post,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// A collector on loopback; it ends with the test's runtime.
pub(crate) struct Collector {
    pub(crate) endpoint: String,
    received: Arc<Mutex<Vec<u8>>>,
    _serving: JoinHandle<std::io::Result<()>>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let received = Arc::default();
        let router = Router::new()
            .route("/v1/traces", post(traces))
            .with_state(Arc::clone(&received));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self {
            endpoint: format!("http://{address}"),
            received,
            _serving: tokio::spawn(axum::serve(listener, router).into_future()),
        }
    }

    /// Whether these bytes were exported; protobuf has strings and identifiers as they are.
    pub(crate) fn has_received(&self, bytes: &[u8]) -> bool {
        let received = self.received.lock().expect("no panic while held");
        received.windows(bytes.len()).any(|window| window == bytes)
    }
}

async fn traces(
    State(received): State<Arc<Mutex<Vec<u8>>>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if headers[CONTENT_TYPE] != "application/x-protobuf" {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    let mut received = received.lock().expect("no panic while held");
    received.extend_from_slice(&body);
    StatusCode::OK
}
