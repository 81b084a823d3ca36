//! Where a room is: a host, and a path on it.

use std::fmt;

use papo_protocol::BasePath;

/// A host and the path of a room on it. As text, and in a room's status, the host alone if the room has all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPath {
    /// The host, as it is written: a name, or `*.` and a domain.
    pub host: String,
    /// The path.
    pub path: BasePath,
}

impl HostPath {
    /// Reads what a status has.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let path = if path.is_empty() { "/" } else { path };
        Some(Self {
            host: host.to_owned(),
            path: path.parse().ok()?,
        })
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_host_and_a_path_if_there_is_one() {
        for (text, host, path) in [
            ("a.example", "a.example", "/"),
            ("*.a.example/chat/geral", "*.a.example", "/chat/geral"),
        ] {
            let parsed = HostPath::parse(text).expect("valid");
            assert_eq!((&*parsed.host, &*parsed.path.to_string()), (host, path));
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!(HostPath::parse("a.example/a b"), None);
    }
}
