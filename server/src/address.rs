//! The address of a client: what limits by address count, and what rejections are logged with.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use axum::http::HeaderMap;
use papo_protocol::TrustedProxies;

/// The header in which each proxy appends the address of its peer. It is no standard; RFC 7239 describes it.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of a client, or its network as [`papo_listener::network`] counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address(IpAddr);

impl Address {
    /// The address of a client whose request came from this peer, with these headers: the right-most address of `X-Forwarded-For` that is not a
    /// trusted proxy's, if the peer is one. What stands left of it may be invented.
    pub(crate) fn of_client(peer: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let mut client = peer;
        for address in forwarded_for(headers) {
            if !trusted.contains(client) {
                break;
            }
            match address {
                Some(address) => client = address,
                None => break,
            }
        }
        Self::from(client)
    }
}

/// The addresses of `X-Forwarded-For`, from the right; `None` for one that cannot be read.
fn forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let values = headers.get_all(FORWARDED_FOR).into_iter().rev();
    values.flat_map(|value| {
        let text = value.to_str().unwrap_or_default();
        text.rsplit(',').map(|part| ip(part.trim()))
    })
}

/// An address, with or without a port: some proxies append the port of their peer.
fn ip(text: &str) -> Option<IpAddr> {
    let socket = || {
        text.parse()
            .ok()
            .map(|socket: std::net::SocketAddr| socket.ip())
    };
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(socket).or_else(bracketed)
}

impl Default for Address {
    /// The address of a client that is not known, such as of a request in a test.
    fn default() -> Self {
        Self(Ipv4Addr::UNSPECIFIED.into())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(papo_listener::network(address))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &str) -> String {
        let values = forwarded.iter().map(|value| {
            let value = HeaderValue::from_str(value).expect("a value");
            (FORWARDED_FOR.parse().expect("a name"), value)
        });
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append::<axum::http::HeaderName>(name, value);
        }
        let trusted = trusted.parse().expect("valid");
        Address::of_client(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn spoofed_header_of_an_untrusted_peer_changes_nothing() {
        assert_eq!(
            client("192.0.2.1", &["203.0.113.9"], "private"),
            "192.0.2.1"
        );
        assert_eq!(client("10.0.0.1", &["203.0.113.9"], "none"), "10.0.0.1");
    }

    #[test]
    fn client_is_the_right_most_untrusted_address() {
        for (forwarded, expected) in [
            (&[][..], "10.0.0.1"),
            (&["203.0.113.9"], "203.0.113.9"),
            (&["1.2.3.4, 203.0.113.9"], "203.0.113.9"),
            (&["1.2.3.4", "203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            (&["203.0.113.9:1234"], "203.0.113.9"),
            (&["10.2.2.2, 10.3.3.3"], "10.2.2.2"),
            (&["203.0.113.9, unknown, 10.3.3.3"], "10.3.3.3"),
            (&["[2001:db8:1:2:3::4]:443"], "2001:db8:1:2::/64"),
            (&["[2001:db8:1:2:3::4]"], "2001:db8:1:2::/64"),
        ] {
            assert_eq!(
                client("10.0.0.1", forwarded, "private"),
                expected,
                "{forwarded:?}"
            );
        }
    }

    #[test]
    fn addresses_of_one_network_are_one_address() {
        let address = |text: &str| Address::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }

    proptest! {
        #[test]
        fn untrusted_peer_is_the_client_whatever_it_sends(header in "[ -~]{0,80}") {
            let header = header.as_str();
            prop_assert_eq!(client("192.0.2.1", &[header], "private"), "192.0.2.1");
        }
    }
}
