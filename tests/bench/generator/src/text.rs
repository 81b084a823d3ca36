//! The 64-byte text of a message: which run and message it is, and when it was due. That is all a delivery is known by.

use memchr::{memchr, memchr_iter};

/// How long every text is, in bytes.
pub const LENGTH: usize = 64;
/// Begins a text, and occurs nowhere else in what a server sends.
const MARK: u8 = b'~';
/// Digits of each number: as many as are read at once, or twice that.
const RUN: usize = EIGHT;
const SEQUENCE: usize = EIGHT;
const DUE: usize = 2 * EIGHT;
const EIGHT: usize = 8;

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
    let (run, rest) = text.get(1..)?.split_first_chunk::<RUN>()?;
    let (sequence, rest) = rest.split_first_chunk::<SEQUENCE>()?;
    let (high, rest) = rest.split_first_chunk::<EIGHT>()?;
    let low = rest.first_chunk::<EIGHT>()?;
    Some(Stamp {
        run: number(*run)?,
        sequence: number(*sequence)?,
        due: number(*high)? * 100_000_000 + number(*low)?,
    })
}

/// Eight digits at once: neighbours are put together to pairs, pairs to fours, and these to the number. This is done for
/// every delivery, millions of times a second.
fn number(digits: [u8; EIGHT]) -> Option<u64> {
    const ZEROS: u64 = u64::from_le_bytes(*b"00000000");
    const HIGH_HALVES: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const SIXES: u64 = 0x0606_0606_0606_0606;
    let digits = u64::from_le_bytes(digits);
    let are_digits =
        digits & HIGH_HALVES == ZEROS && digits.wrapping_add(SIXES) & HIGH_HALVES == ZEROS;
    let ones = digits.wrapping_sub(ZEROS);
    let pairs = (ones.wrapping_mul(10) + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let all = (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff;
    are_digits.then_some(all)
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
    fn a_stamp_is_read_from_a_delivered_message() {
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
    fn only_eight_digits_are_a_number() {
        for number in [0, 1, 9, 10, 12_345_678, 90_909_090, 99_999_999] {
            let digits = format!("{number:08}");
            let digits = digits.as_bytes().try_into().expect("eight");
            assert_eq!(super::number(digits), Some(number));
        }
        for wrong in [
            b"1234567/",
            b":2345678",
            b"1234 678",
            b"\xb12345678"[..8].try_into().expect("eight"),
        ] {
            assert_eq!(super::number(*wrong), None);
        }
    }

    #[test]
    fn other_messages_have_no_stamp() {
        assert_eq!(stamp(br#"["presence",{"count":1000}]"#), None);
        assert_eq!(stamp(br#"["message","~ hello"]"#), None);
    }
}
