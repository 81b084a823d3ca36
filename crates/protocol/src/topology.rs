//! What a room is called on the broker, and what its AMQP messages carry.
//!
//! Per room: a durable topic exchange; one stream, the log, bound with [`MESSAGE_KEY`]; and one exclusive queue per
//! server, bound with [`SIGNAL_BINDING`]. All names begin with [`PREFIX`], which tells Papo's objects from others'.

use crate::{Epoch, RoomName};

/// What every broker object of Papo begins with.
pub const PREFIX: &str = "papo.";
/// Routing key of records that belong in the log.
pub const MESSAGE_KEY: &str = "message";
/// Binding of a server's own queue: everything that is not stored.
pub const SIGNAL_BINDING: &str = "signal.#";
/// Routing key of presence signals.
pub const PRESENCE_KEY: &str = "signal.presence";
/// Routing key of typing signals.
pub const TYPING_KEY: &str = "signal.typing";

/// Header (long string): the sender's [`crate::SenderId`].
pub const SENDER_HEADER: &str = "papo-sender";
/// Header (long string): the sender's display name.
pub const USER_HEADER: &str = "papo-user";
/// Header (i64): milliseconds since the Unix epoch; AMQP's own `timestamp` has seconds only.
pub const AT_HEADER: &str = "papo-at";
/// Header (i64) that RabbitMQ puts on each delivery from a stream.
pub const STREAM_OFFSET_HEADER: &str = "x-stream-offset";

/// Segment size of a log, in bytes: retention removes whole segments, and RabbitMQ's default is 500 MB.
pub const SEGMENT_BYTES: u64 = 1_000_000;
/// How many records back a second copy of a record is recognised. The same for every reader, or they would not agree.
pub const DEDUP_WINDOW: u64 = 32_768;

/// `papo.NS.NAME`: the room's exchange.
pub fn exchange(room: &RoomName) -> String {
    format!("{PREFIX}{}.{}", room.namespace(), room.name())
}

/// `papo.NS.NAME.log.EPOCH`: the stream that is the room's log in this epoch.
pub fn log(room: &RoomName, epoch: &Epoch) -> String {
    format!("{}.log.{epoch}", exchange(room))
}

/// `papo.NS.NAME.epochs`: the stream in which servers that declare their own topology agree on the epoch.
pub fn epochs(room: &RoomName) -> String {
    format!("{}.epochs", exchange(room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_design() {
        let room: RoomName = "team/geral".parse().expect("valid");
        let epoch: Epoch = "0a1b".parse().expect("valid");
        assert_eq!(exchange(&room), "papo.team.geral");
        assert_eq!(log(&room, &epoch), "papo.team.geral.log.0a1b");
        assert_eq!(epochs(&room), "papo.team.geral.epochs");
    }

    #[test]
    fn the_longest_names_fit_amqp_short_strings() {
        let room = RoomName::new(
            &"n".repeat(RoomName::MAX_NAMESPACE),
            &"r".repeat(RoomName::MAX_NAME),
        )
        .expect("valid");
        let epoch: Epoch = "e".repeat(32).parse().expect("valid");
        assert!(log(&room, &epoch).len() <= 255);
    }
}
