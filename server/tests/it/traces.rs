//! One trace from the server that receives a message to the server that delivers it.

use std::sync::Arc;

use axum::{Router, body::Bytes, extract::State, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;

use crate::{
    fixture::{Server, amqp, room, until},
    wire::Wire,
};

/// The spans that an OTLP collector received, each with the name of its service.
type Collected = Arc<Mutex<Vec<(String, Span)>>>;

async fn collect(State(collected): State<Collected>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    for of_resource in request.resource_spans {
        let resource = format!("{:?}", of_resource.resource);
        let service = ["papo-a", "papo-b"]
            .into_iter()
            .find(|name| resource.contains(name))
            .unwrap_or_default();
        let spans = of_resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans);
        collected
            .lock()
            .extend(spans.map(|span| (service.to_owned(), span)));
    }
}

#[tokio::test]
#[ignore = "needs a RabbitMQ in PAPO_TEST_AMQP"]
async fn publish_and_deliver_spans_share_one_trace() {
    let collected = Collected::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let collector = Router::new()
        .route("/v1/traces", post(collect))
        .with_state(collected.clone());
    tokio::spawn(async { axum::serve(listener, collector).await });

    let (room, broker) = (room(), amqp());
    let arguments = ["--room", &room, "--broker", &broker, "--declare"];
    let environment = |name| {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
            ("OTEL_SERVICE_NAME", name),
        ]
    };
    let taker = Server::start(&arguments, &environment("papo-a")).await;
    let _deliverer = Server::start(&arguments, &environment("papo-b")).await;

    let (mut member, _) = Wire::join(&taker, json!({})).await;
    member.send(r#"42["message","traced"]"#).await;

    let find = |service: &str, name: &str| {
        collected
            .lock()
            .iter()
            .find(|(of, span)| of == service && span.name == name)
            .map(|(_, span)| span.clone())
    };
    let published = until("publish span", async || find("papo-a", "publish")).await;
    let delivered = until("deliver span", async || find("papo-b", "deliver")).await;
    assert_eq!(delivered.trace_id, published.trace_id);
    assert_eq!(delivered.parent_span_id, published.span_id);
}
