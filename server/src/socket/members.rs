//! The members whose rights can change: all of them, if there is an access file. And when something is due for the token of one.
//!
//! One queue for all tokens: a member whose token lasts for an hour costs an entry, not a timer.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::Connection;
use crate::clock::unix_millis;

/// How long the queue sleeps at most: the clock may be set meanwhile, and a machine that sleeps stops its timers.
const NAP: Duration = Duration::from_secs(30);

/// The members of this server. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Members(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Something is due sooner than before.
    sooner: Notify,
}

#[derive(Default)]
struct State {
    next_id: u64,
    by_id: HashMap<u64, Member>,
    /// When something is due, in milliseconds since the Unix epoch, and for whom.
    due: BTreeSet<(u64, u64)>,
}

struct Member {
    connection: Weak<Connection>,
    due: Option<u64>,
}

/// A member among the others, until it is dropped.
pub(super) struct Registration {
    id: u64,
    members: Members,
}

impl Members {
    /// Adds a member.
    pub(super) fn add(&self, connection: &Arc<Connection>) -> Registration {
        let mut state = self.0.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let connection = Arc::downgrade(connection);
        let member = Member {
            connection,
            due: None,
        };
        state.by_id.insert(id, member);
        Registration {
            id,
            members: self.clone(),
        }
    }

    /// The connections of all members.
    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        let state = self.0.state.lock();
        let members = state.by_id.values();
        members
            .filter_map(|member| member.connection.upgrade())
            .collect()
    }

    /// Waits until something is due, and returns for whom.
    pub(super) async fn due(&self) -> Vec<Arc<Connection>> {
        loop {
            let now = unix_millis().unsigned_abs();
            let due = self.0.state.lock().take_due(now);
            if !due.is_empty() {
                return due;
            }
            let next = self.0.state.lock().due.first().copied();
            let Some((at, _)) = next else {
                self.0.sooner.notified().await;
                continue;
            };
            let wait = Duration::from_millis(at.saturating_sub(now)).min(NAP);
            let _ = timeout(wait, self.0.sooner.notified()).await;
        }
    }
}

impl State {
    fn take_due(&mut self, now: u64) -> Vec<Arc<Connection>> {
        let mut due = Vec::new();
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            if let Some(member) = self.by_id.get_mut(&id) {
                member.due = None;
                due.extend(member.connection.upgrade());
            }
        }
        due
    }
}

impl Registration {
    /// Something is due for the member then, and not when it was before.
    pub(super) fn set_due(&self, due: Option<u64>) {
        let Shared { state, sooner } = &*self.members.0;
        let mut state = state.lock();
        let State {
            by_id, due: all, ..
        } = &mut *state;
        let Some(member) = by_id.get_mut(&self.id) else {
            return;
        };
        if let Some(former) = std::mem::replace(&mut member.due, due) {
            all.remove(&(former, self.id));
        }
        if let Some(at) = due {
            all.insert((at, self.id));
            if all.first() == Some(&(at, self.id)) {
                sooner.notify_one();
            }
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.members.0.state.lock();
        let member = state.by_id.remove(&self.id);
        if let Some(at) = member.and_then(|member| member.due) {
            state.due.remove(&(at, self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::directory::testing::connection, *};

    #[test]
    fn members_are_due_once_and_in_order() {
        let members = Members::default();
        let connections = [connection(), connection()];
        let [first, second] = connections.each_ref().map(|one| members.add(one));
        first.set_due(Some(20));
        second.set_due(Some(10));
        first.set_due(Some(30));
        let due = |now| members.0.state.lock().take_due(now).len();
        assert_eq!([5, 10, 10, 29, 30, 40].map(due), [0, 1, 0, 0, 1, 0]);
        first.set_due(Some(50));
        first.set_due(None);
        assert_eq!(due(100), 0);
    }

    #[test]
    fn member_that_left_leaves_nothing_behind() {
        let members = Members::default();
        let one = connection();
        let registration = members.add(&one);
        registration.set_due(Some(10));
        assert_eq!(members.all().len(), 1);
        drop(registration);
        let state = members.0.state.lock();
        assert!(state.by_id.is_empty() && state.due.is_empty());
    }

    #[tokio::test]
    async fn sooner_time_wakes_the_queue() {
        let members = Members::default();
        let one = connection();
        let registration = members.add(&one);
        let now = unix_millis().unsigned_abs();
        registration.set_due(Some(now + 3_600_000));
        let waiting = members.clone();
        let due = tokio::spawn(async move { waiting.due().await.len() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        registration.set_due(Some(now));
        let due = timeout(Duration::from_secs(20), due).await;
        assert_eq!(due.expect("in time").expect("no panic"), 1);
    }
}
