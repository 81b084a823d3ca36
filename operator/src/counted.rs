//! A client of the API server whose requests are counted, whoever makes them: reconciles, watches, events and leader election.

use axum::http::{Method, Request, Uri};
use kube::{Client, client::Body};

use crate::metrics::Metrics;

/// A client that sends its requests through `client`, and counts them.
pub(crate) fn counted(client: &Client, metrics: &Metrics) -> Client {
    let (inner, metrics) = (client.clone(), metrics.clone());
    let service = tower::service_fn(move |request: Request<Body>| {
        metrics.cluster_request(access(request.method(), request.uri()));
        let inner = inner.clone();
        async move { inner.send(request).await }
    });
    Client::new(service, client.default_namespace())
}

/// What a request is for. Those for a Lease are apart, because leader election makes them all the time.
fn access(method: &Method, uri: &Uri) -> &'static str {
    let is_watch = |query: &str| {
        query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1"))
    };
    if uri.path().split('/').any(|step| step == "leases") {
        "lease"
    } else if *method != Method::GET {
        "write"
    } else if uri.query().is_some_and(is_watch) {
        "watch"
    } else {
        "read"
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body as Answer, http::Response};
    use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
    use kube::{
        Api,
        api::{DeleteParams, ListParams, WatchParams},
    };
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_access() {
        let missing = tower::service_fn(|_: Request<Body>| async {
            let response = Response::builder().status(404).body(Answer::empty());
            Ok::<_, kube::Error>(response.expect("a response"))
        });
        let metrics = Metrics::default();
        let client = counted(&Client::new(missing, "papo"), &metrics);
        let secrets: Api<Secret> = Api::default_namespaced(client.clone());
        let leases: Api<Lease> = Api::default_namespaced(client);
        let _ = secrets.get("x").await;
        let _ = secrets.list(&ListParams::default()).await;
        let _ = secrets.watch(&WatchParams::default(), "0").await;
        let _ = secrets.delete("x", &DeleteParams::default()).await;
        let _ = leases.get("x").await;
        let _ = leases.delete("x", &DeleteParams::default()).await;

        let (mut registry, mut text) = (Registry::default(), String::new());
        metrics.register(&mut registry);
        encode(&mut text, &registry).expect("text");
        for (access, count) in [("read", 2), ("watch", 1), ("write", 1), ("lease", 2)] {
            let line =
                format!("papo_operator_cluster_requests_total{{access=\"{access}\"}} {count}\n");
            assert!(text.contains(&line), "{line} is in {text}");
        }
    }
}
