//! The Socket.IO Admin UI's namespace on the admin listener. tests/page drives its web page.

use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::{connect_async, tungstenite::client::IntoClientRequest};

use crate::{
    fixture::{LIMIT, Server, in_time, until},
    wire::Wire,
};

const TOKEN: &str = "a token that nobody else may know";
const PASSWORD: &str = "the password of the page";

/// A server with the Admin UI, and its credentials, which are removed with it.
struct Fixture {
    server: Server,
    folder: PathBuf,
}

impl Fixture {
    async fn start(flags: &[&str]) -> Self {
        let name = format!("papo-admin-ui-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("created");
        std::fs::write(folder.join("user"), "ana\n").expect("written");
        std::fs::write(folder.join("password"), PASSWORD).expect("written");
        let [user, password] = ["user", "password"]
            .map(|name| format!("--admin-ui-{name}={}", folder.join(name).display()));
        let flags = [&[user.as_str(), &password][..], flags].concat();
        let server = Server::start(&flags, &[]).await;
        Self { server, folder }
    }

    /// A connection to the admin listener.
    async fn open(&self) -> Wire {
        let url = format!(
            "ws://{}/socket.io/?EIO=4&transport=websocket",
            self.server.admin
        );
        let (socket, _) = in_time(Box::pin(connect_async(url)))
            .await
            .expect("upgraded");
        let mut wire = Wire(socket);
        let opened = wire.receive().await.expect("the engine's handshake");
        assert!(opened.starts_with('0'), "{opened}");
        wire
    }

    /// The answer to a CONNECT packet.
    async fn connect(&self, auth: &Value) -> (Wire, String) {
        let mut wire = self.open().await;
        wire.send(&format!("40/admin,{auth}")).await;
        let answer = wire.receive().await.expect("an answer");
        (wire, answer)
    }

    async fn sign_in(&self) -> Wire {
        let auth = json!({ "username": "ana", "password": PASSWORD });
        let (wire, answer) = self.connect(&auth).await;
        assert!(answer.starts_with("40/admin,{"), "{answer}");
        wire
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.admin)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The next event of this name at a client of the Admin UI, with its arguments.
async fn event(wire: &mut Wire, name: &str) -> Value {
    loop {
        let packet = wire.receive().await.expect("an event");
        let event = packet.strip_prefix("42/admin,");
        let event: Option<Value> = event.and_then(|json| serde_json::from_str(json).ok());
        if let Some(event) = event.filter(|event| event[0] == name) {
            return event;
        }
    }
}

#[tokio::test]
async fn admin_ui_is_off_by_default() {
    let server = Server::start(&[], &[]).await;
    for path in ["/socket.io", "/socket.io/?EIO=4&transport=polling"] {
        let (status, _) = server.get(path).await.expect("an answer");
        assert_eq!(status, 404, "{path}");
    }
}

#[tokio::test]
async fn admin_ui_is_not_on_the_public_listener() {
    let fixture = Fixture::start(&[]).await;
    let mut wire = Wire::open(&fixture.server).await;
    wire.send("40/admin,").await;
    let answer = wire.receive().await.expect("an answer");
    assert!(answer.contains("Invalid namespace"), "{answer}");
}

#[tokio::test]
async fn only_the_right_password_signs_in() {
    let fixture = Fixture::start(&[]).await;
    for auth in [
        json!({ "username": "ana", "password": "wrong" }),
        json!({ "username": "bia", "password": PASSWORD }),
        json!({ "sessionId": "0123456789abcdef" }),
        json!({ "sessionId": null }),
        json!({}),
        json!([]),
        json!({ "username": 1, "password": {} }),
    ] {
        let (_wire, answer) = fixture.connect(&auth).await;
        let expected = r#"44/admin,{"message":"invalid credentials"}"#;
        assert_eq!(answer, expected, "{auth}");
    }
    let mut wire = fixture.sign_in().await;
    let session = event(&mut wire, "session").await[1].take();
    let (mut again, answer) = fixture.connect(&json!({ "sessionId": session })).await;
    assert!(answer.starts_with("40/admin,{"), "{answer}");
    let config = event(&mut again, "config").await;
    assert_eq!(config[1], json!({ "supportedFeatures": ["DISCONNECT"] }));
}

#[tokio::test]
async fn attempts_to_sign_in_are_bounded() {
    let fixture = Fixture::start(&[]).await;
    let (started, mut tried) = (Instant::now(), 0);
    let wrong = json!({ "username": "ana", "password": "wrong" });
    let mut wire = fixture.open().await;
    let answer = loop {
        tried += 1;
        wire.send(&format!("40/admin,{wrong}")).await;
        let answer = wire.receive().await.expect("an answer");
        if !answer.contains("invalid credentials") {
            break answer;
        }
        // 10 at once, and one more each second.
        let allowed = 11 + started.elapsed().as_secs();
        assert!(tried <= allowed, "{tried} attempts");
    };
    assert!(answer.starts_with("44/admin,"), "{answer}");
    assert!(answer.contains("too many attempts"), "{answer}");
}

#[tokio::test]
async fn connections_to_the_admin_ui_are_bounded() {
    let fixture = Fixture::start(&[]).await;
    let handshake = "/socket.io/?EIO=4&transport=polling";
    let mut statuses = Vec::new();
    for _ in 0..17 {
        let (status, _) = fixture.server.get(handshake).await.expect("an answer");
        statuses.push(status);
    }
    assert_eq!(statuses[..16], [200; 16]);
    assert_eq!(statuses[16], 503);
    // Who does not sign in has to go.
    until("a place", async || {
        let (status, _) = fixture.server.get(handshake).await?;
        (status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let fixture = Fixture::start(&[]).await;
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket&token=in-the-query",
        fixture.server.address
    );
    let mut request = url.into_client_request().expect("valid");
    for (name, value) in [
        ("authorization", "Bearer in-a-header"),
        ("cookie", "in=a-cookie"),
    ] {
        let value = value.parse().expect("a header");
        request.headers_mut().insert(name, value);
    }
    let (socket, _) = in_time(Box::pin(connect_async(request)))
        .await
        .expect("upgraded");
    let mut member = Wire(socket);
    let opened = member.receive().await.expect("a packet");
    let opened: Value = serde_json::from_str(&opened[1..]).expect("JSON");
    let engine_id = opened["sid"].as_str().expect("an id").to_owned();
    let auth = json!({ "name": "Bia", "token": TOKEN });
    member.send(&format!("40{auth}")).await;
    let connected = member.receive().await.expect("a packet");
    let connected: Value = serde_json::from_str(&connected[2..]).expect("JSON");
    let id = connected["sid"].as_str().expect("an id").to_owned();
    member.event("history").await;
    let sent = member
        .ask(1, &json!(["message", "the text of a message"]))
        .await;
    assert_eq!(sent["ok"], json!(true));

    let mut wire = fixture.sign_in().await;
    let mut seen = String::new();
    // The list, and two rounds of statistics: everything that is sent of a member that stays.
    while seen.matches("server_stats").count() < 2 || !seen.contains("all_sockets") {
        seen += &wire.receive().await.expect("a packet");
    }
    assert!(seen.contains(&id) && seen.contains("Bia"), "{seen}");
    let list = seen.find(r#"["all_sockets","#).expect("a list");
    let mut list = serde_json::Deserializer::from_str(&seen[list..]).into_iter::<Value>();
    let list = list.next().expect("a value").expect("JSON");
    let socket = &list[1][0];
    assert_eq!(socket["handshake"]["address"], json!("127.0.0.1"));
    assert_eq!(socket["rooms"], json!([id, "default/geral"]));
    assert_eq!(socket["transport"], json!("websocket"));
    for secret in [
        TOKEN,
        engine_id.as_str(),
        "in-the-query",
        "in-a-header",
        "a-cookie",
        "the text of a message",
        PASSWORD,
    ] {
        assert!(!seen.contains(secret), "{secret:?} is in {seen}");
    }
}

#[tokio::test]
async fn member_that_is_disconnected_gets_a_disconnect_packet() {
    let fixture = Fixture::start(&[]).await;
    let (mut member, _) = Wire::join(&fixture.server, json!({ "name": "Bia" })).await;
    let (mut other, _) = Wire::join(&fixture.server, json!({ "name": "Caio" })).await;
    let mut wire = fixture.sign_in().await;
    let sockets = event(&mut wire, "all_sockets").await;
    let sockets = sockets[1].as_array().expect("a list").clone();
    let bia = sockets.iter().find(|one| one["data"]["user"] == "Bia");
    let id = bia.expect("listed")["id"].clone();
    // Neither of them names a member.
    wire.send(r#"42/admin,["_disconnect","/",false]"#).await;
    wire.send(r#"42/admin,["_disconnect","/",false,"default/geral"]"#)
        .await;
    wire.send(&format!(r#"42/admin,["_disconnect","/x",false,{id}]"#))
        .await;
    wire.send(&format!(r#"42/admin,["_disconnect","/",false,{id}]"#))
        .await;
    let mut packets = Vec::new();
    while let Some(packet) = member.receive().await {
        packets.push(packet);
    }
    assert_eq!(
        packets.last().map(String::as_str),
        Some("41"),
        "{packets:?}"
    );
    let gone = event(&mut wire, "socket_disconnected").await;
    let expected = json!(["/", id, "server namespace disconnect"]);
    assert_eq!(
        gone.as_array().expect("a list")[1..4],
        *expected.as_array().expect("a list")
    );
    let sent = other.ask(1, &json!(["message", "still here"])).await;
    assert_eq!(sent["ok"], json!(true));
}

#[tokio::test]
async fn client_that_does_not_read_delays_nobody() {
    let fixture = Fixture::start(&[]).await;
    // A page that has an empty list gets another list, and not the changes.
    let (_first, _) = Wire::join(&fixture.server, json!({ "name": "the first one" })).await;
    let _silent = fixture.sign_in().await;
    let mut reading = fixture.sign_in().await;
    event(&mut reading, "all_sockets").await;
    // More changes than a client's buffers hold.
    for number in 0..300 {
        let auth = json!({ "name": format!("N{number}") });
        drop(Wire::join(&fixture.server, auth).await);
    }
    let (_last, _) = Wire::join(&fixture.server, json!({ "name": "the last one" })).await;
    let arrived = async {
        loop {
            let connected = event(&mut reading, "socket_connected").await;
            if connected[1]["data"]["user"] == "the last one" {
                return;
            }
        }
    };
    timeout(LIMIT, arrived).await.expect("it is told");
}

#[tokio::test]
async fn only_allowed_pages_may_connect() {
    let fixture = Fixture::start(&["--admin-ui-origin=http://ui.example:8080"]).await;
    let (http, url) = (
        reqwest::Client::new(),
        fixture.url("/socket.io/?EIO=4&transport=polling"),
    );
    for (origin, status) in [
        ("http://ui.example:8080", 200),
        ("http://evil.example", 403),
    ] {
        let request = http.get(&url).header("origin", origin);
        let answer = in_time(request.send()).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{origin}");
        let readers = answer.headers().get("access-control-allow-origin");
        let readers = readers.and_then(|value| value.to_str().ok());
        assert_eq!(readers, (status == 200).then_some(origin));
        // The page asks with credentials, for the cookies of balancers.
        let credentials = answer.headers().get("access-control-allow-credentials");
        assert_eq!(credentials.is_some(), status == 200);
    }
    let preflight = http
        .request(Method::OPTIONS, &url)
        .header("origin", "http://ui.example:8080")
        .header("access-control-request-method", "POST");
    let answer = in_time(preflight.send()).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 204);
}
