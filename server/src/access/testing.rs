//! Keys that tests sign tokens with.

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair,
    },
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value as Json, json};

use crate::clock::unix_now;

/// Bytes of a PKCS#8 document before the RSA key of 2,048 bits in it (RFC 5208, RFC 8017).
const BEFORE_RSA_KEY: usize = 26;

/// A key with its id.
pub(super) struct SigningKey {
    pub(super) id: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: EncodingKey,
}

impl SigningKey {
    /// A new key for an algorithm.
    pub(super) fn new(algorithm: Algorithm) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let key = match algorithm {
            Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::EdDSA => {
                let random = SystemRandom::new();
                let key = Ed25519KeyPair::generate_pkcs8v1(&random).expect("generated");
                EncodingKey::from_ed_der(key.as_ref())
            }
            _ => RSA.clone(),
        };
        let id = format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { id, algorithm, key }
    }

    /// Its public half, as an issuer publishes it.
    pub(super) fn jwk(&self) -> Json {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("public");
        let mut jwk = json!(jwk);
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A token with these claims.
    pub(super) fn sign(&self, claims: &Json) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        self.sign_with(&header, claims)
    }

    /// A token with this head and these claims.
    pub(super) fn sign_with(&self, header: &Header, claims: &Json) -> String {
        encode(header, claims, &self.key).expect("signed")
    }
}

/// It takes a while to find one.
static RSA: LazyLock<EncodingKey> = LazyLock::new(|| {
    let key = KeyPair::generate(KeySize::Rsa2048).expect("generated");
    let der: Pkcs8V1Der<'_> = key.as_der().expect("encoded");
    EncodingKey::from_rsa_der(&der.as_ref()[BEFORE_RSA_KEY..])
});

fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> EncodingKey {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("generated");
    EncodingKey::from_ec_der(key.as_ref())
}

/// Claims of a token that is accepted for an hour, and others that replace them; a null removes one.
pub(super) fn claims(issuer: &str, others: &Json) -> Json {
    let now = unix_now().as_secs();
    let mut claims =
        json!({ "iss": issuer, "sub": "ana", "aud": "papo", "exp": now + 3_600, "name": "Ana" });
    for (name, value) in others.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    let all = claims.as_object_mut().expect("an object");
    all.retain(|_, value| !value.is_null());
    claims
}
