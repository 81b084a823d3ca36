//! Accepts HTTP/1.1 connections within bounds, so that clients that send nothing, or too much, cost little and end.
//!
//! - A listener has at most [`Settings::sockets`] open sockets, counted from `accept` until the last holder of the [`Peer`] drops it: a WebSocket
//!   is still one of them. A client beyond that gets `503` and is closed.
//! - A peer has at most as many of them as [`Settings::sockets_of`] says.
//! - A client has [`HEAD_TIMEOUT`] for its first request head, and [`IDLE_TIMEOUT`] for each further one, the time between requests included.
//! - A head has at most [`HEAD_SIZE`] bytes.
//! - A request with its body is answered within [`REQUEST_TIMEOUT`], or with `408`. The upgrade to a WebSocket is an answer.
//! - A client has [`ANSWER_TIMEOUT`] to read an answer.
//! - [`bind`] listens on both families of addresses.
//! - A failure to accept, as when there are no descriptors left, is logged and tried again.

mod accept;
mod answer_timer;
mod bind;
mod descriptors;
mod head_timer;
mod peer;

pub use accept::{Exceeded, HEAD_SIZE, REQUEST_TIMEOUT, Settings, serve};
pub use answer_timer::ANSWER_TIMEOUT;
pub use bind::bind;
pub use descriptors::{RESERVED, raise_descriptor_limit};
pub use head_timer::{HEAD_TIMEOUT, IDLE_TIMEOUT};
pub use peer::{Peer, network};
