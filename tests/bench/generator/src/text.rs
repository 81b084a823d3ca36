//! The 64-byte text of a message: which run and message it is, and when it was due. That is all a delivery is known by.

use memchr::{memchr, memchr_iter};

/// How long every text is, in bytes.
pub const LENGTH: usize = 64;
/// Begins a text, and occurs nowhere else in what a server sends.
const MARK: u8 = b'~';
const RUN: usize = 6;
const SEQUENCE: usize = 10;
const DUE: usize = 16;

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run; deliveries of an earlier one are not counted in a later one.
    pub run: u64,
    /// The message within the run, from 0.
    pub sequence: u64,
    /// When the schedule wanted it sent, in microseconds of the generator's clock.
    pub due: u64,
}

/// The text that carries a stamp.
pub fn text(stamp: Stamp) -> String {
    let Stamp { run, sequence, due } = stamp;
    let stamp = format!(
        "{}{run:0RUN$}{sequence:0SEQUENCE$}{due:0DUE$}",
        char::from(MARK)
    );
    format!("{stamp:x<LENGTH$}")
}

/// The stamp of a delivered message; `None` if the event carries no text of this program.
pub fn stamp(event: &[u8]) -> Option<Stamp> {
    read(&event[memchr(MARK, event)?..])
}

/// The stamps in an event that carries many messages.
pub fn stamps(event: &[u8]) -> impl Iterator<Item = Stamp> {
    memchr_iter(MARK, event).filter_map(|at| read(&event[at..]))
}

fn read(text: &[u8]) -> Option<Stamp> {
    let (run, rest) = text.get(1..)?.split_at_checked(RUN)?;
    let (sequence, rest) = rest.split_at_checked(SEQUENCE)?;
    Some(Stamp {
        run: number(run)?,
        sequence: number(sequence)?,
        due: number(rest.get(..DUE)?)?,
    })
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        run: 3,
        sequence: 41,
        due: 1_234_567,
    };

    #[test]
    fn a_stamp_comes_back_from_what_is_delivered() {
        let text = text(STAMP);
        assert_eq!(text.len(), LENGTH);
        let event = format!(r#"["message","{text}",{{"id":"x","offset":4}}]"#);
        assert_eq!(stamp(event.as_bytes()), Some(STAMP));
    }

    #[test]
    fn every_message_of_a_history_is_found() {
        let other = Stamp {
            sequence: 42,
            ..STAMP
        };
        let event = format!(
            r#"["history",{{"messages":[{{"text":"{}"}},{{"text":"{}"}}]}}]"#,
            text(STAMP),
            text(other)
        );
        assert_eq!(stamps(event.as_bytes()).collect::<Vec<_>>(), [STAMP, other]);
    }

    #[test]
    fn what_others_say_has_no_stamp() {
        assert_eq!(stamp(br#"["presence",{"count":1000}]"#), None);
        assert_eq!(stamp(br#"["message","~ hello"]"#), None);
    }
}
