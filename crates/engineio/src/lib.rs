//! Engine.IO 4, over WebSocket written straight to the TCP connection: for servers that send the same bytes to many clients.
//!
//! [`upgrade`] answers the HTTP request. [`Upgrade::open`] then gives the two halves of the connection: [`Incoming`], from
//! which one task takes messages until there is a reason to close, and [`Outgoing`], to which any number of tasks push
//! [`Frame`]s.
//!
//! - A frame is encoded once and shared. A push writes it to the kernel at once, without a queue and without a task switch;
//!   a [`Batch`] of frames costs one system call.
//! - A push never waits. When the kernel takes no more, the caller keeps the rest and tries again later. Only the rest of a
//!   frame that was written in part, and single frames up to a bound, wait in the connection.
//! - What connections keep for clients that do not read, or do not send the rest of a frame, is bounded in all ([`Budget`]).
//! - An idle connection holds no buffer, neither for reading nor for writing.
//! - Everything that a client sends is checked before memory is reserved for it (RFC 6455; [`Settings::max_payload`]).
//! - A client that does not answer Engine.IO's pings is closed.
//!
//! Clients that begin with long-polling have a [`Polling`] session. When such a client upgrades, the session gets the two halves of a
//! WebSocket connection too, and costs no more than one that began with it.
//!
//! [`socketio`] spells the packets of Socket.IO that such frames carry.

mod budget;
mod close;
mod decoder;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handshake;
mod incoming;
mod outgoing;
mod payload;
mod polling;
mod query;
mod settings;
pub mod socketio;

pub use budget::{Budget, Kept};
pub use close::CloseCode;
pub use frame::{Batch, Frame};
pub use handshake::{Upgrade, UpgradeError, is_session_request, upgrade};
pub use incoming::{Incoming, Message, open};
pub use outgoing::{Outgoing, Push};
pub use polling::{PollError, Polling};
pub use query::Query;
pub use settings::Settings;
