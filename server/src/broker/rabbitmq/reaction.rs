//! What an error of the broker means for what to do next: one function, by AMQP's reply codes.
//!
//! A cluster answers a request that one of its nodes cannot serve at the moment with the codes of lasting errors too: 404 for a queue whose
//! leader is down, 406 for a stream without a replica on this node. Only their texts tell these cases apart.

use lapin::{ErrorKind, protocol::AMQPErrorKind};

/// What to do after an error of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// The object does not exist, as far as this node knows: look again before it counts as deleted.
    Look,
    /// This node cannot do it now: try another node, or this one later.
    Move(Reason),
    /// The broker does not accept the request, on any node, until a person corrects something.
    Correct,
}

/// Why a server leaves a node of the broker: a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reason {
    /// No connection can be made.
    Unreachable,
    /// The connection has ended, or its heartbeats have stopped.
    Lost,
    /// The broker does not accept the user, or not here.
    Rejected,
    /// The node ends its connections: it stops, or is in a minority.
    Forced,
    /// The node has no running replica of the stream.
    NoReplica,
    /// The queue exists, but cannot be reached: its leader is down or moves, or most of its nodes are down.
    NoLeader,
    /// The broker has failed: a declaration in a minority, or a lack of resources.
    Internal,
    /// The broker has not answered in time.
    Timeout,
    /// The broker has not stored a record.
    NotStored,
    /// The broker confirms nothing, or delivers nothing that it must have.
    Stalled,
    /// The node's replica ends before what was already read elsewhere.
    Lagging,
}

impl Reason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Rejected => "rejected",
            Self::Forced => "forced",
            Self::NoReplica => "no_replica",
            Self::NoLeader => "no_leader",
            Self::Internal => "internal",
            Self::Timeout => "timeout",
            Self::NotStored => "not_stored",
            Self::Stalled => "stalled",
            Self::Lagging => "lagging",
        }
    }

    /// Whether only reading needs another node: every node can publish to a stream.
    pub(super) fn is_of_readers(self) -> bool {
        matches!(self, Self::NoReplica | Self::Lagging)
    }
}

/// What to do after this error.
pub(super) fn reaction(error: &lapin::Error) -> Reaction {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        // The connection or the channel has ended before, or now.
        return Reaction::Move(Reason::Lost);
    };
    let text = error.get_message().as_str();
    match error.get_id() {
        320 => Reaction::Move(Reason::Forced),
        // RabbitMQ writes "no queue 'x' in vhost '/'" of an object that it does not know.
        404 if text.contains("NOT_FOUND - no ") => Reaction::Look,
        404 => Reaction::Move(Reason::NoLeader),
        406 if text.contains("replica") => Reaction::Move(Reason::NoReplica),
        406 if text.contains("timed out") || text.contains("unavailable") => {
            Reaction::Move(Reason::Timeout)
        }
        402 | 403 | 530 => Reaction::Correct,
        _ if matches!(error.kind(), AMQPErrorKind::Soft(_)) => Reaction::Correct,
        _ => Reaction::Move(Reason::Internal),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use lapin::protocol::AMQPError;

    use super::*;

    fn protocol(code: u16, text: &str) -> lapin::Error {
        let error = AMQPError::from_id(code, text.into()).expect("a code of AMQP");
        ErrorKind::ProtocolError(error).into()
    }

    /// The texts are those of RabbitMQ 4.3.
    #[test]
    fn reactions_follow_code_and_class() {
        use Reaction::{Correct, Look, Move};
        for (code, text, expected) in [
            (
                320,
                "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
                Move(Reason::Forced),
            ),
            (404, "NOT_FOUND - no queue 'papo.x' in vhost '/'", Look),
            (404, "NOT_FOUND - no exchange 'papo.x' in vhost '/'", Look),
            (
                404,
                "NOT_FOUND - home node 'a@b' of durable queue 'papo.x' in vhost '/' is down or inaccessible",
                Move(Reason::NoLeader),
            ),
            (
                404,
                "NOT_FOUND - failed to perform operation on queue 'papo.x' in vhost '/' due to timeout",
                Move(Reason::NoLeader),
            ),
            (
                404,
                "NOT_FOUND - failed to perform operation on queue 'no ' in vhost '/': its leader <0.1.0> may be stopping or being demoted",
                Move(Reason::NoLeader),
            ),
            (
                406,
                "PRECONDITION_FAILED - stream queue 'papo.x' in vhost '/' does not have a running replica on the local node",
                Move(Reason::NoReplica),
            ),
            (
                406,
                "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms",
                Move(Reason::Timeout),
            ),
            (
                406,
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'papo.x' in vhost '/'",
                Correct,
            ),
            (
                406,
                "PRECONDITION_FAILED - message size 17825792 is larger than configured max size 16777216",
                Correct,
            ),
            (
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
                Correct,
            ),
            (
                403,
                "ACCESS_REFUSED - read access to queue 'papo.x' refused for user 'a'",
                Correct,
            ),
            (
                530,
                "NOT_ALLOWED - access to vhost 'x' refused for user 'a'",
                Correct,
            ),
            (402, "INVALID_PATH - unknown virtual host", Correct),
            (311, "CONTENT_TOO_LARGE", Correct),
            (
                405,
                "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue",
                Correct,
            ),
            (
                541,
                "INTERNAL_ERROR - Cannot declare queue 'papo.x' on node 'a@b': {timeout,..}",
                Move(Reason::Internal),
            ),
            (
                541,
                "INTERNAL_ERROR - Could not add binding due to timeout",
                Move(Reason::Internal),
            ),
            (
                506,
                "RESOURCE_ERROR - Stream coordinator unavailable for queue 'papo.x' in vhost '/'",
                Move(Reason::Internal),
            ),
            (504, "CHANNEL_ERROR", Move(Reason::Internal)),
            (505, "UNEXPECTED_FRAME", Move(Reason::Internal)),
            (540, "NOT_IMPLEMENTED", Move(Reason::Internal)),
        ] {
            assert_eq!(reaction(&protocol(code, text)), expected, "{code} {text}");
        }
    }

    #[test]
    fn error_of_the_connection_is_a_reason_to_move() {
        let reset = lapin::Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        let silent = ErrorKind::MissingHeartbeatError.into();
        let closed = ErrorKind::InvalidConnectionState(lapin::ConnectionState::Closed).into();
        for error in [reset, silent, closed] {
            assert_eq!(reaction(&error), Reaction::Move(Reason::Lost), "{error:?}");
        }
    }
}
