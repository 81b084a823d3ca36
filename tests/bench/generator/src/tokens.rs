//! Access tokens of an issuer that shares a secret with the room (`keyFile`).

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The issuer that the rules of the room name.
pub const ISSUER: &str = "https://id.bench.example";
/// The audience that they name.
pub const AUDIENCE: &str = "papo";

/// Signs tokens.
pub struct Tokens(hmac::Key);

impl Tokens {
    /// With the secret in a file.
    pub fn read(secret: &Path) -> Result<Self> {
        let bytes =
            fs::read(secret).with_context(|| format!("cannot read {}", secret.display()))?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, bytes.trim_ascii())))
    }

    /// A token of the person with this number, for so long.
    pub fn sign(&self, number: usize, lasts: Duration) -> Result<String> {
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + lasts;
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "exp": expires.as_secs(), "sub": format!("5f0c1a52-5bd4-4b2e-9c0e-{number:012}"),
            "name": format!("Person {number}"), "jti": format!("{number:032x}"), "groups": ["staff", "engineering", "chat-users"],
        });
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(&json!({ "alg": "HS256" })), part(&claims));
        let signature = hmac::sign(&self.0, signed.as_bytes());
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// `auth` of the person with this number.
    pub fn auth(&self, number: usize, lasts: Duration) -> Result<String> {
        let token = self.sign(number, lasts)?;
        Ok(json!({ "accessToken": token }).to_string())
    }
}
