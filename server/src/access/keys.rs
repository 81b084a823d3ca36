//! The keys of an issuer: a JSON Web Key Set (RFC 7517), or a secret in a file.
//!
//! Each key has its algorithms from its own type (RFC 7518, 3.1), or from its `alg` alone. A set with keys that the server cannot use is used
//! without them, even if none is left: it is what the issuer has published. Symmetric keys and keys for encryption are never used: a set is public.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::token::{TokenError, Unverified};

/// Most keys of an issuer.
const KEYS_MAX: usize = 100;
/// Shortest secret of an issuer, in bytes: as long as the output of the shortest algorithm (RFC 7518, 3.2).
const SECRET_MIN: usize = 32;
/// Least and most bits of an RSA modulus.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A key that verifies tokens.
#[derive(Clone)]
pub(super) struct Key {
    /// `kid`. A key without one is for every token.
    pub(super) id: Option<String>,
    pub(super) algorithms: Vec<Algorithm>,
    /// Tells whether another key is the same.
    pub(super) digest: KeyDigest,
    pub(super) verifier: DecodingKey,
}

/// SHA-256 of what verifies.
pub(super) type KeyDigest = [u8; 32];

/// The keys of an issuer, in the place of all former ones.
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// What is wrong with the set.
    pub(super) problem: Option<KeysError>,
}

/// What is wrong with the keys of an issuer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysError {
    /// Another document.
    #[error("its key set is not one (RFC 7517)")]
    NoSet,
    /// More than [`KEYS_MAX`].
    #[error("its key set has {0} keys, and the first {KEYS_MAX} are used")]
    TooMany(usize),
    /// None of them verifies signatures with an algorithm that the server knows.
    #[error("its key set has no key for RS256, PS256, ES256, ES384, EdDSA or a longer variant")]
    Unusable,
    /// A secret that can be guessed.
    #[error("the secret in keyFile has {0} bytes, and must have {SECRET_MIN} at least")]
    ShortSecret(usize),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The keys of a key set.
pub(super) fn of_set(json: &[u8]) -> Result<KeySet, KeysError> {
    let Set { keys } = serde_json::from_slice(json).map_err(|_| KeysError::NoSet)?;
    let len = keys.len();
    let usable = keys.into_iter().take(KEYS_MAX).filter_map(|key| {
        let key: Jwk = serde_json::from_value(key).ok()?;
        of_jwk(key)
    });
    let keys: Vec<Key> = usable.collect();
    let problem = if keys.is_empty() {
        Some(KeysError::Unusable)
    } else {
        (len > KEYS_MAX).then_some(KeysError::TooMany(len))
    };
    Ok(KeySet { keys, problem })
}

/// The key of an issuer that shares a secret with the room.
pub(super) fn of_secret(bytes: &[u8]) -> Result<Key, KeysError> {
    let secret = bytes.trim_ascii();
    if secret.len() < SECRET_MIN {
        return Err(KeysError::ShortSecret(secret.len()));
    }
    Ok(Key {
        id: None,
        algorithms: AlgorithmFamily::Hmac.algorithms().to_vec(),
        digest: Sha256::digest(secret).into(),
        verifier: DecodingKey::from_secret(secret),
    })
}

/// The key for a token among those of its issuer. A token that names none has one only if there is one.
pub(super) fn find<'a>(keys: &'a [Key], token: &Unverified<'_>) -> Result<&'a Key, TokenError> {
    let of_id = |id: Option<&str>| {
        let keys = keys.iter().filter(|key| key.id.as_deref() == id);
        keys.collect::<Vec<&Key>>()
    };
    let mut named = match &token.key_id {
        Some(id) => of_id(Some(id.as_str())),
        None => keys.iter().collect(),
    };
    if named.is_empty() {
        named = of_id(None);
    }
    if named.is_empty() {
        return Err(TokenError::UnknownKey);
    }
    let fits = |key: &&&Key| key.algorithms.contains(&token.algorithm);
    let fitting: Vec<&&Key> = named.iter().filter(fits).collect();
    match fitting[..] {
        [] => Err(TokenError::Algorithm),
        [key] => Ok(key),
        // Keys of one id differ in their type (RFC 7517, 4.5).
        [key, ..] if token.key_id.is_some() => Ok(key),
        _ => Err(TokenError::UnknownKey),
    }
}

fn of_jwk(jwk: Jwk) -> Option<Key> {
    let is_for_signatures = match (&jwk.common.public_key_use, &jwk.common.key_operations) {
        (Some(PublicKeyUse::Signature) | None, None) => true,
        (Some(PublicKeyUse::Signature) | None, Some(operations)) => {
            operations.contains(&KeyOperations::Verify)
        }
        _ => false,
    };
    let mut algorithms = is_for_signatures.then(|| algorithms(&jwk.algorithm))??;
    if let Some(only) = jwk.common.key_algorithm {
        let only = Algorithm::try_from(only).ok()?;
        algorithms.retain(|algorithm| *algorithm == only);
    }
    if algorithms.is_empty() {
        return None;
    }
    let material = serde_json::to_vec(&jwk.algorithm).ok()?;
    Some(Key {
        digest: Sha256::digest(material).into(),
        verifier: DecodingKey::from_jwk(&jwk).ok()?,
        id: jwk.common.key_id,
        algorithms,
    })
}

/// The algorithms of a type of key, if the key is one.
fn algorithms(parameters: &AlgorithmParameters) -> Option<Vec<Algorithm>> {
    let has_length =
        |coordinate: &str, bytes: usize| decoded(coordinate).is_some_and(|x| x.len() == bytes);
    match parameters {
        AlgorithmParameters::RSA(key) => {
            let modulus = decoded(&key.n)?;
            let bits = modulus.iter().skip_while(|byte| **byte == 0).count() * 8;
            let all = AlgorithmFamily::Rsa.algorithms().to_vec();
            RSA_BITS.contains(&bits).then_some(all)
        }
        AlgorithmParameters::EllipticCurve(key) => {
            let (algorithm, bytes) = match key.curve {
                EllipticCurve::P256 => (Algorithm::ES256, 32),
                EllipticCurve::P384 => (Algorithm::ES384, 48),
                _ => return None,
            };
            let is_point = has_length(&key.x, bytes) && has_length(&key.y, bytes);
            is_point.then(|| vec![algorithm])
        }
        AlgorithmParameters::OctetKeyPair(key) => {
            let is_ed25519 = key.curve == EllipticCurve::Ed25519 && has_length(&key.x, 32);
            is_ed25519.then(|| vec![Algorithm::EdDSA])
        }
        _ => None,
    }
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.decode(part).ok()
}
