//! The admin router: probes for Kubernetes, metrics for Prometheus, on a listener of its own.

use std::{borrow::Cow, fmt::Write, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use papo_protocol::ports;
use prometheus_client::{encoding::text, registry::Registry};

use crate::Readiness;

/// The media type of what [`text::encode`] writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/livez`, `/readyz` and `/metrics`; merge it with what else a program shows to its operators.
///
/// `/livez` answers while the process turns. `/readyz` is 200, or 503 with a line for each thing it waits for; lines for what is limited follow.
pub fn admin_router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    Router::new()
        .route(ports::LIVEZ, get(async || "alive\n"))
        .route(ports::READYZ, get(readyz).with_state(readiness))
        .route(ports::METRICS, get(metrics).with_state(registry))
        .fallback(not_found)
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let (waiting, notes) = (readiness.waiting(), readiness.notes());
    let (status, mut text) = if waiting.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        let text = "not ready, waiting for:\n".to_owned();
        (StatusCode::SERVICE_UNAVAILABLE, text)
    };
    list(&mut text, waiting);
    if !notes.is_empty() {
        text.push_str("limited:\n");
        list(&mut text, notes);
    }
    (status, text)
}

fn list(text: &mut String, lines: Vec<(Cow<'static, str>, String)>) {
    for (name, reason) in lines {
        let _ = writeln!(text, "- {name}: {reason}"); // a String takes everything
    }
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "a metric cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn not_found() -> (StatusCode, String) {
    let [livez, readyz, metrics] = [ports::LIVEZ, ports::READYZ, ports::METRICS];
    (
        StatusCode::NOT_FOUND,
        format!("nothing here; try {livez}, {readyz} or {metrics}\n"),
    )
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    use super::*;

    async fn get(router: Router, path: &str) -> (StatusCode, String, String) {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = router.oneshot(request).await.expect("infallible");
        let status = response.status();
        let media_type = response.headers()[CONTENT_TYPE]
            .to_str()
            .expect("ASCII")
            .to_owned();
        let body = to_bytes(response.into_body(), 1 << 20)
            .await
            .expect("a body");
        (
            status,
            media_type,
            String::from_utf8_lossy(&body).into_owned(),
        )
    }

    #[tokio::test]
    async fn readyz_names_everything_it_waits_for() {
        let readiness = Readiness::default();
        let [broker, log] = ["broker", "log"].map(|name| readiness.latch(name));
        broker.not_ready("connection refused");
        let router = admin_router(readiness, Arc::default());

        let (status, _, body) = get(router.clone(), "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            "not ready, waiting for:\n- broker: connection refused\n- log: starting\n"
        );
        broker.ready();
        log.ready();
        assert_eq!(get(router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn readyz_lists_notes_of_a_ready_program() {
        let readiness = Readiness::default();
        readiness.note("watch of HTTPRoute").set("missing");
        let (status, _, body) = get(admin_router(readiness, Arc::default()), "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body, "ready\nlimited:\n- watch of HTTPRoute: missing\n");
    }

    #[tokio::test]
    async fn livez_does_not_depend_on_readiness() {
        let readiness = Readiness::default();
        let _starting = readiness.latch("broker");
        let router = admin_router(readiness, Arc::default());
        assert_eq!(get(router, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("papo_messages", "Messages", counter.clone());
        counter.inc();
        let router = admin_router(Readiness::default(), Arc::new(registry));

        let (status, media_type, body) = get(router, "/metrics").await;
        assert_eq!(
            (status, media_type.as_str()),
            (StatusCode::OK, OPEN_METRICS)
        );
        assert!(body.contains("papo_messages_total 1\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn another_path_says_which_paths_there_are() {
        let router = admin_router(Readiness::default(), Arc::default());
        let (status, _, body) = get(router, "/health").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        for path in ["/livez", "/readyz", "/metrics"] {
            assert!(body.contains(path), "{body}");
        }
    }
}
