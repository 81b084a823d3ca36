//! How many entries the list may have.

use std::{collections::BTreeMap, fmt};

use super::Leftover;

/// Entries of the list. Twelve hundred of the longest, with names of the greatest lengths, are 900 kB.
const ENTRIES: usize = 1_200;
/// Bytes of keys and values: a `ConfigMap` may have 1,048,576.
const BYTES: usize = 1_000_000;

/// What the list has. The operator's own broker may have all entries. Those of one other namespace may have a quarter, and of all others together
/// three quarters.
pub(super) struct Counts<'a> {
    /// The namespace of the Secret of the operator's own broker.
    own: Option<&'a str>,
    entries: usize,
    bytes: usize,
    /// Entries for other brokers, by the namespaces of their Secrets.
    others: BTreeMap<String, usize>,
}

/// What the list has too much of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Full {
    Entries,
    Bytes,
    OfNamespace(String),
    OfOthers,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries => write!(f, "{ENTRIES} entries"),
            Self::Bytes => write!(f, "{BYTES} bytes"),
            Self::OfNamespace(namespace) => write!(
                f,
                "{} entries for brokers whose Secrets are in the namespace {namespace}",
                ENTRIES / 4
            ),
            Self::OfOthers => write!(
                f,
                "{} entries for other brokers than the operator's own",
                ENTRIES * 3 / 4
            ),
        }
    }
}

impl<'a> Counts<'a> {
    /// What is in the list.
    pub(super) fn of(data: &BTreeMap<String, String>, own: Option<&'a str>) -> Self {
        let mut counts = Self {
            own,
            entries: data.len(),
            bytes: data.iter().map(|(key, json)| key.len() + json.len()).sum(),
            others: BTreeMap::new(),
        };
        for entry in data
            .values()
            .filter_map(|json| json.parse::<Leftover>().ok())
        {
            counts.add_other(&entry.secret.namespace);
        }
        counts
    }

    /// Counts another entry of so many bytes, for a broker whose Secret is in this namespace, unless a bound is reached.
    pub(super) fn add(&mut self, namespace: &str, bytes: usize) -> Result<(), Full> {
        if self.entries >= ENTRIES {
            return Err(Full::Entries);
        }
        if self.bytes + bytes > BYTES {
            return Err(Full::Bytes);
        }
        if self.own != Some(namespace) {
            if self.others.get(namespace) >= Some(&(ENTRIES / 4)) {
                return Err(Full::OfNamespace(namespace.to_owned()));
            }
            if self.others.values().sum::<usize>() >= ENTRIES * 3 / 4 {
                return Err(Full::OfOthers);
            }
        }
        self.add_other(namespace);
        self.entries += 1;
        self.bytes += bytes;
        Ok(())
    }

    fn add_other(&mut self, namespace: &str) {
        if self.own != Some(namespace) {
            *self.others.entry(namespace.to_owned()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::apply::rabbitmq::Removal;

    fn longest(number: usize, secret_namespace: &str) -> (String, String) {
        let leftover = Leftover {
            removal: Removal {
                room: format!("{}/{}", "n".repeat(63), "r".repeat(45))
                    .parse()
                    .expect("valid"),
                owner: format!("{number:036}"),
                keep_log: false,
                epoch: Some("e".repeat(32).parse().expect("valid")),
            },
            secret: format!("{secret_namespace}/{}", "s".repeat(253))
                .parse()
                .expect("valid"),
            since: Timestamp::UNIX_EPOCH,
        };
        (leftover.key(), leftover.to_json())
    }

    /// Fills a list, and returns how many entries it takes and why no more.
    fn fill(own: &str, count: usize, namespace: impl Fn(usize) -> String) -> (usize, Option<Full>) {
        let mut data = BTreeMap::new();
        let mut counts = Counts::of(&data, Some(own));
        for number in 0..count {
            let namespace = namespace(number);
            let (key, value) = longest(number, &namespace);
            if let Err(full) = counts.add(&namespace, key.len() + value.len()) {
                let read = Counts::of(&data, Some(own));
                assert_eq!(
                    (read.entries, read.bytes, read.others),
                    (counts.entries, counts.bytes, counts.others)
                );
                return (number, Some(full));
            }
            data.insert(key, value);
        }
        (count, None)
    }

    #[test]
    fn all_entries_of_the_longest_names_fit_a_config_map() {
        let own = "o".repeat(63);
        let filled = fill(&own, ENTRIES + 1, |_| own.clone());
        assert_eq!(filled, (ENTRIES, Some(Full::Entries)));
    }

    #[test]
    fn tenants_cannot_fill_the_list() {
        let filled = fill("papo", 301, |_| "team".to_owned());
        assert_eq!(filled, (300, Some(Full::OfNamespace("team".to_owned()))));
        let filled = fill("papo", 901, |number| format!("team-{}", number % 50));
        assert_eq!(filled, (900, Some(Full::OfOthers)));
    }
}
