//! The directory: the sockets of this server's members, and the latest changes to them, for the Admin UI.
//!
//! - It exists only if the Admin UI is on. A member costs it something when it joins, upgrades and leaves, and nothing between.
//! - A reader is a position among the changes. One that falls behind by more than [`CHANGES`] begins again with all sockets: a reader that is
//!   slow, or gone, keeps nothing and delays nobody.
//! - It holds nothing that a client must keep secret: no token, and not the id of its transport.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use papo_engineio::{CloseCode, socketio};
use parking_lot::Mutex;

use super::{Connection, Transport, push::push_or_close};
use crate::{address::Address, chat::Member, clock::unix_millis};

/// Changes that are kept.
pub(crate) const CHANGES: usize = 4_096;
/// Changes that a reader gets at once.
const BATCH: usize = 64;

/// The sockets of a server's members.
#[derive(Default)]
pub(crate) struct Directory(Mutex<State>);

#[derive(Default)]
struct State {
    sockets: HashMap<Arc<str>, Arc<Entry>>,
    changes: VecDeque<Change>,
    /// How many changes there have been.
    count: u64,
}

/// The socket of a member.
pub(crate) struct Entry {
    /// The id that Socket.IO shows to the client.
    pub(crate) id: Arc<str>,
    /// Who it is.
    pub(crate) member: Arc<Member>,
    /// The network address of the client.
    pub(crate) address: Address,
    /// When the member joined, in milliseconds since the Unix epoch.
    pub(crate) since: i64,
    connection: Weak<Connection>,
    is_disconnected: AtomicBool,
}

/// A change to the sockets.
#[derive(Clone)]
pub(crate) enum Change {
    /// A member has joined.
    Joined(Arc<Entry>),
    /// It no longer polls.
    Upgraded(Arc<Entry>),
    /// It has left.
    Left {
        /// The socket.
        id: Arc<str>,
        /// Why, in Socket.IO's words.
        reason: &'static str,
        /// When, in milliseconds since the Unix epoch.
        at: i64,
    },
}

/// How many changes a reader has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Directory {
    /// Adds the socket of a member that is about to join, and returns its id.
    pub(super) fn add(
        &self,
        id: &str,
        member: &Arc<Member>,
        connection: &Arc<Connection>,
    ) -> Arc<str> {
        let id = Arc::<str>::from(id);
        let entry = Arc::new(Entry {
            id: id.clone(),
            member: member.clone(),
            address: connection.place.address,
            since: unix_millis(),
            connection: Arc::downgrade(connection),
            is_disconnected: AtomicBool::new(false),
        });
        let mut state = self.0.lock();
        state.sockets.insert(id.clone(), entry.clone());
        state.push(Change::Joined(entry));
        id
    }

    /// The member of a socket has upgraded to WebSocket.
    pub(super) fn upgraded(&self, id: &str) {
        let mut state = self.0.lock();
        if let Some(entry) = state.sockets.get(id).cloned() {
            state.push(Change::Upgraded(entry));
        }
    }

    /// Removes the socket of a member that has left.
    pub(super) fn remove(&self, id: &str, code: CloseCode) {
        let mut state = self.0.lock();
        if let Some((id, entry)) = state.sockets.remove_entry(id) {
            let reason = if entry.is_disconnected.load(Ordering::Relaxed) {
                "server namespace disconnect"
            } else {
                reason(code)
            };
            let at = unix_millis();
            state.push(Change::Left { id, reason, at });
        }
    }

    /// The socket with this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Entry>> {
        self.0.lock().sockets.get(id).cloned()
    }

    /// All sockets, those that joined first before the others, and what a reader that has them has seen.
    pub(crate) fn all(&self) -> (Vec<Arc<Entry>>, Seen) {
        let state = self.0.lock();
        let mut all: Vec<_> = state.sockets.values().cloned().collect();
        let seen = Seen(state.count);
        drop(state);
        all.sort_by_key(|entry| entry.since);
        (all, seen)
    }

    /// The next changes after those that a reader has seen; `None` if some of them are no longer kept.
    pub(crate) fn changes(&self, seen: &mut Seen) -> Option<Vec<Change>> {
        let state = self.0.lock();
        let missed = usize::try_from(state.count - seen.0).unwrap_or(usize::MAX);
        let first = state.changes.len().checked_sub(missed)?;
        let changes = state.changes.range(first..).take(BATCH).cloned();
        let changes: Vec<_> = changes.collect();
        seen.0 += changes.len() as u64;
        Some(changes)
    }

    /// How many sockets there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().sockets.len()
    }
}

impl State {
    fn push(&mut self, change: Change) {
        if self.changes.len() >= CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.count += 1;
    }
}

impl Entry {
    /// The transport of the client, in Engine.IO's words.
    pub(crate) fn transport(&self) -> &'static str {
        match self.connection.upgrade().as_deref() {
            Some(Connection {
                transport: Transport::Polling(polling),
                ..
            }) if polling.is_polling() => "polling",
            _ => "websocket",
        }
    }

    /// Sends the client a DISCONNECT packet, after which clients do not reconnect by themselves, and closes its connection.
    pub(crate) fn disconnect(&self) {
        if let Some(connection) = self.connection.upgrade() {
            self.is_disconnected.store(true, Ordering::Relaxed);
            push_or_close(&connection, &socketio::disconnect());
            connection.close(CloseCode::Normal);
        }
    }
}

/// Why a connection was closed, in the words in which Socket.IO's server says it to a program.
fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Normal => "transport close",
        CloseCode::GoingAway | CloseCode::PolicyViolation => "forced server close",
        CloseCode::ProtocolError | CloseCode::InvalidData => "parse error",
        CloseCode::TooBig | CloseCode::TryAgainLater => "transport error",
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Sockets of members that poll, and whose clients get nothing.

    use papo_engineio::{Budget, Polling, Settings};
    use papo_protocol::{Limits, SenderId};

    use super::{
        super::{places::Places, sid::Sid},
        *,
    };

    pub(in crate::socket) fn connection() -> Arc<Connection> {
        let polling = Polling::new(
            &Arc::new(Settings::default()),
            &Arc::new(Budget::new(4_096)),
        );
        let place = Places::new(&Limits::default()).add(Address::default());
        Connection::new(
            Sid::random(),
            Transport::Polling(polling.into()),
            place,
            None,
        )
    }

    pub(super) fn member() -> Arc<Member> {
        Arc::new(Member {
            sender: SenderId::from_trusted("s"),
            user: "Ana".parse().expect("valid"),
            verified: false,
        })
    }

    impl Directory {
        /// A member joins.
        pub(crate) fn join(&self, id: &str) {
            self.add(id, &member(), &connection());
        }

        /// It leaves.
        pub(crate) fn leave(&self, id: &str) {
            self.remove(id, CloseCode::Normal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{connection, member},
        *,
    };

    fn told(changes: &[Change]) -> Vec<String> {
        let told = changes.iter().map(|change| match change {
            Change::Joined(entry) => format!("{} joined", entry.id),
            Change::Upgraded(entry) => format!("{} upgraded", entry.id),
            Change::Left { id, reason, .. } => format!("{id} left: {reason}"),
        });
        told.collect()
    }

    #[test]
    fn reader_gets_all_sockets_and_then_each_change_once() {
        let (directory, connection) = (Directory::default(), connection());
        directory.add("a", &member(), &connection);
        let (all, mut seen) = directory.all();
        assert_eq!(all.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["a"]);
        directory.add("b", &member(), &connection);
        directory.upgraded("b");
        directory.remove("a", CloseCode::Normal);
        directory.remove("a", CloseCode::Normal);
        let changes = directory.changes(&mut seen).expect("kept");
        assert_eq!(
            told(&changes),
            ["b joined", "b upgraded", "a left: transport close"]
        );
        assert!(directory.changes(&mut seen).expect("kept").is_empty());
        assert_eq!(directory.len(), 1);
    }

    #[test]
    fn changes_are_read_in_batches_and_forgotten_beyond_the_limit() {
        let (directory, connection) = (Directory::default(), connection());
        let (_, start) = directory.all();
        for _ in 0..CHANGES / 2 {
            directory.add("a", &member(), &connection);
            directory.remove("a", CloseCode::Normal);
        }
        let mut seen = start;
        let first = directory.changes(&mut seen).expect("all are kept");
        assert_eq!((first.len(), seen), (BATCH, Seen(BATCH as u64)));
        directory.add("a", &member(), &connection);
        assert!(directory.changes(&mut { start }).is_none());
        assert!(directory.changes(&mut seen).is_some());
        assert_eq!(directory.0.lock().changes.len(), CHANGES);
    }

    #[test]
    fn disconnected_socket_says_who_did_it() {
        let (directory, connection) = (Directory::default(), connection());
        directory.add("a", &member(), &connection);
        let (_, mut seen) = directory.all();
        let entry = directory.get("a").expect("there");
        assert_eq!(entry.transport(), "polling");
        entry.disconnect();
        directory.remove("a", CloseCode::Normal);
        let changes = directory.changes(&mut seen).expect("kept");
        assert_eq!(told(&changes), ["a left: server namespace disconnect"]);
    }
}
