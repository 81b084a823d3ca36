//! Connecting: from a client's CONNECT packet to a member with its initial history and a cursor on the log.

use std::sync::{Arc, atomic::Ordering};

use papo_engineio::{CloseCode, Frame, socketio};
use papo_protocol::{Launch, Position, event::Code};
use serde_json::{Value as Json, json};
use socketioxide_core::Str;

use super::{
    Connection, SocketServer, SocketSink, State, packet, push::push_or_close, requester,
    session::Session, sid::Sid, sign_in::Entrant, standing::Standing,
};
use crate::{
    broker::Broker,
    chat::{AccessToken, ConnectAuth, Rejection},
    metrics::Bound,
    room::InitialHistory,
};

impl<B: Broker> SocketServer<B> {
    /// Answers a CONNECT packet: with CONNECT, the initial history and presence, or with `CONNECT_ERROR`. A second CONNECT packet
    /// on the same connection is ignored.
    pub(super) fn connect(self: &Arc<Self>, auth: Option<Str>, connection: &Arc<Connection>) {
        let bearer = {
            let mut state = connection.state.lock();
            match std::mem::replace(&mut *state, State::Connecting) {
                State::Opened(bearer) => bearer,
                other => {
                    *state = other;
                    return;
                }
            }
        };
        let (server, connecting) = (self.clone(), connection.clone());
        self.tasks.spawn(async move {
            let token = bearer.as_ref().map(|bearer| &bearer.token);
            let admitted = server.admit(auth.as_deref(), token, &connecting);
            // Waiting and reading for the client end with the connection.
            let admitted = connecting.while_open(admitted).await;
            if let Some(Err(rejection)) = admitted {
                let address = connecting.place.address;
                server
                    .bounds
                    .reject(rejection.code, address, &rejection.message);
                if rejection.code == Code::NameTaken {
                    let reason = rejection.code.as_str();
                    server
                        .access
                        .audit
                        .rejected(address, rejection.code, reason);
                }
                let mut state = connecting.state.lock();
                if matches!(*state, State::Connecting) {
                    *state = State::Opened(bearer);
                }
                drop(state);
                push_or_close(&connecting, &packet::connect_error(&rejection));
            }
        });
    }

    async fn admit(
        &self,
        auth: Option<&str>,
        bearer: Option<&AccessToken>,
        connection: &Arc<Connection>,
    ) -> Result<(), Rejection> {
        self.has_room()?;
        self.bounds.has_place(&connection.place)?;
        let address = connection.place.address;
        let Launch { room, limits, .. } = &*self.launch;
        let ConnectAuth {
            credentials,
            resume,
        } = ConnectAuth::parse(auth, bearer, room, limits)?;
        let Entrant {
            member,
            person,
            may,
            number,
        } = self.identify(credentials, address).await?;
        let turn = self.joins.turn(address).await;
        turn.inspect_err(|_| self.metrics.exceeded(Bound::JoinQueue))?;
        if resume
            .as_ref()
            .is_some_and(|resume| self.room.is_past(resume))
        {
            self.bounds.history(&member.sender, address)?;
        }
        let requester = requester(address);
        let entered = self.room.enter(member, resume.as_ref(), requester);
        let (history, membership) = entered.await?;
        // Clients show this id around. That of the transport is a secret: who knows it can speak for the client.
        let sid = Sid::random();
        let listed = self
            .directory
            .as_ref()
            .map(|directory| directory.add(sid.as_str(), membership.member(), connection));
        let member = membership.member().clone();
        let sink = SocketSink::new(connection.clone(), member.clone());
        let standing = Standing::new(member, person.map(Entrant::token), may, number);
        let registration = self.members.as_ref().map(|members| members.add(connection));
        let session = Arc::new(Session::new(standing, registration, listed));
        let first = [
            socketio::connect(sid.as_str()),
            self.history(&history, &session.standing.you()),
            self.room.presence(),
        ];
        let sent = Position {
            epoch: history.epoch.clone(),
            offset: history.cursor,
        };
        // The messages are in the packet: they must not take memory for as long as the client catches up.
        drop(history);
        if !connection.join(session.clone(), membership) {
            self.unlist(&session, CloseCode::Normal);
            return Ok(());
        }
        for packet in first {
            push_or_close(connection, &packet);
        }
        self.entered(&session, connection);
        match self.room.catch_up(sent, &sink, requester).await {
            Some(cursor) => connection.deliver(sink, cursor),
            None => connection.close(CloseCode::GoingAway),
        }
        Ok(())
    }

    fn has_room(&self) -> Result<(), Rejection> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Rejection::new(
                Code::Draining,
                "this server is shutting down; connect again",
            ));
        }
        let most = self.launch.limits.connections;
        if self.connections() > most {
            self.metrics.exceeded(Bound::Connections);
            return Err(Rejection::new(
                Code::ServerFull,
                format!("this server has reached its limit of {most} connections; try again later"),
            ));
        }
        Ok(())
    }

    fn history(&self, history: &InitialHistory, you: &Json) -> Frame {
        let InitialHistory {
            epoch,
            page,
            recovered,
            gap,
            cursor: _,
        } = history;
        let launch = &self.launch;
        let title = launch.title.as_deref().unwrap_or(launch.room.name());
        let mut rest = json!({
            "epoch": epoch,
            "recovered": recovered,
            "you": you,
            "room": { "name": launch.room.name(), "title": title },
            "limits": { "messageLength": launch.limits.message_length, "nameLength": launch.limits.name_length },
        });
        if let (Some((from, to)), Json::Object(fields)) = (gap, &mut rest) {
            fields.insert("gap".to_owned(), json!({ "from": from, "to": to }));
        }
        packet::history(page, &rest)
    }
}
