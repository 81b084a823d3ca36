//! Connecting: from the CONNECT packet to a member that has its history and a cursor.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use engineioxide::Str;
use papo_protocol::event::Code;
use serde_json::{Value as Json, json};
use tokio::time::sleep;

use super::{
    Connection, Edge, Ending, SocketSink, State, packet, session::Session, sink::push_or_close,
};
use crate::{
    broker::Broker,
    chat::{Hello, Member, Refusal},
    frame::Frame,
    room::Opening,
};

impl<B: Broker> Edge<B> {
    /// Answers a CONNECT packet: with CONNECT and what the member needs first, or with `CONNECT_ERROR`. A second CONNECT
    /// packet on a connection that has one is ignored.
    pub(super) fn connect(self: &Arc<Self>, auth: Option<Str>, connection: &Arc<Connection>) {
        {
            let mut state = connection.state.lock();
            if !matches!(*state, State::Opened) {
                return;
            }
            *state = State::Connecting;
        }
        let (edge, connection) = (self.clone(), connection.clone());
        self.tasks.spawn(async move {
            if let Err(refusal) = edge.admit(auth.as_deref(), &connection).await {
                edge.metrics.refused(refusal.code);
                let mut state = connection.state.lock();
                if matches!(*state, State::Connecting) {
                    *state = State::Opened;
                }
                drop(state);
                push_or_close(&connection, &packet::connect_error(&refusal));
            }
        });
    }

    async fn admit(&self, auth: Option<&str>, connection: &Arc<Connection>) -> Result<(), Refusal> {
        self.has_room()?;
        let Hello { member, resume } = Hello::parse(auth, &self.launch.room, &self.launch.limits)?;
        self.wait_for_turn().await;
        let claim = self.room.claim();
        let opening = self.room.open(resume.as_ref()).await?;
        let session = Arc::new(Session::new(member, claim, &self.launch.limits));
        if !enter(connection, &session) {
            return Ok(());
        }
        self.room.arrive(session.id, &session.member.user);
        let first = [
            packet::connected(connection.sid.as_str()),
            self.history(&opening, &session.member),
            self.room.presence(),
        ];
        for packet in first {
            push_or_close(connection, &packet);
        }
        self.join(connection, &session, opening).await;
        Ok(())
    }

    /// Newcomers queue here, first come first served.
    async fn wait_for_turn(&self) {
        let mut arrivals = self.arrivals.lock().await;
        while let Err(wait) = arrivals.take(Instant::now()) {
            sleep(wait).await;
        }
    }

    fn has_room(&self) -> Result<(), Refusal> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(Refusal::new(
                Code::Draining,
                "this server is going away; connect again",
            ));
        }
        let most = self.launch.limits.connections;
        if self.connections() > most {
            return Err(Refusal::new(
                Code::ServerFull,
                format!("this server has its {most} connections; try again later"),
            ));
        }
        Ok(())
    }

    fn history(&self, opening: &Opening, member: &Member) -> Frame {
        let Opening {
            epoch,
            page,
            recovered,
            gap,
            cursor: _,
        } = opening;
        let launch = &self.launch;
        let title = launch.title.as_deref().unwrap_or(launch.room.name());
        let mut rest = json!({
            "epoch": epoch,
            "recovered": recovered,
            "you": member,
            "room": { "name": launch.room.name(), "title": title },
            "limits": { "messageLength": launch.limits.message_length, "nameLength": launch.limits.name_length },
        });
        if let (Some((from, to)), Json::Object(fields)) = (gap, &mut rest) {
            fields.insert("gap".to_owned(), json!({ "from": from, "to": to }));
        }
        packet::history(page, &rest)
    }

    /// Lets the fan-out take over, once the member has been brought up to what is in memory.
    async fn join(&self, connection: &Arc<Connection>, session: &Session, opening: Opening) {
        let sink = SocketSink::new(connection.clone(), session.member.sender.clone());
        let stall = Duration::from_secs(self.launch.slow_reader_timeout.into());
        match self
            .room
            .catch_up(&opening.epoch, opening.cursor, &sink, stall)
            .await
        {
            Some(cursor) => self.room.join(session.id, sink, cursor),
            None => connection.close(Ending::GoingAway),
        }
        // It may have gone meanwhile, when there was nothing yet for it to leave.
        if !matches!(*connection.state.lock(), State::Joined(_)) {
            self.room.leave(session.id);
        }
    }
}

/// Marks a connection as a member's; false when it has ended meanwhile.
fn enter(connection: &Connection, session: &Arc<Session>) -> bool {
    let mut state = connection.state.lock();
    let waiting = matches!(*state, State::Connecting);
    if waiting {
        *state = State::Joined(session.clone());
    }
    waiting
}
