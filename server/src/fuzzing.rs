//! Fuzz targets: one function for each decoder of input from outside the server.
//!
//! Each takes any bytes, and panics when the decoder breaks a promise that the rest of the server relies on. Built for tests, which
//! replay the corpora, and for fuzzing; `tests/fuzz/README.md` explains both.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use icu_normalizer::ComposingNormalizerBorrowed;
use papo_protocol::Limits;

use crate::chat::{
    ConnectAuth, Credentials,
    name::{InvalidName, looks, name},
};

pub use crate::{
    access::fuzzing::access_token,
    broker::rabbitmq::fuzzing::{delivery, epochs},
    presence::fuzzing::signal,
    socket::fuzzing::{event, packet},
    web::fuzzing::head,
};

/// What separates the parts of an input that has several, as in a payload of Engine.IO.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// `auth` of a CONNECT packet.
pub fn connect_auth(data: &[u8]) {
    let Ok(auth) = std::str::from_utf8(data) else {
        return;
    };
    let limits = Limits::default();
    let room = "geral".parse().expect("valid");
    let credentials =
        ConnectAuth::parse(Some(auth), None, &room, &limits).map(|auth| auth.credentials);
    let Ok(Credentials::Guest(member)) = credentials else {
        return;
    };
    let name = member.user.as_str();
    assert_eq!(name.parse().as_ref(), Ok(&member.user));
    assert!(name.chars().count() <= limits.name_length as usize);
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(member.sender.as_str().len() == 24 && member.sender.as_str().chars().all(hexadecimal));
}

/// A display name, and what it looks like.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let most = Limits::default().name_length as usize;
    match name(text, most) {
        Ok(accepted) => {
            assert_eq!(name(accepted.as_str(), most).as_ref(), Ok(&accepted));
            assert!((1..=most).contains(&accepted.as_str().chars().count()));
            let is_blank = |c: char| c.is_control() || c == '\u{2800}';
            assert!(!accepted.as_str().contains(is_blank));
            // Composed: two spellings of one name are one name.
            let composed = ComposingNormalizerBorrowed::new_nfc().normalize(accepted.as_str());
            assert_eq!(composed, accepted.as_str());
            // A joiner has something to join on its left.
            assert!(!accepted.as_str().starts_with(['\u{200c}', '\u{200d}']));
            let shouted = name(&accepted.as_str().to_uppercase(), most);
            let looks_like = |other| {
                looks(&other)
                    .iter()
                    .any(|look| looks(&accepted).contains(look))
            };
            assert!(shouted.is_err() || shouted.is_ok_and(looks_like));
        }
        Err(InvalidName::Length(limit)) => assert_eq!(limit, most),
        Err(invalid) => assert!(invalid.to_string().contains("name")),
    }
}

#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::replay, *};

    #[test]
    fn packets_of_the_corpus_pass() {
        replay("packet", packet);
    }

    #[test]
    fn connect_auth_of_the_corpus_pass() {
        replay("connect_auth", connect_auth);
    }

    #[test]
    fn access_tokens_of_the_corpus_pass() {
        replay("access_token", access_token);
    }

    #[test]
    fn names_of_the_corpus_pass() {
        replay("names", names);
    }

    #[test]
    fn heads_of_the_corpus_pass() {
        replay("head", head);
    }

    #[test]
    fn events_of_the_corpus_pass() {
        replay("event", event);
    }

    #[test]
    fn deliveries_of_the_corpus_pass() {
        replay("delivery", delivery);
    }

    #[test]
    fn epochs_of_the_corpus_pass() {
        replay("epochs", epochs);
    }

    #[test]
    fn signals_of_the_corpus_pass() {
        replay("signal", signal);
    }
}
