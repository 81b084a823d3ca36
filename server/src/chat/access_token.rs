//! An access token, as a client has sent it.

use std::fmt;

/// An access token that nobody has verified. It is a secret: it is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(Box<str>);

impl AccessToken {
    /// The token of a client.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The token of an `Authorization` header: `Bearer TOKEN` (RFC 6750, 2.1). `None` for other schemes, as that of a proxy with passwords.
    pub(crate) fn of_header(value: &str) -> Option<Self> {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        let is_bearer = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty();
        is_bearer.then(|| Self::new(token))
    }

    /// The token.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_has_the_scheme_bearer() {
        for (value, expected) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a.b.c ", Some("a.b.c")),
            ("BEARER a.b.c", Some("a.b.c")),
            ("Basic YTpi", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("a.b.c", None),
            ("", None),
        ] {
            let token = AccessToken::of_header(value);
            assert_eq!(token.as_ref().map(AccessToken::expose), expected, "{value}");
        }
    }

    #[test]
    fn token_is_never_shown() {
        let shown = format!("{:?}", AccessToken::new("a.secret.token"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
