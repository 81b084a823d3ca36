//! The Secret with the servers' broker user, mounted into their pods.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{User, metadata};
use crate::validate::Room;

/// Key and file of the user's name, as `papo-server --broker-credentials` reads it.
pub const USERNAME_KEY: &str = "username";
/// Key and file of the password.
pub const PASSWORD_KEY: &str = "password";
/// Key and file of the broker's certificate authority.
pub const CA_KEY: &str = "ca.crt";

/// The Secret of a room's servers.
pub fn secret(room: &Room, user: &User, password: &str, ca: Option<&str>) -> Secret {
    let mut data = BTreeMap::from([(USERNAME_KEY, user.name.as_str()), (PASSWORD_KEY, password)]);
    data.extend(ca.map(|ca| (CA_KEY, ca)));
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
