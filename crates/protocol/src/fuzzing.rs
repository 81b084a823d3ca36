//! Fuzz targets of names and settings. Built for tests, which replay the corpora, and for fuzzing; `tests/fuzz/README.md`
//! says how.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use std::{iter, net::IpAddr};

use clap::{CommandFactory, Parser};

use crate::{
    BasePath, BrokerUrl, Epoch, HostPattern, Launch, MessageId, Origin, RoomName, TrustedProxies,
    UserName, topology,
};

/// What separates the parts of an input that has several.
const SEPARATOR: u8 = 0x1e;

/// A text that may be a name of any kind.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(room) = text.parse::<RoomName>() {
        assert_eq!(room.to_string().parse().as_ref(), Ok(&room));
        let epoch = Epoch::from_bits(u64::MAX);
        assert!(topology::log(&room, &epoch).len() <= 255, "AMQP's limit");
        assert!(topology::log(&room, &epoch).is_ascii());
    }
    if let Ok(epoch) = text.parse::<Epoch>() {
        assert_eq!(epoch.as_str(), text);
    }
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(id.as_str(), text);
    }
    if let Ok(name) = text.parse::<UserName>() {
        assert_eq!(name.as_str().parse().as_ref(), Ok(&name));
        assert!(!name.as_str().trim().is_empty());
    }
    if let Ok(origin) = text.parse::<Origin>() {
        assert_eq!(origin.to_string().parse().as_ref(), Ok(&origin));
    }
    if let Ok(url) = text.parse::<BrokerUrl>() {
        let shown = url.to_string();
        let (_, rest) = shown.split_once("://").expect("a scheme");
        assert!(!rest.contains('@') && text.ends_with(rest));
        assert_eq!(format!("{url:?}"), format!("BrokerUrl({shown})"));
    }
    if let Ok(path) = text.parse::<BasePath>() {
        assert_eq!(path.to_string().parse().as_ref(), Ok(&path));
        assert_eq!(path.below(&path.page()), Some("/"));
    }
}

/// A list of trusted proxies, then addresses, and hosts.
pub fn proxies(data: &[u8]) {
    let mut texts = data
        .split(|byte| *byte == SEPARATOR)
        .filter_map(|part| std::str::from_utf8(part).ok());
    let list = texts.next().unwrap_or_default().parse::<TrustedProxies>();
    for text in texts {
        if let (Ok(proxies), Ok(address)) = (&list, text.parse::<IpAddr>()) {
            let written: TrustedProxies = proxies.to_string().parse().expect("written by us");
            let is_trusted = proxies.contains(address);
            assert_eq!(written.contains(address), is_trusted);
            assert_eq!(proxies.contains(address.to_canonical()), is_trusted);
        }
        if let Ok(pattern) = text.parse::<HostPattern>() {
            assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern));
            // A domain matches itself as a text, with its `*` as a label.
            assert!(pattern.matches(text));
        }
    }
}

/// The value of each variable of a server's environment, in the order of its flags; what is left empty is not set.
pub fn launch(data: &[u8]) {
    let mut values = data
        .split(|byte| *byte == SEPARATOR)
        .map(std::str::from_utf8);
    let command = Launch::command();
    let environment = command.get_arguments().filter_map(|argument| {
        let value = values.next()?.ok().filter(|value| !value.is_empty())?;
        Some((argument.get_env()?.to_str()?.to_owned(), value.to_owned()))
    });
    if let Some(launch) = parse(environment) {
        let written = launch.environment().into_iter();
        let read = parse(written.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(read, Some(launch));
    }
}

/// Reads an environment as flags: the variables are named after them, and this process stays as it is.
fn parse(environment: impl Iterator<Item = (String, String)>) -> Option<Launch> {
    let command = Launch::command();
    let flags = environment.map(|(name, value)| {
        let named = |argument: &&clap::Arg| argument.get_env().is_some_and(|env| env == &*name);
        let argument = command.get_arguments().find(named);
        let argument = argument.expect("a variable the server knows");
        let flag = argument.get_long().expect("every argument is a flag");
        if argument.get_action().takes_values() {
            format!("--{flag}={value}")
        } else {
            format!("--{flag}")
        }
    });
    Launch::try_parse_from(iter::once("papo-server".to_owned()).chain(flags)).ok()
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::replay, *};

    #[test]
    fn names_of_the_corpus_pass() {
        replay("names", names);
    }

    #[test]
    fn proxies_of_the_corpus_pass() {
        replay("proxies", proxies);
    }

    #[test]
    fn settings_of_the_corpus_pass() {
        replay("launch", launch);
    }
}
