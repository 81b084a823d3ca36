//! An issuer of access tokens, and the access file of a room that accepts them.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::LOCATION},
    response::{IntoResponse, Response},
    routing::get,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How an issuer answers a request for its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Keys,
    Error,
    NoKeys,
    Redirect,
    TooLarge,
}

/// An issuer on this machine, with one key at a time.
pub(crate) struct Issuer {
    pub(crate) url: String,
    state: Arc<Published>,
    key: Mutex<Key>,
}

/// What it says over HTTP.
struct Published {
    url: String,
    jwk: Mutex<Value>,
    answer: Mutex<Answer>,
    requests: AtomicUsize,
    followed: AtomicUsize,
}

struct Key {
    id: String,
    key: EncodingKey,
}

impl Key {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        Self {
            id: format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            key: EncodingKey::from_ec_der(key.expect("generated").as_ref()),
        }
    }

    fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, Algorithm::ES256).expect("public");
        let mut jwk = json!(jwk);
        jwk["kid"] = json!(self.id);
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        encode(&header, claims, &self.key).expect("signed")
    }
}

impl Issuer {
    /// An issuer that answers so.
    pub(crate) async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/staff", listener.local_addr().expect("bound"));
        let key = Key::new();
        let state = Arc::new(Published {
            url: url.clone(),
            jwk: Mutex::new(key.jwk()),
            answer: Mutex::new(answer),
            requests: AtomicUsize::new(0),
            followed: AtomicUsize::new(0),
        });
        let router = Router::new()
            .route("/staff/.well-known/openid-configuration", get(document))
            .route("/staff/keys", get(keys))
            .route("/moved", get(moved))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let key = Mutex::new(key);
        Self { url, state, key }
    }

    pub(crate) fn answer(&self, answer: Answer) {
        *self.state.answer.lock() = answer;
    }

    /// Signs with another key from now on, which it publishes or not.
    pub(crate) fn rotate(&self, is_published: bool) {
        let key = Key::new();
        if is_published {
            *self.state.jwk.lock() = key.jwk();
        }
        *self.key.lock() = key;
    }

    /// Its key set.
    pub(crate) fn published(&self) -> Value {
        let jwk = self.state.jwk.lock().clone();
        json!({ "keys": [jwk] })
    }

    /// Requests for its keys.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Redirects that somebody has followed.
    pub(crate) fn followed(&self) -> usize {
        self.state.followed.load(Ordering::SeqCst)
    }

    /// A token of somebody for an hour.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.token_with(subject, 3_600, &json!({}))
    }

    /// A token that expires in so many seconds, with other claims.
    pub(crate) fn token_with(&self, subject: &str, seconds: i64, others: &Value) -> String {
        self.key.lock().sign(&self.claims(subject, seconds, others))
    }

    /// A token that has the id of the issuer's key, and was signed with another key.
    pub(crate) fn forged(&self, subject: &str) -> String {
        let mut key = Key::new();
        key.id.clone_from(&self.key.lock().id);
        key.sign(&self.claims(subject, 3_600, &json!({})))
    }

    fn claims(&self, subject: &str, seconds: i64, others: &Value) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(now.expect("after 1970").as_secs()).expect("a time");
        let mut claims =
            json!({ "iss": self.url, "aud": "papo", "sub": subject, "exp": now + seconds });
        let name = subject.to_owned();
        claims["name"] = json!(name);
        for (name, value) in others.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }

    /// The rules of a room that accepts its tokens, with other fields.
    pub(crate) fn access(&self, others: &Value) -> Value {
        let mut access = json!({ "issuers": [{ "issuer": self.url, "audiences": ["papo"] }] });
        for (name, value) in others.as_object().expect("an object") {
            access[name] = value.clone();
        }
        access
    }
}

async fn document(State(issuer): State<Arc<Published>>) -> Response {
    let keys = format!("{}/keys", issuer.url);
    let document = json!({ "issuer": issuer.url, "jwks_uri": keys });
    axum::Json(document).into_response()
}

async fn keys(State(issuer): State<Arc<Published>>) -> Response {
    issuer.requests.fetch_add(1, Ordering::SeqCst);
    let answer = *issuer.answer.lock();
    match answer {
        Answer::Keys => set(&issuer),
        Answer::NoKeys => axum::Json(json!({ "keys": [] })).into_response(),
        Answer::Error => StatusCode::BAD_GATEWAY.into_response(),
        Answer::Redirect => (StatusCode::FOUND, [(LOCATION, "/moved")]).into_response(),
        Answer::TooLarge => " ".repeat((1 << 20) + 1).into_response(),
    }
}

async fn moved(State(issuer): State<Arc<Published>>) -> Response {
    issuer.followed.fetch_add(1, Ordering::SeqCst);
    set(&issuer)
}

fn set(issuer: &Published) -> Response {
    let jwk = issuer.jwk.lock().clone();
    axum::Json(json!({ "keys": [jwk] })).into_response()
}

/// An access file, which is removed with it.
pub(crate) struct AccessFile(pub(crate) PathBuf);

impl AccessFile {
    pub(crate) fn new(content: &Value) -> Self {
        let name = format!("papo-access-{:016x}.json", rand::random::<u64>());
        let file = Self(std::env::temp_dir().join(name));
        file.write(&content.to_string());
        file
    }

    /// Replaces the file as a whole, as Kubernetes does.
    pub(crate) fn write(&self, content: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, content).expect("written");
        std::fs::rename(&new, &self.0).expect("renamed");
    }

    pub(crate) fn flag(&self) -> String {
        format!("--access={}", self.0.display())
    }
}

impl Drop for AccessFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
