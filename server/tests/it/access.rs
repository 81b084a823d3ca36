//! Who may enter a room: rules from a file, and access tokens of an issuer.

use std::time::{Duration, Instant};

use futures::StreamExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    fixture::{Server, command, in_time, until},
    issuer::{AccessFile, Answer, Issuer},
    wire::Wire,
};

/// A room whose server has fetched the keys of an issuer.
struct Room {
    server: Server,
    issuer: Issuer,
    file: AccessFile,
}

impl Room {
    /// A room with these rules.
    async fn start(rules: &Value) -> Self {
        let issuer = Issuer::start(Answer::Keys).await;
        let file = AccessFile::new(&issuer.access(rules));
        let server = Server::start(&[&file.flag()], &[]).await;
        let room = Self {
            server,
            issuer,
            file,
        };
        room.has_keys().await;
        room
    }

    async fn has_keys(&self) {
        until("keys", async || {
            let stats = stats(&self.server).await;
            (stats["access"]["issuers"][0]["keys"] == json!(1)).then_some(())
        })
        .await;
    }

    fn change(&self, rules: &Value) {
        self.file.write(&self.issuer.access(rules).to_string());
    }

    async fn join(&self, subject: &str) -> (Wire, Value) {
        self.join_with(&self.issuer.token(subject)).await
    }

    async fn join_with(&self, token: &str) -> (Wire, Value) {
        Wire::join(&self.server, json!({ "accessToken": token })).await
    }

    async fn guest(&self, name: &str) -> (Wire, Value) {
        Wire::join(&self.server, json!({ "name": name })).await
    }

    /// The code with which a client is rejected.
    async fn rejection(&self, auth: Value) -> String {
        rejection(&self.server, auth).await
    }
}

async fn rejection(server: &Server, auth: Value) -> String {
    let (_, answer) = Wire::connect(server, auth).await;
    let body = answer.strip_prefix("44").expect("a rejection");
    let body: Value = serde_json::from_str(body).expect("JSON");
    body["data"]["code"].as_str().expect("a code").to_owned()
}

async fn stats(server: &Server) -> Value {
    let (_, stats) = server.get("/stats").await.expect("an answer");
    serde_json::from_str(&stats).expect("JSON")
}

async fn metric(server: &Server, name: &str) -> Option<String> {
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with(name))?;
    line.rsplit(' ').next().map(str::to_owned)
}

/// The code with which the server closes a connection.
async fn close_code(mut wire: Wire) -> Option<CloseCode> {
    loop {
        match in_time(wire.0.next()).await {
            Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

#[tokio::test]
async fn somebody_signed_in_is_verified() {
    let room = Room::start(&json!({ "guests": "Write", "moderate": ["group:admins"] })).await;
    let token = room
        .issuer
        .token_with("ana", 3_600, &json!({ "groups": ["admins"] }));
    let (mut ana, history) = room.join_with(&token).await;
    let you = &history["you"];
    assert_eq!(you["user"], "ana");
    assert_eq!(you["verified"], true);
    assert_eq!(you["may"], json!(["read", "write", "moderate"]));
    let (mut guest, history) = room.guest("Rui").await;
    assert_eq!(history["you"]["verified"], false);
    assert_eq!(history["you"]["may"], json!(["read", "write"]));
    assert_eq!(ana.ask(1, &json!(["message", "olá"])).await["ok"], true);
    let message = guest.event("message").await;
    assert_eq!(message[2]["verified"], true);
    assert_eq!(message[2]["sender"], you["sender"]);
    assert_eq!(guest.ask(1, &json!(["message", "oi"])).await["ok"], true);
    // Her own message may have come before its acknowledgement.
    let mut message = ana.event("message").await;
    if message[1] == "olá" {
        message = ana.event("message").await;
    }
    assert_eq!(
        (&message[1], &message[2]["verified"]),
        (&json!("oi"), &Value::Null)
    );
    let (_other, history) = room.guest("Bia").await;
    let verified = |place: usize| history["messages"][place]["verified"].clone();
    assert_eq!([verified(0), verified(1)], [json!(true), Value::Null]);
}

#[tokio::test]
async fn person_on_two_devices_is_one_person() {
    let room = Room::start(&json!({})).await;
    let (_first, one) = room.join("ana").await;
    let (_second, other) = room.join("ana").await;
    assert_eq!(one["you"], other["you"]);
    let (_third, rui) = room.join("rui").await;
    assert_ne!(one["you"]["sender"], rui["you"]["sender"]);
    let namesake = room
        .issuer
        .token_with("another", 3_600, &json!({ "name": "ana" }));
    let (_fourth, namesake) = room.join_with(&namesake).await;
    let marked = namesake["you"]["user"].as_str().expect("a name").to_owned();
    assert!(marked.starts_with("ana #"), "{marked}");
}

#[tokio::test]
async fn guest_cannot_take_the_name_of_somebody_signed_in() {
    let room = Room::start(&json!({ "guests": "Write" })).await;
    let (ana, _) = room.join("ana").await;
    for name in ["ana", "ANA", "аnа"] {
        assert_eq!(room.rejection(json!({ "name": name })).await, "name_taken");
    }
    drop(ana);
    until("the name", async || {
        let (_, answer) = Wire::connect(&room.server, json!({ "name": "ana" })).await;
        answer.starts_with("40").then_some(())
    })
    .await;
}

#[tokio::test]
async fn guests_may_what_the_rules_say() {
    let room = Room::start(&json!({ "guests": "Read" })).await;
    let (mut guest, history) = room.guest("Rui").await;
    assert_eq!(history["you"]["may"], json!(["read"]));
    let answer = guest.ask(1, &json!(["message", "olá"])).await;
    assert_eq!(answer["code"], "forbidden");
    let answer = guest.ask(2, &json!(["history", {}])).await;
    assert_eq!(answer["ok"], true);
    let (mut ana, _) = room.join("ana").await;
    guest.send(r#"42["typing"]"#).await;
    let answer = ana.ask(1, &json!(["message", "olá"])).await;
    assert_eq!(answer["ok"], true);
    guest.event("message").await;
    let closed = Room::start(&json!({})).await;
    assert_eq!(closed.rejection(json!({})).await, "unauthenticated");
}

#[tokio::test]
async fn roles_follow_groups_and_subjects() {
    let room = Room::start(&json!({ "read": ["group:staff"], "write": ["subject:rui"] })).await;
    let staff = json!({ "groups": ["staff"] });
    let (mut ana, history) = room
        .join_with(&room.issuer.token_with("ana", 3_600, &staff))
        .await;
    assert_eq!(history["you"]["may"], json!(["read"]));
    let answer = ana.ask(1, &json!(["message", "olá"])).await;
    assert_eq!(answer["code"], "forbidden");
    let (mut rui, history) = room.join("rui").await;
    assert_eq!(history["you"]["may"], json!(["read", "write"]));
    assert_eq!(rui.ask(1, &json!(["message", "olá"])).await["ok"], true);
    let token = room.issuer.token("eva");
    assert_eq!(
        room.rejection(json!({ "accessToken": token })).await,
        "forbidden"
    );
}

#[tokio::test]
async fn bad_tokens_are_rejected_and_never_logged() {
    let room = Room::start(&json!({ "guests": "Write", "denied": { "tokenIds": ["t-7"] } })).await;
    let Issuer { url, .. } = &room.issuer;
    let good = room.issuer.token("ana");
    let cases = [
        (room.issuer.forged("ana"), "unauthenticated", "signature"),
        (
            good[..good.len() / 2].to_owned(),
            "unauthenticated",
            "malformed",
        ),
        ("x".repeat(20_000), "unauthenticated", "too_long"),
        (
            room.issuer.token_with("ana", -120, &json!({})),
            "token_expired",
            "expired",
        ),
        (
            room.issuer
                .token_with("ana", 3_600, &json!({ "aud": "other" })),
            "unauthenticated",
            "audience",
        ),
        (
            room.issuer
                .token_with("ana", 3_600, &json!({ "iss": format!("{url}/") })),
            "unauthenticated",
            "unknown_issuer",
        ),
        (
            room.issuer
                .token_with("ana", 3_600, &json!({ "jti": "t-7" })),
            "forbidden",
            "denied",
        ),
    ];
    for (token, code, reason) in &cases {
        let given = room.rejection(json!({ "accessToken": token })).await;
        assert_eq!(given, *code, "{reason}");
        let counter = format!("papo_token_rejections_total{{reason=\"{reason}\"}}");
        assert_eq!(
            metric(&room.server, &counter).await.as_deref(),
            Some("1"),
            "{reason}"
        );
    }
    let (_ana, _) = room.join_with(&good).await;
    let log = until("the log", async || {
        let log = room.server.log();
        log.iter()
            .any(|line| line.contains("entered"))
            .then_some(log)
    })
    .await;
    let audit: Vec<Value> = log
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["target"] == "papo::audit")
        .collect();
    let of = |message: &'static str| audit.iter().filter(move |line| line["message"] == message);
    let reasons: Vec<&str> = of("rejected")
        .filter_map(|line| line["reason"].as_str())
        .collect();
    assert_eq!(reasons, cases.each_ref().map(|(_, _, reason)| *reason));
    let entered = of("entered").next().expect("a line");
    assert_eq!(
        (&entered["subject"], &entered["issuer"]),
        (&json!("ana"), &json!(url))
    );
    assert_eq!(entered["room"], "default/geral");
    let whole = log.join("\n");
    for (token, ..) in cases.iter().chain([&(good, "", "")]) {
        for part in token.split('.').filter(|part| part.len() > 20) {
            assert!(!whole.contains(&part[..20]), "{part}");
        }
    }
}

#[tokio::test]
async fn unknown_key_has_the_keys_fetched_once() {
    let room = Room::start(&json!({})).await;
    assert_eq!(room.issuer.requests(), 1);
    room.issuer.rotate(true);
    let (_ana, _) = room.join("ana").await;
    assert_eq!(
        room.issuer.requests(),
        2,
        "a published key is found at once"
    );
    room.issuer.rotate(false);
    let unknown = async |expected: &str| {
        let token = room.issuer.token("ana");
        let code = room.rejection(json!({ "accessToken": token })).await;
        assert_eq!(code, expected);
    };
    for _ in 0..20 {
        unknown("unauthenticated").await;
    }
    assert_eq!(room.issuer.requests(), 3, "once for this key");
    room.issuer.rotate(true);
    let (_bia, _) = room.join("bia").await;
    assert_eq!(room.issuer.requests(), 4, "other keys have their turn");
    room.issuer.rotate(false);
    unknown("unavailable").await;
    assert_eq!(room.issuer.requests(), 4, "three within half a minute");
}

#[tokio::test]
async fn withdrawn_key_puts_out_who_came_with_it() {
    let room = Room::start(&json!({ "guests": "Read" })).await;
    let late = json!({ "exp": 253_402_300_799_u64 });
    let former = room.issuer.token_with("ana", 0, &late);
    let (mut ana, _) = room.join_with(&former).await;
    let (mut guest, _) = room.guest("Eva").await;
    room.issuer.rotate(true);
    let (mut rui, _) = room.join("rui").await;
    assert_eq!(ana.event("closed").await[1]["code"], "token_expired");
    assert_eq!(close_code(ana).await, Some(CloseCode::Away));
    assert_eq!(
        room.rejection(json!({ "accessToken": former })).await,
        "unauthenticated"
    );
    let (_ana, _) = room.join("ana").await;
    assert_eq!(rui.ask(1, &json!(["message", "olá"])).await["ok"], true);
    assert_eq!(guest.ask(1, &json!(["history", {}])).await["ok"], true);
}

#[tokio::test]
async fn issuer_can_withdraw_its_last_key() {
    let room = Room::start(&json!({})).await;
    let (mut ana, _) = room.join("ana").await;
    let former = room.issuer.token("ana");
    room.issuer.answer(Answer::NoKeys);
    room.issuer.rotate(true);
    let token = room.issuer.token("rui");
    let rejected = async |token: &str| room.rejection(json!({ "accessToken": token })).await;
    assert_eq!(rejected(&token).await, "unauthenticated");
    assert_eq!(ana.event("closed").await[1]["code"], "token_expired");
    assert_eq!(rejected(&former).await, "unauthenticated");
    let issuer = &stats(&room.server).await["access"]["issuers"][0];
    assert_eq!(issuer["keys"], 0);
    let problem = issuer["problem"].as_str().expect("a problem");
    assert!(problem.contains("no key"), "{problem}");
}

#[tokio::test]
async fn withdrawn_audience_puts_out_who_came_with_it() {
    let room = Room::start(&json!({})).await;
    let (mut ana, _) = room.join("ana").await;
    let both = json!({ "aud": ["papo", "chat"] });
    let (mut rui, _) = room
        .join_with(&room.issuer.token_with("rui", 3_600, &both))
        .await;
    let audiences = |audiences: &[&str]| {
        room.change(&json!({ "issuers": [{ "issuer": room.issuer.url, "audiences": audiences }] }));
    };
    audiences(&["chat", "papo"]);
    audiences(&["chat"]);
    assert_eq!(ana.event("closed").await[1]["code"], "token_expired");
    assert_eq!(rui.event("closed").await[1]["code"], "token_expired");
    let (_rui, _) = room
        .join_with(&room.issuer.token_with("rui", 3_600, &both))
        .await;
    assert_eq!(room.issuer.requests(), 1, "the keys are kept");
}

#[tokio::test]
async fn keys_of_another_place_are_not_taken_over() {
    let room = Room::start(&json!({})).await;
    let (mut ana, _) = room.join("ana").await;
    let elsewhere = format!("{}/elsewhere", room.issuer.url);
    let issuer = json!({ "issuer": room.issuer.url, "audiences": ["papo"], "jwksUri": elsewhere });
    room.change(&json!({ "issuers": [issuer], "moderate": ["*"] }));
    ana.event("you").await;
    let token = room.issuer.token("rui");
    assert_eq!(
        room.rejection(json!({ "accessToken": token })).await,
        "unavailable"
    );
    let answer = ana.ask(1, &json!(["message", "still here"])).await;
    assert_eq!(
        answer["ok"], true,
        "nobody knows that her key was withdrawn"
    );
}

#[tokio::test]
async fn replaced_secret_puts_out_who_came_with_it() {
    const URL: &str = "https://tokens.example";
    let secrets = [
        "a secret of the issuer, 32 bytes and more",
        "another secret, and as long as the first",
    ];
    let file = AccessFile::new(&json!(secrets[0]));
    file.write(secrets[0]);
    let issuer = json!({ "issuer": URL, "audiences": ["papo"], "keyFile": file.0 });
    let access = AccessFile::new(&json!({ "issuers": [issuer] }));
    let server = Server::start(&[&access.flag()], &[]).await;
    let auth = |secret: &str| {
        let claims = json!({ "iss": URL, "aud": "papo", "sub": "ana", "exp": 253_402_300_799_u64 });
        let secret = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &secret);
        json!({ "accessToken": token.expect("signed") })
    };
    let began = Instant::now();
    for _ in 0..2 {
        assert_eq!(
            rejection(&server, auth(secrets[1])).await,
            "unauthenticated"
        );
    }
    let fetch = Duration::from_secs(5);
    assert!(began.elapsed() < fetch, "no fetch is waited for");
    let (mut ana, _) = Wire::join(&server, auth(secrets[0])).await;
    file.write(secrets[1]);
    assert_eq!(ana.event("closed").await[1]["code"], "token_expired");
    assert_eq!(
        rejection(&server, auth(secrets[0])).await,
        "unauthenticated"
    );
    let (_ana, _) = Wire::join(&server, auth(secrets[1])).await;
}

#[tokio::test]
async fn new_token_is_in_force_even_if_it_gives_less() {
    let rules =
        json!({ "read": ["group:staff"], "write": ["group:staff"], "moderate": ["group:admins"] });
    let room = Room::start(&rules).await;
    let token = |groups: &[&str]| {
        let others = json!({ "groups": groups, "exp": 253_402_300_799_u64 });
        room.issuer.token_with("ana", 0, &others)
    };
    let (mut ana, _) = room.join_with(&token(&["admins"])).await;
    let answer = ana.ask(1, &json!(["token", token(&["staff"])])).await;
    assert_eq!(answer["you"]["may"], json!(["read", "write"]));
    let left = answer["expiresIn"].as_u64().expect("milliseconds");
    assert!((86_390_000..=86_400_000).contains(&left), "{left}");
    let nobody = format!("422{}", json!(["token", token(&[])]));
    ana.send(&nobody).await;
    assert_eq!(ana.event("closed").await[1]["code"], "forbidden");
    assert_eq!(close_code(ana).await, Some(CloseCode::Policy));
}

#[tokio::test]
async fn issuer_that_is_down_keeps_nobody_out() {
    let room = Room::start(&json!({})).await;
    room.issuer.answer(Answer::Error);
    let good = room.issuer.token("ana");
    let (mut rui, _) = room.join("rui").await;
    room.issuer.rotate(true);
    let stranger = room.issuer.token("ana");
    assert_eq!(
        room.rejection(json!({ "accessToken": stranger })).await,
        "unavailable",
        "nobody knows whether the issuer has this key"
    );
    assert_eq!(room.issuer.requests(), 2);
    assert_eq!(rui.ask(1, &json!(["message", "olá"])).await["ok"], true);
    let (_ana, _) = room.join_with(&good).await;
    let stats = stats(&room.server).await;
    let problem = stats["access"]["issuers"][0]["problem"]
        .as_str()
        .expect("a problem");
    assert!(problem.contains("502"), "{problem}");
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_make_tokens_unavailable() {
    for (answer, expected) in [
        (Answer::Error, "502"),
        (Answer::Redirect, "302"),
        (Answer::TooLarge, "more than 1048576 bytes"),
    ] {
        let issuer = Issuer::start(answer).await;
        let file = AccessFile::new(&issuer.access(&json!({ "guests": "Read" })));
        let server = Server::start(&[&file.flag()], &[]).await;
        let token = issuer.token("ana");
        let given = rejection(&server, json!({ "accessToken": token })).await;
        assert_eq!(given, "unavailable");
        let (_guest, _) = Wire::join(&server, json!({})).await;
        let readyz = until("the note", async || {
            let (status, text) = server.get("/readyz").await?;
            assert_eq!(status, 200, "{text}");
            text.contains("limited").then_some(text)
        })
        .await;
        assert!(
            readyz.contains(&issuer.url) && readyz.contains(expected),
            "{readyz}"
        );
        assert_eq!(issuer.followed(), 0);
        issuer.answer(Answer::Keys);
        until("keys", async || {
            let (_, answer) = Wire::connect(&server, json!({ "accessToken": token })).await;
            answer.starts_with("40").then_some(())
        })
        .await;
        until("no note", async || {
            let (_, text) = server.get("/readyz").await?;
            (!text.contains("limited")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn change_of_the_file_is_in_force_for_who_is_connected() {
    let room = Room::start(&json!({ "guests": "Write" })).await;
    let (mut guest, _) = room.guest("Bia").await;
    let (mut ana, _) = room.join("ana").await;
    let (mut rui, _) = room.join("rui").await;
    room.change(
        &json!({ "guests": "Read", "write": ["subject:rui"], "moderate": ["subject:rui"] }),
    );
    let you = guest.event("you").await;
    assert_eq!(you[1]["may"], json!(["read"]));
    let answer = guest.ask(1, &json!(["message", "olá"])).await;
    assert_eq!(answer["code"], "forbidden");
    assert_eq!(ana.event("you").await[1]["may"], json!(["read"]));
    let you = rui.event("you").await;
    assert_eq!(you[1]["may"], json!(["read", "write", "moderate"]));
    assert_eq!(you[1]["user"], "rui");
    room.change(&json!({ "denied": { "subjects": ["ana"] } }));
    for wire in [ana, guest] {
        let mut wire = wire;
        let closed = wire.event("closed").await;
        assert_eq!(closed[1]["code"], "forbidden");
        assert_eq!(close_code(wire).await, Some(CloseCode::Policy));
    }
    assert_eq!(rui.event("you").await[1]["may"], json!(["read", "write"]));
    assert_eq!(rui.ask(1, &json!(["message", "olá"])).await["ok"], true);
    let token = room.issuer.token("ana");
    assert_eq!(
        room.rejection(json!({ "accessToken": token })).await,
        "forbidden"
    );
    let closed = metric(
        &room.server,
        "papo_connections_closed_total{reason=\"forbidden\"}",
    )
    .await;
    assert_eq!(closed.as_deref(), Some("2"));
    assert_eq!(room.issuer.requests(), 1, "the keys are kept");
}

#[tokio::test]
async fn removed_issuer_and_denied_guest_are_put_out() {
    let room = Room::start(&json!({ "guests": "Write" })).await;
    let (mut ana, _) = room.join("ana").await;
    let (mut guest, history) = room.guest("Bia").await;
    let sender = &history["you"]["sender"];
    room.file
        .write(&json!({ "guests": "Write", "denied": { "senders": [sender] } }).to_string());
    for wire in [&mut ana, &mut guest] {
        assert_eq!(wire.event("closed").await[1]["code"], "forbidden");
    }
    let token = room.issuer.token("ana");
    assert_eq!(
        room.rejection(json!({ "accessToken": token })).await,
        "unauthenticated"
    );
    let (_other, _) = room.guest("Eva").await;
}

#[tokio::test]
async fn bad_file_changes_nothing() {
    let room = Room::start(&json!({ "guests": "Read" })).await;
    let (mut guest, _) = room.guest("Bia").await;
    room.file.write(r#"{"guests":"Everything"}"#);
    let readyz = until("the note", async || {
        let (status, text) = room.server.get("/readyz").await?;
        assert_eq!(status, 200);
        text.contains("limited").then_some(text)
    })
    .await;
    assert!(readyz.contains("Everything"), "{readyz}");
    assert_eq!(
        metric(&room.server, "papo_access_valid").await.as_deref(),
        Some("0")
    );
    assert_eq!(stats(&room.server).await["access"]["valid"], false);
    assert_eq!(guest.ask(1, &json!(["history", {}])).await["ok"], true);
    let (_ana, _) = room.join("ana").await;
    room.change(&json!({ "guests": "Write" }));
    assert_eq!(guest.event("you").await[1]["may"], json!(["read", "write"]));
    assert_eq!(
        metric(&room.server, "papo_access_valid").await.as_deref(),
        Some("1")
    );
}

#[tokio::test]
async fn bad_file_at_the_start_is_an_error() {
    let file = AccessFile::new(&json!({ "guests": "None" }));
    let flag = file.flag();
    let run = tokio::task::spawn_blocking(move || command(&[&flag]).output());
    let output = in_time(run).await.expect("no panic").expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("--access") && error.contains("nobody may enter"),
        "{error}"
    );
}

#[tokio::test]
async fn token_is_refreshed_in_place() {
    let room = Room::start(&json!({ "guests": "Read", "moderate": ["group:admins"] })).await;
    let (mut rui, _) = room.join("rui").await;
    let (mut ana, _) = room
        .join_with(&room.issuer.token_with("ana", -15, &json!({})))
        .await;
    let expiring = ana.event("token_expiring").await;
    assert_eq!(expiring[1]["in"], 0);
    let ask = |token: String| json!(["token", token]);
    for (token, code) in [
        (room.issuer.forged("ana"), "unauthenticated"),
        (room.issuer.token("rui"), "forbidden"),
        (
            room.issuer.token_with("ana", -120, &json!({})),
            "token_expired",
        ),
    ] {
        assert_eq!(ana.ask(1, &ask(token)).await["code"], code);
    }
    assert_eq!(
        ana.ask(2, &json!(["token", 7])).await["code"],
        "bad_request"
    );
    let fresh = json!({ "groups": ["admins"], "name": "Ana Maria" });
    let fresh = ask(room.issuer.token_with("ana", 3_600, &fresh));
    for number in 0..10 {
        let text = format!("message {number}");
        assert_eq!(rui.ask(number, &json!(["message", text])).await["ok"], true);
        if number == 5 {
            ana.send(&format!("423{fresh}")).await;
        }
    }
    let (mut messages, mut answer) = (0, Value::Null);
    while messages < 10 || answer.is_null() {
        let packet = ana.receive().await.expect("a packet");
        if let Some(acknowledged) = packet.strip_prefix("433[") {
            answer = serde_json::from_str(acknowledged.trim_end_matches(']')).expect("JSON");
        } else if packet.starts_with(r#"42["message""#) {
            let expected = format!("message {messages}");
            assert!(packet.contains(&expected), "{packet}");
            messages += 1;
        }
    }
    assert_eq!(answer["ok"], true, "{answer}");
    let left = answer["expiresIn"].as_u64().expect("milliseconds");
    assert!((3_590_000..=3_600_000).contains(&left), "{left}");
    assert_eq!(answer["you"]["may"], json!(["read", "write", "moderate"]));
    assert_eq!(answer["you"]["user"], "Ana Maria");
    // The former token would have had its connection closed by now.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(
        ana.ask(5, &json!(["message", "still here"])).await["ok"],
        true
    );
    let said = loop {
        let message = rui.event("message").await;
        if message[1] == "still here" {
            break message;
        }
    };
    assert_eq!(said[2]["user"], "Ana Maria");
    let (mut guest, _) = room.guest("Bia").await;
    let answer = guest.ask(1, &ask(room.issuer.token("bia"))).await;
    assert_eq!(answer["code"], "forbidden");
    let refreshes = metric(&room.server, "papo_token_refreshes_total").await;
    assert_eq!(refreshes.as_deref(), Some("1"));
}

#[tokio::test]
async fn sender_of_many_tokens_is_slowed_down() {
    let room = Room::start(&json!({})).await;
    let (mut ana, _) = room.join("ana").await;
    let mut rejected = 0;
    for number in 0..20 {
        let answer = ana
            .ask(number, &json!(["token", room.issuer.token("ana")]))
            .await;
        rejected += u32::from(answer["code"] == "rate_limited");
    }
    assert!(rejected >= 10, "{rejected}");
}

#[tokio::test]
async fn expired_token_closes_and_the_client_resumes() {
    let room = Room::start(&json!({})).await;
    let (mut rui, _) = room.join("rui").await;
    assert_eq!(rui.ask(0, &json!(["message", "before"])).await["ok"], true);
    let (mut ana, history) = room
        .join_with(&room.issuer.token_with("ana", -25, &json!({})))
        .await;
    let (epoch, offset) = (&history["epoch"], &history["messages"][0]["offset"]);
    let closed = ana.event("closed").await;
    assert_eq!(closed[1]["code"], "token_expired");
    assert_eq!(close_code(ana).await, Some(CloseCode::Away));
    assert_eq!(
        rui.ask(1, &json!(["message", "meanwhile"])).await["ok"],
        true
    );
    let token = room.issuer.token("ana");
    let auth = json!({ "accessToken": token, "epoch": epoch, "offset": offset });
    let (_ana, history) = Wire::join(&room.server, auth).await;
    assert_eq!(history["recovered"], true);
    assert_eq!(history["messages"][0]["text"], "meanwhile");
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(1));
    let expired = metric(&room.server, "papo_token_expirations_total").await;
    assert_eq!(expired.as_deref(), Some("1"));
}

#[tokio::test]
async fn token_of_a_proxy_is_that_of_the_first_request() {
    let room = Room::start(&json!({ "guests": "Write" })).await;
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket",
        room.server.address
    );
    let mut request = url.into_client_request().expect("valid");
    let bearer = |token: String| format!("Bearer {token}");
    let header = bearer(room.issuer.token("ana")).parse().expect("a header");
    request.headers_mut().insert("Authorization", header);
    let (socket, _) = in_time(Box::pin(connect_async(request)))
        .await
        .expect("upgraded");
    let mut wire = Wire(socket);
    wire.receive().await.expect("the engine's handshake");
    wire.send(r#"40{"name":"Rui"}"#).await;
    assert_eq!(wire.event("history").await[1]["you"]["user"], "ana");

    let http = reqwest::Client::new();
    let base = format!(
        "http://{}/socket.io/?EIO=4&transport=polling",
        room.server.address
    );
    let open = http
        .get(&base)
        .header("Authorization", bearer(room.issuer.token("bia")));
    let open = open
        .send()
        .await
        .expect("answered")
        .text()
        .await
        .expect("text");
    let open: Value = serde_json::from_str(&open[1..]).expect("JSON");
    let session = format!("{base}&sid={}", open["sid"].as_str().expect("an id"));
    let posted = http.post(&session).body("40").send().await;
    assert_eq!(posted.expect("answered").status(), 200);
    let mut body = String::new();
    while !body.contains("history") {
        let polled = http.get(&session).send().await.expect("answered");
        body.push_str(&polled.text().await.expect("text"));
    }
    assert!(body.contains(r#""user":"bia""#), "{body}");
}

#[tokio::test]
async fn page_learns_where_to_sign_in() {
    let issuer = Issuer::start(Answer::Keys).await;
    let sign_in = json!({ "clientId": "papo-web", "resource": "urn:papo" });
    let file = AccessFile::new(&issuer.access(&json!({ "guests": "Read", "signIn": sign_in })));
    let arguments = ["--base-path=/chat/geral", &file.flag()];
    let server = Server::start(&arguments, &[]).await;
    let get = async |path: &str| {
        let url = format!("http://{}/chat/geral/{path}", server.address);
        reqwest::get(url).await.expect("answered")
    };
    let response = get("access.json").await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: Value = serde_json::from_str(&response.text().await.expect("text")).expect("JSON");
    let expected = json!({
        "issuer": issuer.url, "clientId": "papo-web", "scopes": ["openid", "profile"], "token": "Access", "resource": "urn:papo",
    });
    assert_eq!(
        body,
        json!({ "guests": "Read", "signIn": expected, "title": "geral" })
    );
    let origin = issuer.url.trim_end_matches("/staff");
    let page = get("").await;
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .expect("ASCII");
    assert!(
        policy.contains(&format!("connect-src 'self' {origin};")),
        "{policy}"
    );
    assert_eq!(policy.matches("http").count(), 1, "{policy}");
}

#[tokio::test]
async fn server_without_rules_accepts_no_tokens() {
    let issuer = Issuer::start(Answer::Keys).await;
    let server = Server::start(&[], &[]).await;
    let token = issuer.token("ana");
    assert_eq!(
        rejection(&server, json!({ "accessToken": token })).await,
        "unauthenticated"
    );
    let (_guest, history) = Wire::join(&server, json!({})).await;
    assert_eq!(history["you"]["may"], json!(["read", "write"]));
    let response = reqwest::get(format!("http://{}/access.json", server.address)).await;
    let body = response.expect("answered").text().await.expect("text");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        body,
        json!({ "guests": "Write", "signIn": null, "title": "geral" })
    );
    assert_eq!(issuer.requests(), 0);
}

/// An issuer's keys over TLS, with a certificate of its own authority.
struct TlsKeys {
    folder: std::path::PathBuf,
    child: std::process::Child,
    port: u16,
}

impl TlsKeys {
    fn start(set: &Value) -> Self {
        let folder = std::env::temp_dir().join(format!("papo-tls-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).expect("created");
        let body = set.to_string();
        let answer = format!(
            "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        std::fs::write(folder.join("keys"), answer).expect("written");
        let made = std::process::Command::new("sh")
            .current_dir(&folder)
            .args(["-ec", CERTIFICATES])
            .output()
            .expect("openssl runs");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let child = std::process::Command::new("openssl")
            .current_dir(&folder)
            .args([
                "s_server",
                "-quiet",
                "-HTTP",
                "-cert",
                "server.crt",
                "-key",
                "server.key",
            ])
            .args(["-accept", &port.to_string()])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl runs");
        Self {
            folder,
            child,
            port,
        }
    }
}

impl Drop for TlsKeys {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const CERTIFICATES: &str = "
new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
$new -x509 -subj /CN=authority -keyout ca.key -out ca.crt -days 1
$new -x509 -subj /CN=another -keyout other.key -out other.crt -days 1
$new -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE -keyout server.key -out server.csr
openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -copy_extensions copy -days 1 -out server.crt";

#[tokio::test]
async fn issuer_with_an_authority_of_its_own_is_trusted_by_it_alone() {
    let issuer = Issuer::start(Answer::Keys).await;
    let keys = TlsKeys::start(&issuer.published());
    let rules = |authority: &str| {
        let keys_url = format!("https://localhost:{}/keys", keys.port);
        let issuer = json!({
            "issuer": issuer.url, "audiences": ["papo"], "jwksUri": keys_url, "caFile": keys.folder.join(authority),
        });
        json!({ "issuers": [issuer] })
    };
    let file = AccessFile::new(&rules("missing.crt"));
    let server = Server::start(&[&file.flag()], &[]).await;
    let problem = async |expected: &str| {
        until(expected, async || {
            let stats = stats(&server).await;
            let problem = stats["access"]["issuers"][0]["problem"].as_str()?;
            problem.contains(expected).then_some(())
        })
        .await;
    };
    problem("caFile cannot be used: No such file").await;
    file.write(&rules("other.crt").to_string());
    problem("certificate").await;
    let token = issuer.token("ana");
    let given = rejection(&server, json!({ "accessToken": token })).await;
    assert_eq!(given, "unavailable");
    file.write(&rules("ca.crt").to_string());
    until("keys", async || {
        let (_, answer) = Wire::connect(&server, json!({ "accessToken": token })).await;
        answer.starts_with("40").then_some(())
    })
    .await;
    assert_eq!(issuer.requests(), 0, "its keys are elsewhere");
}
