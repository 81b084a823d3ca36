//! The names of a room's objects on the broker, how they are declared, and the headers of its AMQP messages.
//!
//! Per room: a durable topic exchange; one stream, the log, bound with [`MESSAGE_KEY`]; and one exclusive queue per
//! server, bound with [`SIGNAL_BINDING`] and named by [`signal_queue`]. All names begin with [`PREFIX`], by which Papo's objects are known.

use crate::{Epoch, RoomName};

/// Prefix of the names of all broker objects of Papo.
pub const PREFIX: &str = "papo.";
/// Routing key of records that belong in the log.
pub const MESSAGE_KEY: &str = "message";
/// Binding of a server's own queue: all signals, which are not stored.
pub const SIGNAL_BINDING: &str = "signal.#";
/// Routing key of presence signals.
pub const PRESENCE_KEY: &str = "signal.presence";
/// Routing key of typing signals.
pub const TYPING_KEY: &str = "signal.typing";

/// Header (long string): the sender's [`crate::SenderId`].
pub const SENDER_HEADER: &str = "papo-sender";
/// Header (long string): the sender's display name.
pub const USER_HEADER: &str = "papo-user";
/// Header (boolean): [`crate::Record::verified`]. Absent if it is not.
pub const VERIFIED_HEADER: &str = "papo-verified";
/// Header (i64): milliseconds since the Unix epoch; AMQP's own `timestamp` has seconds only.
pub const AT_HEADER: &str = "papo-at";
/// Header (long string): [`crate::Record::since`], a [`crate::Position`]. Absent if the server did not know it.
pub const SINCE_HEADER: &str = "papo-since";
/// Header (i64) that RabbitMQ puts on each delivery from a stream.
pub const STREAM_OFFSET_HEADER: &str = "x-stream-offset";

/// Segment size of a log, in bytes: retention removes whole segments, and RabbitMQ's default is 500 MB.
pub const SEGMENT_BYTES: u64 = 1_000_000;
/// The duplicate window: how many records back a duplicate is recognised. All readers must use the same, or they would hide different
/// records.
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

/// A room has this many names for its servers' own queues. So its broker user, which may use no other name, cannot create more queues.
pub const SIGNAL_QUEUES: u16 = 0x100;
/// The same of a room with more than [`FEW_SERVERS`].
pub const MANY_SIGNAL_QUEUES: u16 = 0x1000;
/// A server draws its number, so that there must be several times as many numbers as servers.
pub const FEW_SERVERS: u32 = 64;

/// `papo.NS.NAME.signal.NUMBER`: a server's own queue. The number has two hexadecimal digits below [`SIGNAL_QUEUES`], and three from there
/// to [`MANY_SIGNAL_QUEUES`].
pub fn signal_queue(room: &RoomName, number: u16) -> String {
    format!("{}.signal.{number:02x}", exchange(room))
}

/// The queue argument that makes a queue a stream: its name and its value.
pub const STREAM_TYPE: (&str, &str) = ("x-queue-type", "stream");

/// How a stream is declared: a durable queue with [`STREAM_TYPE`] and these arguments, whoever declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The queue's name.
    pub name: String,
    /// Queue arguments.
    pub arguments: Vec<(&'static str, Argument)>,
}

/// The value of a queue argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// An integer.
    Number(u64),
    /// A text.
    Text(String),
}

/// Queue argument (integer): the size that a log may reach, in bytes.
pub const MAX_BYTES_ARGUMENT: &str = "x-max-length-bytes";
/// Queue argument (text): the age that a record may reach, as a number and a unit, such as `7D`.
pub const MAX_AGE_ARGUMENT: &str = "x-max-age";
/// Queue argument (integer): on how many nodes the stream begins, if there are as many.
pub const REPLICAS_ARGUMENT: &str = "x-initial-cluster-size";

/// How a log is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings<'a> {
    /// The size that it may reach, in bytes.
    pub retention_bytes: u64,
    /// The age that its records may reach, in RabbitMQ's notation; no bound if `None`.
    pub max_age: Option<&'a str>,
    /// On how many nodes it begins, if there are as many; on every node if `None`.
    pub replicas: Option<u32>,
}

/// The stream that is the room's log in this epoch, to be bound to the room's exchange with [`MESSAGE_KEY`].
///
/// Its arguments bound it. A policy overrides them, and so one is needed only for a log whose retention changes later: RabbitMQ applies
/// each policy to each queue whenever any policy changes. `balanced` spreads the leaders of the logs over the nodes.
pub fn log_stream(room: &RoomName, epoch: &Epoch, settings: LogSettings<'_>) -> Stream {
    let LogSettings {
        retention_bytes,
        max_age,
        replicas,
    } = settings;
    let text = |text: &str| Argument::Text(text.to_owned());
    let mut arguments = vec![
        (MAX_BYTES_ARGUMENT, Argument::Number(retention_bytes)),
        (
            "x-stream-max-segment-size-bytes",
            Argument::Number(SEGMENT_BYTES),
        ),
        ("x-queue-leader-locator", text("balanced")),
    ];
    arguments.extend(max_age.map(|age| (MAX_AGE_ARGUMENT, text(age))));
    arguments.extend(replicas.map(|count| (REPLICAS_ARGUMENT, Argument::Number(count.into()))));
    Stream {
        name: log(room, epoch),
        arguments,
    }
}

/// The stream in which servers that declare their own topology agree on the epoch.
pub fn epochs_stream(room: &RoomName) -> Stream {
    Stream {
        name: epochs(room),
        arguments: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_documented() {
        let room: RoomName = "team/geral".parse().expect("valid");
        let epoch: Epoch = "0a1b".parse().expect("valid");
        assert_eq!(exchange(&room), "papo.team.geral");
        assert_eq!(log(&room, &epoch), "papo.team.geral.log.0a1b");
        assert_eq!(epochs(&room), "papo.team.geral.epochs");
        for (number, name) in [
            (0, "papo.team.geral.signal.00"),
            (SIGNAL_QUEUES - 1, "papo.team.geral.signal.ff"),
            (SIGNAL_QUEUES, "papo.team.geral.signal.100"),
            (MANY_SIGNAL_QUEUES - 1, "papo.team.geral.signal.fff"),
        ] {
            assert_eq!(signal_queue(&room, number), name);
        }
    }

    #[test]
    fn longest_names_fit_amqp_short_strings() {
        let room = RoomName::new(
            &"n".repeat(RoomName::MAX_NAMESPACE),
            &"r".repeat(RoomName::MAX_NAME),
        )
        .expect("valid");
        let epoch: Epoch = "e".repeat(32).parse().expect("valid");
        assert!(log(&room, &epoch).len() <= 255);
    }
}
