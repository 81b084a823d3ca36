//! `papo-server say`, as a person or `helm test` runs it.

use std::process::{Output, Stdio};

use serde_json::json;
use tokio::task::spawn_blocking;

use crate::{
    fixture::{Server, command},
    wire::Wire,
};

/// Runs it in a thread, so that a server in this process goes on.
async fn say(arguments: &[&str]) -> Output {
    let mut command = command(&["say"]);
    command.args(arguments).stdout(Stdio::piped());
    let run = move || command.output().expect("it runs");
    spawn_blocking(run).await.expect("no panic")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}

#[tokio::test]
async fn said_message_is_acknowledged_and_reaches_members() {
    let server = Server::start(&[], &[]).await;
    let (mut member, _) = Wire::join(&server, json!({ "name": "Ana" })).await;
    let said = say(&["--url", &url(&server), "--name", "helm", "helm test"]).await;
    let output = text(&said.stdout);
    assert!(said.status.success(), "{}", text(&said.stderr));
    assert!(output.starts_with("the room said: helm test\n"), "{output}");
    assert!(
        output.contains("acknowledged: offset 0 of epoch"),
        "{output}"
    );
    let message = member.event("message").await;
    assert_eq!(
        (&message[1], &message[2]["user"]),
        (&json!("helm test"), &json!("helm"))
    );
}

#[tokio::test]
async fn room_below_a_path_is_reached_by_the_address_of_its_page() {
    let server = Server::start(&["--base-path=/chat/geral"], &[]).await;
    let room = format!("{}/chat/geral/", url(&server));
    let said = say(&["--url", &room, "oi"]).await;
    assert!(said.status.success(), "{}", text(&said.stderr));
    let said = say(&["--url", &url(&server), "--timeout=1", "oi"]).await;
    assert!(!said.status.success(), "there is no room beside the path");
}

#[tokio::test]
async fn rejection_of_the_server_is_an_error_with_its_code() {
    let server = Server::start(&["--max-message-length", "5"], &[]).await;
    for (arguments, code) in [
        (["--name", "helm", "too long"], "text_too_long"),
        (["--name", " ", "olá"], "invalid_name"),
    ] {
        let said = say(&[&["--url", &url(&server)][..], &arguments].concat()).await;
        let error = text(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{error}");
        assert!(
            error.starts_with("papo-server: ") && error.contains(code),
            "{error}"
        );
    }
}

#[tokio::test]
async fn server_that_does_not_answer_is_named_after_the_timeout() {
    // Nobody listens on port 1.
    let said = say(&["--url", "http://127.0.0.1:1", "--timeout", "1", "olá"]).await;
    let error = text(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{error}");
    for part in ["http://127.0.0.1:1/", "within 1 s", "refused", "--timeout"] {
        assert!(error.contains(part), "{part:?} in {error}");
    }
}
