//! Who a client is when it connects, its new tokens, and what becomes of it when rules or keys change or its token expires.

use std::sync::Arc;

use papo_engineio::{CloseCode, socketio};
use papo_protocol::event::{self, Code};
use serde_json::{Value as Json, json};
use tokio::task::yield_now;

use super::{
    Connection, SocketServer,
    push::push_or_close,
    session::Session,
    standing::{Review, Token},
};
use crate::{
    access::{Audit, Due, Expiry, May, NoEntry, Person, SignedIn, TokenError, Who},
    address::Address,
    broker::Broker,
    chat::{AccessToken, Credentials, Member, Rejection},
    clock::unix_millis,
};

/// Members that are looked at in a row when the rules change, before other tasks have their turn.
const IN_A_ROW: usize = 64;

/// Somebody who may enter.
pub(super) struct Entrant {
    pub(super) member: Member,
    pub(super) person: Option<Person>,
    pub(super) may: May,
    /// The number of changes before that.
    pub(super) number: u64,
}

impl Entrant {
    /// The token of somebody who is signed in, and what will be due for it.
    pub(super) fn token(person: Person) -> Token {
        let expiry = Expiry::new(person.expires, now(), rand::random());
        Token { person, expiry }
    }
}

impl<B: Broker> SocketServer<B> {
    /// Finds out who connects, and whether it may enter.
    pub(super) async fn identify(
        &self,
        credentials: Credentials,
        address: Address,
    ) -> Result<Entrant, Rejection> {
        let number = self.access.number();
        match credentials {
            Credentials::Guest(member) => {
                let may = self.access.rules().guest(&member.sender);
                let may =
                    may.map_err(|no_entry| self.no_entry(TokenError::NoEntry(no_entry), address))?;
                Ok(Entrant {
                    member,
                    person: None,
                    may,
                    number,
                })
            }
            Credentials::Token(token) => {
                self.bounds.sign_in(address)?;
                let signed_in = self.access.sign_in(&token).await;
                let SignedIn {
                    member,
                    person,
                    may,
                } = signed_in.map_err(|error| self.no_entry(error, address))?;
                Ok(Entrant {
                    member,
                    person: Some(person),
                    may,
                    number,
                })
            }
        }
    }

    fn no_entry(&self, error: TokenError, address: Address) -> Rejection {
        let rejection = error.rejection();
        self.access
            .audit
            .rejected(address, rejection.code, error.reason());
        rejection
    }

    /// A member has joined: counts it, and looks at what has changed since it was let in.
    pub(super) fn entered(&self, session: &Session, connection: &Connection) {
        let is_signed_in = session.standing.is_signed_in();
        self.metrics.signed_in(is_signed_in);
        let rules = self.access.rules();
        if !rules.is_open() {
            self.audit(session, connection, Audit::entered);
        }
        self.expire(session, connection);
        if self.access.has_file() {
            let _ = self.review(session, connection);
        }
    }

    /// Verifies the new token of a member, and takes it in the place of the former one, even if it gives less. Returns the acknowledgement.
    pub(super) async fn renew(
        &self,
        token: &AccessToken,
        session: &Session,
        connection: &Connection,
    ) -> Result<Json, Rejection> {
        let address = connection.place.address;
        let verified = self.access.verify(token).await;
        let (member, person) = verified.map_err(|error| self.no_entry(error, address))?;
        if member.sender != session.standing.sender() {
            self.metrics
                .token_rejected(TokenError::AnotherPerson.reason());
            return Err(self.no_entry(TokenError::AnotherPerson, address));
        }
        let member = connection
            .rename(member)
            .ok_or_else(|| Rejection::new(Code::Draining, "the connection has ended"))?;
        let expires = person.expires;
        session.standing.renew(member, Entrant::token(person));
        self.metrics.token_refreshed();
        self.audit(session, connection, Audit::refreshed);
        self.expire(session, connection);
        self.review(session, connection)?;
        let you = session.standing.you();
        Ok(json!({ "ok": true, "expiresIn": expires.saturating_sub(now()), "you": you }))
    }

    /// Puts out who may no longer be here when rules or keys change, and who has an expired token; tells the others what has changed for them. Runs
    /// until the server stops.
    pub(crate) async fn watch_members(self: Arc<Self>) {
        let Some(members) = &self.members else {
            return std::future::pending().await;
        };
        let mut changes = self.access.changes();
        loop {
            let (connections, has_changed) = tokio::select! {
                _ = changes.changed() => (members.all(), true),
                due = members.due() => (due, false),
            };
            for (place, connection) in connections.iter().enumerate() {
                if let Some(session) = connection.session() {
                    self.expire(&session, connection);
                    if has_changed {
                        let _ = self.review(&session, connection);
                    }
                }
                if place % IN_A_ROW == IN_A_ROW - 1 {
                    yield_now().await;
                }
            }
        }
    }

    /// Does what is due for a member's token.
    fn expire(&self, session: &Session, connection: &Connection) {
        let Some(registration) = &session.registration else {
            return;
        };
        let (due, next) = session.standing.take_due(now());
        match due {
            Due::Nothing => {}
            Due::Notice => {
                let expires = session.standing.expires().unwrap_or_default();
                let body = json!({ "in": expires.saturating_sub(now()) });
                push_or_close(connection, &socketio::event(&(event::TOKEN_EXPIRING, body)));
            }
            Due::Close => {
                self.metrics.token_expired();
                let rejection = Rejection::new(
                    Code::TokenExpired,
                    "the access token has expired; connect again with a new one",
                );
                return self.put_out(session, connection, &rejection, CloseCode::GoingAway);
            }
        }
        registration.set_due(next);
    }

    /// Asks the rules in force what a member may do. An error says why it is put out.
    fn review(&self, session: &Session, connection: &Connection) -> Result<(), Rejection> {
        match session.standing.review(&self.access) {
            Review::Same => {}
            Review::Told(you) => push_or_close(connection, &socketio::event(&(event::YOU, you))),
            Review::PutOut(no_entry) => {
                let (code, close) = match no_entry {
                    NoEntry::Withdrawn => (Code::TokenExpired, CloseCode::GoingAway),
                    _ => (Code::Forbidden, CloseCode::PolicyViolation),
                };
                let rejection = Rejection::new(code, no_entry.message());
                self.put_out(session, connection, &rejection, close);
                return Err(rejection);
            }
        }
        Ok(())
    }

    /// Closes a member's connection, and tells it why.
    fn put_out(
        &self,
        session: &Session,
        connection: &Connection,
        rejection: &Rejection,
        code: CloseCode,
    ) {
        if !session.standing.put_out() {
            return;
        }
        if let Some(registration) = &session.registration {
            registration.set_due(None);
        }
        self.metrics.connection_closed(rejection.code.as_str());
        self.audit(session, connection, |audit, who| {
            audit.closed(who, rejection.code);
        });
        // A client that does not read learns it from the close code.
        let _ = connection.push(&socketio::event(&(event::CLOSED, rejection)));
        connection.close(code);
    }

    fn audit(
        &self,
        session: &Session,
        connection: &Connection,
        write: impl FnOnce(&Audit, Who<'_>),
    ) {
        let address = connection.place.address;
        session.standing.with_person(|member, person| {
            let sender = &member.sender;
            let who = Who {
                sender,
                person,
                address,
            };
            write(&self.access.audit, who);
        });
    }
}

/// Milliseconds since the Unix epoch.
fn now() -> u64 {
    unix_millis().unsigned_abs()
}
