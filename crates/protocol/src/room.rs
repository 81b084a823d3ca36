//! The room's name, as Kubernetes knows it.

use std::{fmt, str::FromStr};

/// A room: a name within a namespace, each a DNS label (RFC 1123).
///
/// Written `NAMESPACE/NAME`; a bare `NAME` is in the namespace `default`. The name is at most [`RoomName::MAX_NAME`]
/// bytes so that everything named after it (Service, Deployment, their pods) stays within Kubernetes' 63.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomName {
    namespace: String,
    name: String,
}

/// Why a text is not a [`RoomName`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidRoomName {
    /// Not a DNS label.
    #[error(
        "{0:?} is not a DNS label: use a-z, 0-9 and '-', beginning and ending with a letter or digit"
    )]
    Label(String),
    /// Too long a name or namespace.
    #[error("{label:?} has {} bytes, {max} at most", label.len())]
    Length {
        /// The offending part.
        label: String,
        /// Its limit in bytes.
        max: usize,
    },
}

impl RoomName {
    /// The longest room name, in bytes.
    pub const MAX_NAME: usize = 45;
    /// The longest namespace, in bytes (RFC 1123).
    pub const MAX_NAMESPACE: usize = 63;

    /// A room from its two parts.
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidRoomName> {
        Ok(Self {
            namespace: dns_label(namespace, Self::MAX_NAMESPACE)?,
            name: dns_label(name, Self::MAX_NAME)?,
        })
    }

    /// The namespace the room is in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The room's name within its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn dns_label(text: &str, max: usize) -> Result<String, InvalidRoomName> {
    if text.len() > max {
        return Err(InvalidRoomName::Length {
            label: text.to_owned(),
            max,
        });
    }
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    if text.is_empty() || !edges || !text.bytes().all(inside) {
        return Err(InvalidRoomName::Label(text.to_owned()));
    }
    Ok(text.to_owned())
}

impl FromStr for RoomName {
    type Err = InvalidRoomName;

    fn from_str(text: &str) -> Result<Self, InvalidRoomName> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        Self::new(namespace, name)
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_name_is_in_the_default_namespace() {
        let room: RoomName = "geral".parse().expect("valid");
        assert_eq!((room.namespace(), room.name()), ("default", "geral"));
        assert_eq!(room.to_string(), "default/geral");
    }

    #[test]
    fn names_invalid_in_kubernetes_are_rejected() {
        for name in ["", "-a", "a-", "Geral", "a.b", "a/b/c", "sala ", "café"] {
            assert!(name.parse::<RoomName>().is_err(), "{name:?}");
        }
        assert!("a".repeat(RoomName::MAX_NAME).parse::<RoomName>().is_ok());
        assert!(
            "a".repeat(RoomName::MAX_NAME + 1)
                .parse::<RoomName>()
                .is_err()
        );
    }
}
