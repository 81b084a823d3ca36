//! Each test runs itself again as a child process with the variables under test: a process has one subscriber.

use std::process::{Output, Stdio};

use papo_telemetry::{LogFormat, Settings, extract, init, inject, set_parent};
use tokio::process::Command;

use crate::collector::Collector;

const CHILD: &str = "PAPO_TELEMETRY_TEST_CHILD";
const REMOTE_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Runs `test` of this binary in a process of its own.
async fn run(test: &str, variables: &[(&str, &str)]) -> Output {
    let child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--nocapture", &format!("export::{test}")])
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("it runs");
    assert!(child.status.success(), "{child:?}");
    child
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// A program that receives a message with a trace in its headers and sends one on: what a chat server does all day.
fn program() {
    let settings = Settings {
        service_name: "papo-test",
        log_filter: "warn".to_owned(),
        log_format: Some(LogFormat::Json),
    };
    let _guard = init(&settings).expect("telemetry");
    tracing::warn!(answer = 42, "logged");

    let span = tracing::info_span!("deliver");
    let traceparent = format!("00-{REMOTE_TRACE}-b7ad6b7169203331-01");
    let received = |name: &str| (name == "traceparent").then(|| traceparent.clone());
    if let Some(parent) = extract(received) {
        set_parent(&span, parent);
    }
    let _entered = span.enter();
    inject(&tracing::Span::current(), |name, value| {
        println!("{name}={value}");
    });
}

#[tokio::test]
async fn spans_reach_the_collector_and_continue_the_sender_s_trace() {
    if is_child() {
        return program();
    }
    let collector = Collector::start().await;
    let child = run(
        "spans_reach_the_collector_and_continue_the_sender_s_trace",
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint)],
    )
    .await;

    assert!(collector.has_received(b"deliver"), "{child:?}");
    assert!(collector.has_received(b"papo-test"), "{child:?}");
    let trace = u128::from_str_radix(REMOTE_TRACE, 16).expect("hexadecimal");
    assert!(collector.has_received(&trace.to_be_bytes()), "{child:?}");

    let printed = String::from_utf8_lossy(&child.stdout);
    let passed_on = format!("traceparent=00-{REMOTE_TRACE}-");
    assert!(printed.contains(&passed_on), "{printed}");
}

#[tokio::test]
async fn http_collector_needs_no_certificate_authorities() {
    if is_child() {
        return program();
    }
    let collector = Collector::start().await;
    run(
        "http_collector_needs_no_certificate_authorities",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("SSL_CERT_FILE", "/nonexistent"),
            ("SSL_CERT_DIR", "/nonexistent"),
        ],
    )
    .await;
    assert!(collector.has_received(b"deliver"));
}

#[tokio::test]
async fn environment_can_name_the_service() {
    if is_child() {
        return program();
    }
    let collector = Collector::start().await;
    run(
        "environment_can_name_the_service",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("OTEL_SERVICE_NAME", "bate-papo"),
        ],
    )
    .await;
    assert!(collector.has_received(b"bate-papo"));
    assert!(!collector.has_received(b"papo-test"));
}

#[tokio::test]
async fn without_variables_nothing_is_traced_and_logs_are_json() {
    if is_child() {
        return program();
    }
    let child = run("without_variables_nothing_is_traced_and_logs_are_json", &[]).await;
    let printed = String::from_utf8_lossy(&child.stdout);
    assert!(!printed.contains("traceparent"), "{printed}");
    let logged = String::from_utf8_lossy(&child.stderr);
    let line = logged.lines().find(|line| line.contains("logged"));
    let line = line.expect("the warning");
    assert!(
        line.starts_with('{') && line.contains(r#""answer":42"#),
        "{line}"
    );
}

#[tokio::test]
async fn missing_collector_stops_nothing() {
    if is_child() {
        return program();
    }
    let nobody = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let child = run("missing_collector_stops_nothing", &[nobody]).await;
    let logged = String::from_utf8_lossy(&child.stderr);
    assert!(logged.contains("logged"), "{logged}");
}
