//! Identity: what makes a member the same one on every connection, and the public sender that is made of it.

use papo_protocol::{RoomName, SenderId};
use sha2::{Digest, Sha256};

/// What makes a member the same one on every connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity<'a> {
    /// A guest's secret token.
    Guest(&'a str),
    /// Somebody who is signed in: the claims `iss` and `sub`.
    Person {
        /// The issuer.
        issuer: &'a str,
        /// The subject.
        subject: &'a str,
    },
}

impl Identity<'_> {
    /// A one-way function of the identity, so that it can be public; of the room too, so that the same person has another sender in each
    /// room. A room has neither 0 nor 1 in its name, so no guest has the sender of somebody who is signed in.
    pub(crate) fn sender(self, room: &RoomName) -> SenderId {
        let of_room = Sha256::new().chain_update(room.to_string());
        let digest = match self {
            Self::Guest(token) => of_room.chain_update([0]).chain_update(token),
            Self::Person { issuer, subject } => of_room
                .chain_update([1])
                .chain_update(issuer)
                .chain_update([0])
                .chain_update(subject),
        };
        SenderId::from_trusted(hex::encode(&digest.finalize()[..12]))
    }
}
