//! The Secret with the servers' broker user and with who may enter, mounted into their pods.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{metadata::metadata, topology::topology};
use crate::validate::Room;

/// Key and file of the user's name, as `papo-server --broker-credentials` reads it.
pub const USERNAME_KEY: &str = "username";
/// Key and file of the password.
pub const PASSWORD_KEY: &str = "password";
/// Key and file of the secret with which the servers know each other's sessions, as `papo-server --session-key` reads it.
pub const SESSION_KEY: &str = "session-key";
/// Key and file of the broker's certificate authority.
pub const CA_KEY: &str = "ca.crt";
/// Key and file with who may enter, as `papo-server --access` reads it. Every room has one, so that a change of its access restarts no server.
pub const ACCESS_KEY: &str = "access.json";

/// What the servers need to log in to their broker, and to find each other's sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The password of the room's broker user.
    pub password: String,
    /// The secret that the room's servers share.
    pub session_key: String,
    /// The broker's certificate authority (PEM), if it has one of its own.
    pub ca: Option<String>,
}

/// The Secret of a room's servers.
pub fn secret(room: &Room, credentials: &Credentials) -> Secret {
    let Credentials {
        password,
        session_key,
        ca,
    } = credentials;
    let user = topology(room).user.name;
    let mut data = BTreeMap::from([
        (USERNAME_KEY, user.as_str()),
        (PASSWORD_KEY, password),
        (SESSION_KEY, session_key),
        (ACCESS_KEY, &room.access.json),
    ]);
    data.extend(ca.as_ref().map(|ca| (CA_KEY, ca.as_str())));
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    Secret {
        metadata: metadata(room),
        data: Some(
            data.into_iter()
                .map(|(key, value)| (key.to_owned(), bytes(value)))
                .collect(),
        ),
        ..Secret::default()
    }
}
