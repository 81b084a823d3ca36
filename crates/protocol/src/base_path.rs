//! The path below which a room is served: several rooms can share a host.

use std::{fmt, str::FromStr};

/// `/`, or segments as in `/chat/geral`. The page is at the path with a final slash, and everything else of the room below it.
///
/// Segments have only characters that need no percent-encoding (RFC 3986, 2.3), so that servers, proxies and browsers compare the same text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BasePath(String);

/// Why a text is not a [`BasePath`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidBasePath {
    /// No path, or one with other characters.
    #[error(
        "a path begins with / and has segments of letters, digits and the characters - . _ ~, as in /chat/geral"
    )]
    Segment,
    /// A segment that the room below the rest of the path uses itself.
    #[error("a path has no segment {0}: a room has this path itself")]
    Reserved(String),
    /// Too long.
    #[error("a path has at most {} characters", BasePath::MAX_LENGTH)]
    Length,
}

impl BasePath {
    /// The longest path, in characters.
    pub const MAX_LENGTH: usize = 200;
    /// Segments that no path may have: below the host or another room's path, requests for the room's own files and for Socket.IO would
    /// come to this room.
    pub const RESERVED: [&str; 2] = ["socket.io", "static"];

    /// Whether this is the whole host.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path without a final slash: empty for the whole host.
    pub fn prefix(&self) -> &str {
        &self.0
    }

    /// The path of the page, with its final slash.
    pub fn page(&self) -> String {
        format!("{}/", self.0)
    }

    /// What stands below this path: a path that begins with a slash. `None` for every other path.
    pub fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        let rest = path.strip_prefix(&self.0)?;
        rest.starts_with('/').then_some(rest)
    }
}

impl FromStr for BasePath {
    type Err = InvalidBasePath;

    /// A final slash may be left out.
    fn from_str(text: &str) -> Result<Self, InvalidBasePath> {
        let segments = text.strip_prefix('/').ok_or(InvalidBasePath::Segment)?;
        if segments.is_empty() {
            return Ok(Self::default());
        }
        let segments = segments.strip_suffix('/').unwrap_or(segments);
        let path = format!("/{segments}");
        if path.len() > Self::MAX_LENGTH {
            return Err(InvalidBasePath::Length);
        }
        for segment in segments.split('/') {
            if !is_segment(segment) {
                return Err(InvalidBasePath::Segment);
            }
            if Self::RESERVED.contains(&segment) {
                return Err(InvalidBasePath::Reserved(segment.to_owned()));
            }
        }
        Ok(Self(path))
    }
}

/// Browsers resolve `.` and `..`, so no request has them.
fn is_segment(text: &str) -> bool {
    let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    !matches!(text, "" | "." | "..") && text.bytes().all(is_unreserved)
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "/" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> BasePath {
        text.parse().expect("valid")
    }

    #[test]
    fn final_slash_makes_no_difference() {
        for (text, prefix, page) in [
            ("/", "", "/"),
            ("/chat", "/chat", "/chat/"),
            ("/chat/geral/", "/chat/geral", "/chat/geral/"),
        ] {
            let path = path(text);
            assert_eq!((path.prefix(), &*path.page()), (prefix, page), "{text}");
            assert_eq!(path.to_string().parse(), Ok(path));
        }
    }

    #[test]
    fn only_whole_segments_are_below_a_path() {
        for (base, of, expected) in [
            ("/", "/", Some("/")),
            ("/", "/static/a.js", Some("/static/a.js")),
            ("/chat", "/chat/", Some("/")),
            ("/chat", "/chat/socket.io/", Some("/socket.io/")),
            ("/chat", "/chat", None),
            ("/chat", "/chatter/", None),
            ("/chat", "/", None),
        ] {
            assert_eq!(path(base).below(of), expected, "{of} below {base}");
        }
    }

    #[test]
    fn paths_that_would_need_escapes_or_shadow_a_room_are_rejected() {
        for text in [
            "", "chat", "//", "/a//b", "/a b", "/a%2Fb", "/café", "/a?b", "/a/../b", "/.",
        ] {
            let parsed = text.parse::<BasePath>();
            assert_eq!(parsed, Err(InvalidBasePath::Segment), "{text:?}");
        }
        for text in ["/socket.io", "/chat/static/geral"] {
            let parsed = text.parse::<BasePath>();
            assert!(
                matches!(parsed, Err(InvalidBasePath::Reserved(_))),
                "{text}"
            );
        }
        let longest = format!("/{}", "a".repeat(BasePath::MAX_LENGTH - 1));
        assert_eq!(path(&longest).prefix(), longest);
        assert_eq!(
            format!("{longest}a").parse::<BasePath>(),
            Err(InvalidBasePath::Length)
        );
    }
}
