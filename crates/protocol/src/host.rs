//! A host by which a server is reached, as the operator knows it and the server checks it.

use std::{fmt, str::FromStr};

/// A host name without a port, or `*.` and a domain: any host below that domain, as in the Gateway API.
///
/// Compared without regard to case and to the dot of an absolute name (RFC 3986, 3.2.2; RFC 1034, 3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

/// Why a text is not a [`HostPattern`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a host is a name without scheme and port, as in chat.example.com or *.example.com")]
pub struct InvalidHostPattern;

impl HostPattern {
    /// Whether `host`, without a port, is this host or one below the domain.
    pub fn matches(&self, host: &str) -> bool {
        is_host_of(&self.0, host)
    }
}

/// Whether `host`, without a port, is that of a pattern in lower case, or one below its domain.
pub fn is_host_of(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        // With its dot, so that `*.a.example` matches neither `a.example` nor `ba.example`.
        Some(domain) => host
            .strip_suffix(domain)
            .is_some_and(|labels| !labels.is_empty()),
        None => host == pattern,
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;

    fn from_str(text: &str) -> Result<Self, InvalidHostPattern> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(inside);
        if name.len() <= 253 && name.split('.').all(is_label) {
            Ok(Self(text))
        } else {
            Err(InvalidHostPattern)
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_without_case_and_final_dot() {
        let matches = |pattern: &str, host: &str| {
            let pattern: HostPattern = pattern.parse().expect("valid");
            pattern.matches(host)
        };
        for (pattern, host) in [
            ("Chat.Example.com", "chat.example.COM."),
            ("chat", "chat"),
            ("*.example.com", "a.example.com"),
            ("*.example.com", "b.a.example.com"),
        ] {
            assert!(matches(pattern, host), "{pattern} {host}");
        }
        for (pattern, host) in [
            ("chat.example.com", "chat.example.com.evil.example"),
            ("*.example.com", "example.com"),
            ("*.example.com", "badexample.com"),
            ("*.example.com", ".example.com.evil.example"),
            ("chat", "chat.example.com"),
            ("chat", ""),
        ] {
            assert!(!matches(pattern, host), "{pattern} {host}");
        }
    }

    #[test]
    fn texts_that_are_no_host_are_rejected() {
        for text in [
            "",
            "*",
            "*.",
            "a..b",
            "https://a.example",
            "a.example:80",
            "a b",
            "a.*.example",
            "a/b",
        ] {
            assert_eq!(
                text.parse::<HostPattern>(),
                Err(InvalidHostPattern),
                "{text:?}"
            );
        }
    }
}
