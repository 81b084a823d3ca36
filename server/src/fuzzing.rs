//! Where fuzzing lets bytes in: one function for each decoder of what comes from outside the server.
//!
//! Each takes whatever there is, and panics when the decoder breaks a promise that the rest of the server relies on. Built
//! for tests, which replay the corpora, and for fuzzing; `tests/fuzz/README.md` says how.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use papo_protocol::Limits;

use crate::chat::Hello;

pub use crate::{
    broker::rabbitmq::fuzzing::{delivery, epochs},
    room::fuzzing::signal,
    socket::fuzzing::{event, packet, websocket},
};

/// What separates the parts of an input that has several, as in a payload of Engine.IO.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// `auth` of a CONNECT packet.
pub fn hello(data: &[u8]) {
    let Ok(auth) = std::str::from_utf8(data) else {
        return;
    };
    let limits = Limits::default();
    let room = "geral".parse().expect("valid");
    let Ok(Hello { member, .. }) = Hello::parse(Some(auth), &room, &limits) else {
        return;
    };
    let name = member.user.as_str();
    assert_eq!(name.parse().as_ref(), Ok(&member.user));
    assert!(name.chars().count() <= limits.name_length as usize);
    let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(member.sender.as_str().len() == 24 && member.sender.as_str().chars().all(hexadecimal));
}

#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::replay, *};

    #[test]
    fn packets_of_the_corpus_are_survived() {
        replay("packet", packet);
    }

    #[test]
    fn frames_of_the_corpus_are_survived() {
        replay("websocket", websocket);
    }

    #[test]
    fn hellos_of_the_corpus_are_survived() {
        replay("hello", hello);
    }

    #[test]
    fn events_of_the_corpus_are_survived() {
        replay("event", event);
    }

    #[test]
    fn deliveries_of_the_corpus_are_survived() {
        replay("delivery", delivery);
    }

    #[test]
    fn epochs_of_the_corpus_are_survived() {
        replay("epochs", epochs);
    }

    #[test]
    fn signals_of_the_corpus_are_survived() {
        replay("signal", signal);
    }
}
