//! The access token of the HTTP request that opens a transport: an authenticating proxy puts it there.

use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use papo_engineio::Kept;

use super::{SocketServer, places::Place};
use crate::{broker::Broker, chat::AccessToken};

/// A token that waits for the CONNECT packet.
pub(super) struct Bearer {
    pub(super) token: AccessToken,
    _kept: Kept,
}

impl<B: Broker> SocketServer<B> {
    /// The token of a request that opens a transport, if the room accepts tokens. It is kept of the budget of its address.
    pub(super) fn bearer(
        &self,
        headers: &HeaderMap,
        place: &Place,
    ) -> Result<Option<Bearer>, StatusCode> {
        if !self.access.accepts_tokens() {
            return Ok(None);
        }
        let header = headers.get(AUTHORIZATION);
        let value = header.and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(AccessToken::of_header) else {
            return Ok(None);
        };
        let kept = Kept::some(&place.budget, token.expose().len());
        let kept = kept.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
        Ok(Some(Bearer { token, _kept: kept }))
    }
}
