//! The process: how it starts, its errors when it cannot start, and how it ends.

use std::{
    net::{SocketAddr, TcpListener},
    process::Output,
};

use serde_json::json;

use crate::{
    fixture::{CLOSED_ADDRESS, Server, command, program, until},
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
        "[default: [::]:5000]",
        "[default: 127.0.0.1:5001]",
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
        (["--allow-host", "https://a.example"], "without scheme"),
        (["--base-path", "chat"], "begins with /"),
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
fn error_names_a_limit_of_descriptors_that_leaves_no_socket() {
    let limited = "ulimit -n 256 && exec timeout 60 \"$0\" --log-filter off --listen 127.0.0.1:0";
    let output = program("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_papo-server")])
        .output()
        .expect("the shell runs");
    assert_one_line(&output, 1, &["file descriptors", "256", "ulimit -Hn"]);
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
    let header = |name: &str| page.headers()[name].to_str().expect("text").to_owned();
    let policy = header("content-security-policy");
    assert!(
        policy.contains("script-src 'self'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(policy.contains("require-trusted-types-for 'script'; trusted-types 'none'"));
    assert_eq!(header("cross-origin-opener-policy"), "same-origin");
    assert!(header("permissions-policy").contains("camera=()"));
    assert!(page.text().await.expect("text").contains("id=\"messages\""));
    for missing in ["/nothing", "/static/../../Cargo.toml", "/%2e%2e/Cargo.toml"] {
        let answer = reqwest::get(format!("http://{}{missing}", server.address))
            .await
            .expect("an answer");
        assert_eq!(answer.status().as_u16(), 404, "{missing}");
    }
}

#[tokio::test]
async fn room_below_a_path_is_served_there_only() {
    let server = Server::start(&["--base-path=/chat/geral"], &[]).await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", server.address)).await;
        answer.expect("an answer")
    };
    for (path, status) in [
        ("/chat/geral/", 200),
        ("/chat/geral/static/js/chat.js", 200),
        ("/chat/geral/nothing", 404),
        ("/chat/geralissimo/", 404),
        ("/chat/", 404),
        ("/static/js/chat.js", 404),
        ("/", 404),
    ] {
        assert_eq!(get(path).await.status().as_u16(), status, "{path}");
    }
    let page = get("/chat/geral?a=b").await;
    assert_eq!(
        (page.url().path(), page.url().query()),
        ("/chat/geral/", Some("a=b"))
    );
    assert!(page.headers().contains_key("content-security-policy"));
    assert_eq!(
        server.get("/livez").await.map(|(status, _)| status),
        Some(200)
    );
}

/// `Strict-Transport-Security` of an answer, if the request came with this `X-Forwarded-Proto`.
async fn hsts(server: &Server, path: &str, proto: Option<&str>) -> Option<String> {
    let mut request = reqwest::Client::new().get(format!("http://{}{path}", server.address));
    if let Some(proto) = proto {
        request = request.header("x-forwarded-proto", proto);
    }
    let answer = request.send().await.expect("an answer");
    let header = answer.headers().get("strict-transport-security");
    header.map(|value| value.to_str().expect("text").to_owned())
}

#[tokio::test]
async fn hsts_is_sent_only_over_tls_of_a_trusted_proxy() {
    let server = Server::start(&["--hsts-max-age=600"], &[]).await;
    let socket_io = "/socket.io/?EIO=4&transport=polling";
    for path in ["/", "/nothing", socket_io] {
        let sent = hsts(&server, path, Some("https")).await;
        assert_eq!(sent.as_deref(), Some("max-age=600"), "{path}");
        for proto in [Some("http"), None] {
            assert_eq!(hsts(&server, path, proto).await, None, "{path} {proto:?}");
        }
    }
    let distrusting = ["--hsts-max-age=600", "--trusted-proxies=none"];
    for arguments in [&distrusting[..], &[]] {
        let server = Server::start(arguments, &[]).await;
        let sent = hsts(&server, "/", Some("https")).await;
        assert_eq!(sent, None, "{arguments:?}");
    }
}

/// The status and body of `path` on an address, asked for by this host.
async fn get_as(address: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let request = reqwest::Client::new().get(format!("http://{address}{path}"));
    let answer = request
        .header("host", host)
        .send()
        .await
        .expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

#[tokio::test]
async fn foreign_host_is_misdirected_on_the_public_port_only() {
    let server = Server::start(&["--allow-host=chat.example.com,*.sala.example"], &[]).await;
    let socket_io = "/socket.io/?EIO=4&transport=websocket";
    for path in ["/", "/static/js/chat.js", socket_io] {
        let (status, text) = get_as(server.address, path, "evil.example:5000").await;
        assert_eq!(status, 421, "{path}");
        assert!(text.contains("--allow-host evil.example"), "{text}");
    }
    for host in [
        "Chat.Example.com",
        "a.sala.example:443",
        "localhost:5000",
        "127.0.0.1",
    ] {
        assert_eq!(get_as(server.address, "/", host).await.0, 200, "{host}");
    }
    assert_eq!(get_as(server.admin, "/livez", "evil.example").await.0, 200);
    let open = Server::start(&[], &[]).await;
    assert_eq!(get_as(open.address, "/", "any.example").await.0, 200);
}

#[tokio::test]
async fn imitated_name_gets_a_mark_that_everybody_sees() {
    let server = Server::start(&[], &[]).await;
    let auth = |name: &str, token: &str| json!({ "name": name, "token": token });
    let (mut ana, history) = Wire::join(&server, auth("Ana", "the secret of Ana")).await;
    assert_eq!(history["you"]["user"], "Ana");
    // With a Cyrillic letter.
    let (mut eva, history) = Wire::join(&server, auth("Аna", "the secret of Eva")).await;
    let sender = history["you"]["sender"].as_str().expect("text").to_owned();
    let marked = format!("Аna #{}", &sender[..4]);
    assert_eq!(history["you"]["user"], marked);
    eva.send(r#"42["message","oi"]"#).await;
    let message = ana.event("message").await;
    assert_eq!(
        (&message[2]["user"], &message[2]["sender"]),
        (&json!(marked), &json!(sender))
    );
    let (_, history) = Wire::join(&server, auth("Ana", "the secret of Ana")).await;
    assert_eq!(
        history["you"]["user"], "Ana",
        "another device of the same sender"
    );
}

#[tokio::test]
async fn guessable_token_is_rejected_and_none_is_not() {
    let server = Server::start(&[], &[]).await;
    let (_, answer) = Wire::connect(&server, json!({ "token": "fifteen letters" })).await;
    assert!(
        answer.starts_with("44") && answer.contains("invalid_token"),
        "{answer}"
    );
    assert!(answer.contains("at least 16 characters"), "{answer}");
    for auth in [json!({}), json!({ "token": "" }), json!({ "name": "Ana" })] {
        Wire::join(&server, auth).await;
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
