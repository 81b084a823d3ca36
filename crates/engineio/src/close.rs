//! Why a connection is closed.

use crate::decoder::FrameError;

/// The code in WebSocket's close frame (RFC 6455, 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The client has left, or one side has finished.
    Normal = 1000,
    /// The server does not serve this client any longer: it may connect again.
    GoingAway = 1001,
    /// The client sent a frame or a packet that breaks the protocol.
    ProtocolError = 1002,
    /// The client sent a text, or a reason for its close, that is not UTF-8.
    InvalidData = 1007,
    /// The client may not be here, and need not come back.
    PolicyViolation = 1008,
    /// The client sent a message above [`Settings::max_payload`](crate::Settings::max_payload).
    TooBig = 1009,
    /// The server keeps as much as it may for its clients: this one may try again later. RFC 6455 does not have this code; the
    /// registry of IANA does.
    TryAgainLater = 1013,
}

impl From<FrameError> for CloseCode {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Malformed => Self::ProtocolError,
            FrameError::Encoding => Self::InvalidData,
            FrameError::TooBig => Self::TooBig,
        }
    }
}
