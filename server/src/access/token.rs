//! Access tokens: JSON Web Tokens (RFC 7519) in the compact form, and how they are verified.
//!
//! - The issuer that a token names chooses the keys, and the key chooses the algorithms (RFC 8725, 3.1 and 3.8): what the head of a token says is
//!   only compared with them. A key of one issuer verifies no token of another.
//! - `jsonwebtoken` verifies the signature and the claims `exp`, `nbf`, `iss` and `aud`. What it leaves to its caller is here: the length, one of the
//!   room's issuers, `crit`, the kind of token, and a subject that can be an identity.
//! - An error says nothing of the token's content.

use std::str::FromStr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation, decode, errors::ErrorKind};
use papo_protocol::{access::TOKEN_MAX, event::Code};
use serde_json::{Map, Value};

use super::{
    keys::{Key, KeyDigest},
    rules::NoEntry,
};
use crate::{chat::Rejection, json::AnyJson};

/// How far the clocks of issuer and server may differ, in seconds.
pub(super) const LEEWAY: u64 = 60;

/// Why an access token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The room has no issuers.
    #[error("this server accepts no access tokens; connect without auth.accessToken")]
    NotAccepted,
    /// Longer than [`TOKEN_MAX`].
    #[error("an access token has at most {TOKEN_MAX} bytes")]
    TooLong,
    /// Not three parts, not base64url, or not the JSON of a token.
    #[error("the access token is not a signed JSON Web Token in the compact form")]
    Malformed,
    /// Another kind of token, or one with a critical extension.
    #[error("the access token is of a kind that this server does not accept")]
    Kind,
    /// Claim `iss`.
    #[error("the access token is of an issuer that this room does not accept")]
    UnknownIssuer,
    /// `kid` of the head.
    #[error("the issuer of the access token has no such key")]
    UnknownKey,
    /// `alg` of the head.
    #[error("the access token has an algorithm that its key is not for")]
    Algorithm,
    /// Not made with the key.
    #[error("the signature of the access token is wrong")]
    Signature,
    /// Claim `aud`.
    #[error("the access token is for another audience")]
    Audience,
    /// A claim that is missing, or has another type or length.
    #[error("the access token has no usable claim {0}")]
    Claims(&'static str),
    /// Claim `exp`.
    #[error("the access token has expired; get a new one")]
    Expired,
    /// Claim `nbf`.
    #[error("the access token is not valid yet")]
    NotYetValid,
    /// The keys of the issuer were never fetched, or those that could be newer could not be.
    #[error("the keys of the access token's issuer cannot be fetched now; try again later")]
    KeysUnavailable,
    /// The token is valid, and of somebody else than the connection.
    #[error("the access token is of another person; connect again to be that person")]
    AnotherPerson,
    /// The token is valid, and its bearer may not enter.
    #[error("{}", .0.message())]
    NoEntry(NoEntry),
}

impl TokenError {
    /// For metrics and the audit log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotAccepted | Self::UnknownIssuer => "unknown_issuer",
            Self::TooLong => "too_long",
            Self::Malformed | Self::Kind => "malformed",
            Self::UnknownKey | Self::NoEntry(NoEntry::Withdrawn) => "unknown_key",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Claims(_) => "claims",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::KeysUnavailable => "keys_unavailable",
            Self::NoEntry(NoEntry::Denied) => "denied",
            Self::AnotherPerson | Self::NoEntry(NoEntry::NotAllowed) => "not_allowed",
            // Of a guest, who has no token.
            Self::NoEntry(NoEntry::SignInNeeded) => "sign_in_needed",
        }
    }

    /// For clients.
    pub(crate) fn rejection(self) -> Rejection {
        let code = match self {
            Self::Expired => Code::TokenExpired,
            Self::KeysUnavailable => Code::Unavailable,
            Self::NoEntry(no_entry) => no_entry.code(),
            Self::AnotherPerson => Code::Forbidden,
            _ => Code::Unauthenticated,
        };
        Rejection::new(code, self.to_string())
    }
}

impl NoEntry {
    /// For clients.
    pub(crate) fn code(self) -> Code {
        match self {
            Self::SignInNeeded => Code::Unauthenticated,
            Self::Denied | Self::NotAllowed => Code::Forbidden,
            Self::Withdrawn => Code::TokenExpired,
        }
    }

    /// For clients.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::SignInNeeded => "this room is for people who are signed in",
            Self::Denied => "you may not enter this room",
            Self::NotAllowed => "you are signed in, but nobody has let you into this room",
            Self::Withdrawn => {
                "the key or the audience of the access token was withdrawn; connect again with a new one"
            }
        }
    }
}

/// What a token says before it is verified: only where to find the key.
#[derive(Debug)]
pub(super) struct Unverified<'a> {
    token: &'a str,
    pub(super) issuer: String,
    pub(super) key_id: Option<String>,
    pub(super) algorithm: Algorithm,
}

/// What has verified a token. Its bearer may stay for as long as the issuer has that key, and the room that audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) key: KeyDigest,
    pub(super) algorithm: Algorithm,
    pub(super) audience: Box<str>,
}

impl Proof {
    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        Self {
            key: [0; 32],
            algorithm: Algorithm::ES256,
            audience: "papo".into(),
        }
    }
}

impl<'a> Unverified<'a> {
    /// Reads a token.
    pub(super) fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(head), Some(claims), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed);
        };
        let head = object(head)?;
        let text = |name: &str| head.get(name).and_then(Value::as_str);
        // No extension is understood here, so none may be critical (RFC 7515, 4.1.11).
        if head.contains_key("crit") || text("typ").is_some_and(is_of_another_kind) {
            return Err(TokenError::Kind);
        }
        let algorithm = text("alg").ok_or(TokenError::Malformed)?;
        // "none" is no algorithm.
        let algorithm = Algorithm::from_str(algorithm).map_err(|_| TokenError::Algorithm)?;
        let issuer = object(claims)?.remove("iss");
        Ok(Self {
            token,
            issuer: match issuer {
                Some(Value::String(issuer)) => issuer,
                _ => return Err(TokenError::Claims("iss")),
            },
            key_id: text("kid").map(str::to_owned),
            algorithm,
        })
    }

    /// What tells the key that it was signed with from others.
    pub(super) fn wanted_key(&self) -> &str {
        self.key_id.as_deref().unwrap_or(self.token)
    }

    /// The claims, if the key is that of the token and the claims are those of a token for one of these audiences.
    pub(super) fn verify(
        &self,
        key: &Key,
        audiences: &[String],
    ) -> Result<(Map<String, Value>, Proof), TokenError> {
        let mut validation = Validation::new(self.algorithm);
        validation.algorithms.clone_from(&key.algorithms);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(audiences);
        validation.set_issuer(std::slice::from_ref(&self.issuer));
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        let decoded = decode::<AnyJson>(self.token, &key.verifier, &validation);
        match decoded.map_err(|error| of_library(error.kind()))?.claims {
            AnyJson(Value::Object(claims)) => {
                let audience = audience(&claims, audiences).ok_or(TokenError::Audience)?;
                let proof = Proof {
                    key: key.digest,
                    algorithm: self.algorithm,
                    audience: audience.into(),
                };
                Ok((claims, proof))
            }
            AnyJson(_) => Err(TokenError::Malformed),
        }
    }
}

/// Whether a token says that it is neither an access token (RFC 9068) nor an ID token: a logout token, for example, has the same issuer, subject
/// and audience.
fn is_of_another_kind(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    kind.ends_with("+jwt") && kind != "at+jwt"
}

/// Whether verified claims are those of a token that is not for the room, though it may have no `typ` in its head: a logout token or another
/// security event (RFC 8417), a token that needs a proof of possession (RFC 7800), or one that Keycloak's claim `typ` names.
pub(super) fn is_for_another_use(claims: &Map<String, Value>, accepts_id_tokens: bool) -> bool {
    let is_other = match claims.get("typ").and_then(Value::as_str) {
        Some("ID") => !accepts_id_tokens,
        Some("Refresh" | "Offline" | "Logout") => true,
        _ => false,
    };
    is_other || claims.contains_key("events") || claims.contains_key("cnf")
}

/// The first of these audiences that a token has.
fn audience<'a>(claims: &Map<String, Value>, audiences: &'a [String]) -> Option<&'a str> {
    let is_named = |audience: &&str| match claims.get("aud") {
        Some(Value::Array(named)) => named.iter().any(|named| named == audience),
        Some(named) => named == audience,
        None => false,
    };
    audiences.iter().map(String::as_str).find(is_named)
}

/// A part of a token: the base64url of a JSON object.
fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    let json = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)?;
    match serde_json::from_slice(&json) {
        Ok(AnyJson(Value::Object(object))) => Ok(object),
        _ => Err(TokenError::Malformed),
    }
}

fn of_library(error: &ErrorKind) -> TokenError {
    match error {
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYetValid,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidIssuer => TokenError::UnknownIssuer,
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::UnsupportedAlgorithm => TokenError::Algorithm,
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            let known = ["exp", "nbf", "iss", "sub", "aud"];
            let known = known.into_iter().find(|known| *known == claim.as_str());
            TokenError::Claims(known.unwrap_or_default())
        }
        ErrorKind::InvalidToken
        | ErrorKind::Base64(_)
        | ErrorKind::Json(_)
        | ErrorKind::Utf8(_) => TokenError::Malformed,
        _ => TokenError::Signature,
    }
}
