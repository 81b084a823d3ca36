//! The process: how it starts, its errors when it cannot start, and how it ends.

use std::{net::TcpListener, process::Output};

use serde_json::json;

use crate::{
    fixture::{CLOSED_ADDRESS, Server, command, until},
    wire::Wire,
};

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

/// The process ended with this status and one line of error that contains all of these.
fn assert_one_line(output: &Output, status: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("papo-server:"))
        .collect();
    assert_eq!(
        (output.status.code(), lines.len()),
        (Some(status), 1),
        "{text}"
    );
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} in {text}");
    }
}

#[test]
fn help_lists_the_settings() {
    let help = String::from_utf8(run(&["--help"]).stdout).expect("text");
    for part in [
        "Usage: papo-server",
        "--broker <URL>",
        "--declare",
        "Limits",
        "PAPO_LISTEN",
        "[default: 0.0.0.0:5000]",
    ] {
        assert!(help.contains(part), "{part:?} in {help}");
    }
}

#[test]
fn error_about_a_flag_names_the_valid_values() {
    for (arguments, part) in [
        (["--brocker", "x"], "--broker"),
        (["--broker", "http://mq"], "amqp://"),
        (["--room", "Geral!"], "DNS label"),
        (["--max-message-length", "0"], "1..=65536"),
    ] {
        let output = run(&arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && text.contains(part),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn error_names_a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["--log-filter", "off", "--listen", &address]);
    assert_one_line(&output, 1, &[&address, "another program", "--listen"]);
    let output = run(&[
        "--log-filter",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        &address,
    ]);
    assert_one_line(&output, 1, &[&address, "--admin-listen"]);
}

#[test]
fn error_names_an_unreachable_broker() {
    let url = format!("amqp://guest:s3cr3t@{CLOSED_ADDRESS}");
    let output = run(&["--log-filter", "off", "--broker", &url, "--declare"]);
    assert_one_line(
        &output,
        1,
        &["cannot reach RabbitMQ", "refused", "--broker"],
    );
    assert!(!String::from_utf8_lossy(&output.stderr).contains("s3cr3t"));
}

#[tokio::test]
async fn admin_listener_serves_health_metrics_and_stats() {
    let server = Server::start(&["--room", "equipe/geral"], &[]).await;
    assert_eq!(
        server.get("/livez").await.map(|(status, _)| status),
        Some(200)
    );
    let (_, stats) = server.get("/stats").await.expect("an answer");
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    assert_eq!(
        (&stats["room"], &stats["connections"], &stats["log"]["tail"]),
        (&"equipe/geral".into(), &0.into(), &0.into())
    );
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    for metric in [
        "papo_connections 0",
        "papo_messages_received_total",
        "papo_publish_seconds_bucket",
        "papo_read_lag_seconds_bucket",
        "papo_delivery_seconds_bucket",
        "papo_duplicates_total 0",
        "papo_broker_up 1",
    ] {
        assert!(metrics.contains(metric), "{metric:?} in {metrics}");
    }
}

#[tokio::test]
async fn public_listener_serves_only_the_page_with_a_strict_policy() {
    let server = Server::start(&[], &[]).await;
    let page = reqwest::get(format!("http://{}/", server.address))
        .await
        .expect("an answer");
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(
        policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(page.text().await.expect("text").contains("id=\"messages\""));
    for missing in ["/nothing", "/static/../../Cargo.toml", "/%2e%2e/Cargo.toml"] {
        let answer = reqwest::get(format!("http://{}{missing}", server.address))
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 404, "{missing}");
    }
}

#[tokio::test]
async fn sigterm_drains_members_and_exits_with_success() {
    let mut server = Server::start(&["--drain-period=2"], &[]).await;
    let (mut member, _) = Wire::join(&server, json!({})).await;
    server.terminate();
    let unready = until("unreadiness", async || {
        server
            .get("/readyz")
            .await
            .filter(|(status, _)| *status == 503)
    })
    .await;
    assert!(unready.1.contains("shutting down"), "{}", unready.1);
    let notice = member.event("draining").await;
    assert_eq!(notice, json!(["draining", {"after": 2000}]));
    assert!(member.has_ended().await);
    assert_eq!(server.exit_code().await, Some(0));
}
