//! Origins (RFC 6454): where the page that a browser connects from has come from.

use std::{fmt, str::FromStr};

use url::Url;

/// The origin of a page: a scheme, a host and a port, or `null`. All three are compared, in one form:
///
/// - `ws` is `http`, and `wss` is `https`: some clients write the scheme of their WebSocket.
/// - The host is in lower case and ASCII (IDNA), without the dot of an absolute name.
/// - A port that is the scheme's own may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `null`, as of a sandbox or a `data:` URL.
    Opaque,
    /// That of a URL.
    Url {
        /// In lower case.
        scheme: String,
        /// Empty for `file`.
        host: String,
        /// `None` if the scheme has no port of its own and none is given.
        port: Option<u16>,
    },
}

/// An origin from which browsers may connect, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every origin.
    Any,
    /// This one.
    One(Origin),
}

/// Why a text is not an [`Origin`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "an origin is a scheme, a host and, if it is not the scheme's own, a port, as in https://chat.example.com or http://localhost:8080; or file://, or null"
)]
pub struct InvalidOrigin;

impl Origin {
    /// Whether it is the origin of a server that clients reach by this `Host`. The scheme is not compared, because only a proxy in front
    /// of the server may know it.
    pub fn is_of_host(&self, host: &str) -> bool {
        match self {
            Self::Url { scheme, .. } if scheme == "http" || scheme == "https" => {
                format!("{scheme}://{host}").parse::<Self>().as_ref() == Ok(self)
            }
            _ => false,
        }
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        if text == "null" {
            return Ok(Self::Opaque);
        }
        let (scheme, authority) = text.split_once("://").ok_or(InvalidOrigin)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let scheme = match scheme.to_ascii_lowercase() {
            scheme if scheme == "ws" => "http".to_owned(),
            scheme if scheme == "wss" => "https".to_owned(),
            scheme => scheme,
        };
        let in_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        // What a parser of URLs removes, decodes, or takes for another part.
        let in_no_host = |c: char| c.is_ascii_control() || " %*/?#@\\".contains(c);
        if !scheme.chars().all(in_scheme) || authority.contains(in_no_host) {
            return Err(InvalidOrigin);
        }
        if scheme == "file" && authority.is_empty() {
            let host = String::new();
            let port = None;
            return Ok(Self::Url { scheme, host, port });
        }
        let url = format!("{scheme}://{authority}");
        let url = Url::parse(&url).map_err(|_| InvalidOrigin)?;
        // Only hosts of the web are in lower case already.
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let host = match host.trim_end_matches('.') {
            "" => host,
            relative => relative.to_owned(),
        };
        // Hosts of other schemes that are not in ASCII are encoded.
        if host.is_empty() || host.contains('%') {
            return Err(InvalidOrigin);
        }
        let port = url.port_or_known_default();
        Ok(Self::Url { scheme, host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Url { scheme, host, port } = self else {
            return f.write_str("null");
        };
        write!(f, "{scheme}://{host}")?;
        match (scheme.as_str(), port) {
            (_, None) | ("http", Some(80)) | ("https", Some(443)) => Ok(()),
            (_, Some(port)) => write!(f, ":{port}"),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        match text {
            "*" => Ok(Self::Any),
            text => text.parse().map(Self::One),
        }
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(origin) => origin.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().expect("an origin")
    }

    #[test]
    fn origins_have_one_form() {
        for (text, expected) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example", "https://chat.example"),
            ("https://chat.example/", "https://chat.example"),
            ("https://chat.example:443", "https://chat.example"),
            ("http://chat.example:80", "http://chat.example"),
            ("https://chat.example:80", "https://chat.example:80"),
            ("wss://chat.example", "https://chat.example"),
            ("WS://chat.example:80", "http://chat.example"),
            ("ws://chat.example:443", "http://chat.example:443"),
            ("https://chat.example.", "https://chat.example"),
            ("https://chat.example.:443", "https://chat.example"),
            ("https://chat.example..", "https://chat.example"),
            ("https://café.example", "https://xn--caf-dma.example"),
            ("https://CAFÉ.example", "https://xn--caf-dma.example"),
            ("https://xn--caf-dma.example", "https://xn--caf-dma.example"),
            ("http://[::1]:5000", "http://[::1]:5000"),
            ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("http://127.0.0.1", "http://127.0.0.1"),
            ("file://", "file://"),
            ("file:///", "file://"),
            ("null", "null"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("Ionic://LocalHost", "ionic://localhost"),
            ("moz-extension://0a1b", "moz-extension://0a1b"),
            ("app://.", "app://."),
        ] {
            let origin = origin(text);
            assert_eq!(origin.to_string(), expected, "{text}");
            assert_eq!(expected.parse().as_ref(), Ok(&origin), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_origin_are_rejected() {
        for text in [
            "",
            "*",
            "NULL",
            "chat.example",
            "https:",
            "https://",
            "https:///",
            "https:chat.example",
            "https:/chat.example",
            "://chat.example",
            " https://chat.example",
            "https://chat.example ",
            "https://chat\t.example",
            "https://chat.example/chat",
            "https://chat.example//",
            "https://chat.example?",
            "https://chat.example#x",
            "https://ana@chat.example",
            "https://evil.example\\chat.example",
            "https://%63hat.example",
            "https://*.example",
            "https://chat.example:99999",
            "capacitor://café",
            "https://a.example https://b.example",
            "https://a.example,https://b.example",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(InvalidOrigin), "{text:?}");
        }
    }

    #[test]
    fn server_has_the_origins_of_its_host() {
        for (text, host) in [
            ("http://a.example:5000", "a.example:5000"),
            ("https://a.example", "a.example"),
            ("https://a.example", "A.Example."),
            ("wss://a.example", "a.example:443"),
            ("https://a.example:443", "a.example"),
            ("http://a.example", "a.example:80"),
            ("https://café.example", "xn--caf-dma.example"),
            ("https://xn--caf-dma.example", "café.example"),
            ("http://[::1]:5000", "[::1]:5000"),
        ] {
            assert!(origin(text).is_of_host(host), "{text} {host}");
        }
        for (text, host) in [
            ("http://a.example:5001", "a.example:5000"),
            ("https://a.example:8443", "a.example"),
            ("https://a.example", "a.example:80"),
            ("https://b.example", "a.example"),
            ("https://a.example", ""),
            ("https://a.example", "b.example@a.example"),
            ("capacitor://a.example", "a.example"),
            ("file://", ""),
            ("null", "null"),
        ] {
            assert!(!origin(text).is_of_host(host), "{text} {host}");
        }
    }

    #[test]
    fn star_allows_every_origin() {
        assert_eq!("*".parse(), Ok(AllowedOrigin::Any));
        let one = AllowedOrigin::One(origin("https://a.example"));
        for allowed in [AllowedOrigin::Any, one] {
            assert_eq!(allowed.to_string().parse(), Ok(allowed));
        }
    }
}
