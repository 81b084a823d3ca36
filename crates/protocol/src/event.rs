//! The Socket.IO contract (namespace `/`, protocol 5): event names, and the codes of rejections.

/// A message: client to server with acknowledgement, and server to clients.
pub const MESSAGE: &str = "message";
/// Messages of the past: once after connecting, and on request with an acknowledgement.
pub const HISTORY: &str = "history";
/// Who is in the room.
pub const PRESENCE: &str = "presence";
/// Somebody is typing.
pub const TYPING: &str = "typing";
/// A client asks whether the server still answers.
pub const CHECK: &str = "check";
/// This server shuts down.
pub const DRAINING: &str = "draining";
/// A client's new access token, with acknowledgement.
pub const TOKEN: &str = "token";
/// The client's access token expires soon.
pub const TOKEN_EXPIRING: &str = "token_expiring";
/// What the client may do has changed: the new `you`.
pub const YOU: &str = "you";
/// The server closes this connection, and why: `{ code, message }`.
pub const CLOSED: &str = "closed";

/// Why a server rejected a message, a request or a connection: the `code` of `{ ok: false, code, message }` and of `connect_error`'s `data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The arguments have the wrong shape or type.
    BadRequest,
    /// The text is empty.
    EmptyText,
    /// Longer than the limit.
    TextTooLong,
    /// Not a valid message id.
    InvalidId,
    /// Not a valid name.
    InvalidName,
    /// Too short or too long a token.
    InvalidToken,
    /// No access token where one is needed, or one that cannot be accepted.
    Unauthenticated,
    /// Who it is may not do this.
    Forbidden,
    /// The access token has expired.
    TokenExpired,
    /// The name is that of somebody who is signed in.
    NameTaken,
    /// Faster than the limit.
    RateLimited,
    /// The server has its maximum of connections.
    ServerFull,
    /// The client's address has its maximum of connections.
    AddressFull,
    /// The server shuts down; connect again to reach another one.
    Draining,
    /// The broker did not confirm in time; the message may be stored or not. Retry with the same id.
    Timeout,
    /// The broker cannot be reached or does not take the message; nothing was stored.
    Unavailable,
    /// The broker does not accept this message, and will not: nothing was stored.
    NotAccepted,
    /// No such event.
    UnknownEvent,
    /// An HTTP request from a browser on another site.
    ForbiddenOrigin,
    /// An HTTP request for a host that is not the server's.
    UnknownHost,
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
            Self::InvalidToken => "invalid_token",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::TokenExpired => "token_expired",
            Self::NameTaken => "name_taken",
            Self::RateLimited => "rate_limited",
            Self::ServerFull => "server_full",
            Self::AddressFull => "address_full",
            Self::Draining => "draining",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::NotAccepted => "not_accepted",
            Self::UnknownEvent => "unknown_event",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::UnknownHost => "unknown_host",
        }
    }
}
