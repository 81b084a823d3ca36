//! The contract between Papo's programs: names, records, settings and events that more than one of them must spell alike.
//!
//! Everything here is plain data and pure functions. There is no runtime, no broker client and no Kubernetes client among
//! the dependencies, so that each fact can be used from either program and tested without either.

mod epoch;
pub mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod launch;
mod limits;
pub mod ports;
mod record;
mod room;
pub mod topology;

pub use epoch::{Epoch, InvalidEpoch};
pub use launch::{BrokerUrl, InvalidBrokerUrl, Launch};
pub use limits::Limits;
pub use record::{InvalidMessageId, InvalidUserName, MessageId, Record, SenderId, UserName};
pub use room::{InvalidRoomName, RoomName};
