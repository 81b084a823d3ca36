//! The hosts that rooms may name as their brokers.

use std::{convert::Infallible, str::FromStr};

use papo_protocol::is_host_of;

/// A host that rooms may name as their broker: an exact name or address, or `*.SUFFIX` for every name below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// Whether this is the host, whatever the case of its letters.
    pub fn matches(&self, host: &str) -> bool {
        is_host_of(&self.0, host)
    }

    /// Whether the pattern was left empty, as in an empty variable.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for HostPattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.trim().to_ascii_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_a_name_or_the_names_below_a_suffix() {
        for (pattern, host, expected) in [
            ("mq.team.svc", "mq.team.svc", true),
            ("mq.team.svc", "MQ.team.svc", true),
            ("mq.team.svc", "mq.team.svc.", true),
            ("mq.team.svc", "x.mq.team.svc", false),
            ("*.team.svc", "mq.team.svc", true),
            ("*.team.svc", "a.mq.team.svc", true),
            ("*.team.svc", "team.svc", false),
            ("*.team.svc", "evilteam.svc", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.12", false),
        ] {
            let parsed: HostPattern = pattern.parse().expect("always");
            assert_eq!(parsed.matches(host), expected, "{pattern} {host}");
        }
    }
}
