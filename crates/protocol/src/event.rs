//! The Socket.IO contract (namespace `/`, protocol 5): event names, and the codes of refusals.

/// A message: client to server with acknowledgement, and server to clients.
pub const MESSAGE: &str = "message";
/// The past: once after connecting, and on request with an acknowledgement.
pub const HISTORY: &str = "history";
/// Who is here.
pub const PRESENCE: &str = "presence";
/// Somebody is typing.
pub const TYPING: &str = "typing";
/// This server is going away.
pub const DRAINING: &str = "draining";

/// Why a server refused a message, a request or a connection: the `code` of `{ ok: false, code, message }` and of `connect_error`'s `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The arguments have the wrong shape or type.
    BadRequest,
    /// Nothing to send.
    EmptyText,
    /// Longer than the limit.
    TextTooLong,
    /// Not a usable message id.
    InvalidId,
    /// Not a usable name.
    InvalidName,
    /// Faster than the limit.
    RateLimited,
    /// The server has all the connections it may have.
    ServerFull,
    /// The server is going away; another one will answer.
    Draining,
    /// The broker did not confirm in time; whether it was stored is unknown. Retry with the same id.
    Timeout,
    /// The broker cannot be reached or refuses; nothing was stored.
    Unavailable,
    /// No such event.
    UnknownEvent,
}

impl Code {
    /// The code on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::EmptyText => "empty_text",
            Self::TextTooLong => "text_too_long",
            Self::InvalidId => "invalid_id",
            Self::InvalidName => "invalid_name",
            Self::RateLimited => "rate_limited",
            Self::ServerFull => "server_full",
            Self::Draining => "draining",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::UnknownEvent => "unknown_event",
        }
    }
}
