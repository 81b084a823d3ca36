//! Trusted proxies: the peers whose `X-Forwarded-For` a server believes.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// Networks of loopback interfaces.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// Networks that are not routed on the internet: RFC 1918, RFC 6598 (shared address space), RFC 3927 and RFC 4291 (link-local), RFC 4193 (unique
/// local). Pods, nodes and load balancers of a cluster usually have addresses of these.
const PRIVATE: [&str; 7] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fe80::/10",
    "fc00::/7",
];

/// The networks of the trusted proxies.
///
/// As text: networks (`10.0.0.0/8`), addresses, and the words `loopback`, `private` (which includes `loopback`) and `none`, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// The text is not a list of trusted proxies.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is neither a network (10.0.0.0/8), an address, nor one of the words loopback, private and none"
)]
pub struct InvalidTrustedProxies(String);

impl Default for TrustedProxies {
    /// [`Self::loopback`]: safe wherever a server runs, because nobody else can connect from these addresses.
    fn default() -> Self {
        Self::loopback()
    }
}

impl TrustedProxies {
    /// Proxies on this machine.
    pub fn loopback() -> Self {
        Self(networks(&LOOPBACK))
    }

    /// Proxies on this machine or with an address that is not routed on the internet.
    pub fn private() -> Self {
        Self(
            networks(&LOOPBACK)
                .into_iter()
                .chain(networks(&PRIVATE))
                .collect(),
        )
    }

    /// Whether a peer with this address is trusted. An IPv4 address that is mapped to IPv6 is an IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    let networks = texts.iter().map(|text| text.parse());
    networks
        .collect::<Result<_, _>>()
        .expect("the constants of this module are networks")
}

impl FromStr for TrustedProxies {
    type Err = InvalidTrustedProxies;

    fn from_str(text: &str) -> Result<Self, InvalidTrustedProxies> {
        let mut all = Vec::new();
        for part in text.split(',').map(str::trim) {
            match part {
                "none" => {}
                "loopback" => all.extend(Self::loopback().0),
                "private" => all.extend(Self::private().0),
                part => all.push(network(part)?),
            }
        }
        Ok(Self(all))
    }
}

fn network(text: &str) -> Result<IpNet, InvalidTrustedProxies> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| address())
        .map_err(|_| InvalidTrustedProxies(text.to_owned()))
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        if *self == Self::loopback() {
            return f.write_str("loopback");
        }
        if *self == Self::private() {
            return f.write_str("private");
        }
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_are_the_same() {
        for text in ["none", "loopback", "private", "10.1.0.0/16,192.0.2.7/32"] {
            let parsed: TrustedProxies = text.parse().expect("valid");
            assert_eq!(parsed.to_string(), text);
        }
        let address: TrustedProxies = " 192.0.2.7 ".parse().expect("valid");
        assert_eq!(address.to_string(), "192.0.2.7/32");
        for text in ["", "x", "10.0.0.0/33", "10.0.0.0/8,", "10.0.0"] {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn words_mean_their_networks() {
        let address = |text: &str| text.parse().expect("an address");
        let (loopback, private) = (TrustedProxies::loopback(), TrustedProxies::private());
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(loopback.contains(address(local)), "{local}");
            assert!(private.contains(address(local)), "{local}");
        }
        for inside in [
            "10.244.1.7",
            "172.18.0.2",
            "fd00:10:244::9",
            "::ffff:10.0.0.1",
        ] {
            assert!(!loopback.contains(address(inside)), "{inside}");
            assert!(private.contains(address(inside)), "{inside}");
        }
        for outside in ["192.0.2.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!private.contains(address(outside)), "{outside}");
        }
    }
}
