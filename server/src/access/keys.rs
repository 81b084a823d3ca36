//! The keys of an issuer: a JSON Web Key Set (RFC 7517), or a secret in a file.
//!
//! Each key has its algorithms from its own type (RFC 7518, 3.1), or from its `alg` alone. A set with keys that the server cannot use is usable
//! without them. Symmetric keys and keys for encryption are never used: a set is public.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

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
    pub(super) verifier: DecodingKey,
}

/// Why there are no keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeysError {
    /// Another document.
    #[error("its key set is not one (RFC 7517)")]
    NoSet,
    /// More than [`KEYS_MAX`].
    #[error("its key set has {0} keys, and may have {KEYS_MAX}")]
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
pub(super) fn of_set(json: &[u8]) -> Result<Vec<Key>, KeysError> {
    let Set { keys } = serde_json::from_slice(json).map_err(|_| KeysError::NoSet)?;
    if keys.len() > KEYS_MAX {
        return Err(KeysError::TooMany(keys.len()));
    }
    let usable = keys.into_iter().filter_map(|key| {
        let key: Jwk = serde_json::from_value(key).ok()?;
        of_jwk(key)
    });
    let usable: Vec<Key> = usable.collect();
    if usable.is_empty() {
        return Err(KeysError::Unusable);
    }
    Ok(usable)
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
        verifier: DecodingKey::from_secret(secret),
    })
}

/// The key for a token among those of its issuer. A token that names none has one only if there is one.
pub(super) fn find<'a>(keys: &'a [Key], token: &Unverified<'_>) -> Result<&'a Key, TokenError> {
    let is_named = |key: &&Key| match (&key.id, &token.key_id) {
        (Some(id), Some(named)) => id == named,
        _ => true,
    };
    let named: Vec<&Key> = keys.iter().filter(is_named).collect();
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
    Some(Key {
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
