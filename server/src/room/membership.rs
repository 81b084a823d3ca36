//! Membership: entering the room, and leaving it by dropping the guard.

use std::sync::Arc;

use super::{InitialHistory, Requester, Room};
use crate::{
    broker::Broker,
    chat::{Member, Rejection, Resume},
    fanout::{Fanout, MemberId, Sink},
    log::ReaderGuard,
    presence::Presence,
};

/// A member's place in the room: it is in the roster, and the log is read for it. Dropping it is leaving, whatever the member
/// has got until then.
#[derive(Debug)]
pub(crate) struct Membership<S: Sink> {
    id: MemberId,
    member: Arc<Member>,
    fanout: Fanout<S>,
    presence: Presence,
    _reader: ReaderGuard,
}

impl<B: Broker, S: Sink> Room<B, S> {
    /// Makes a client a member, and returns what it gets first. New messages follow after [`Membership::deliver_to`].
    pub(crate) async fn enter(
        &self,
        member: Member,
        resume: Option<&Resume>,
        requester: Requester,
    ) -> Result<(InitialHistory, Membership<S>), Rejection> {
        let reader = self.reader_guards.acquire();
        let history = self.initial_history(resume, requester).await?;
        let id = MemberId::next();
        let membership = Membership {
            id,
            member: self.presence.join(id, member),
            fanout: self.fanout.clone(),
            presence: self.presence.clone(),
            _reader: reader,
        };
        Ok((history, membership))
    }
}

impl<S: Sink> Membership<S> {
    /// The member as others see it.
    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Delivers every message from `cursor` on to the member, which has been sent everything before it.
    pub(crate) fn deliver_to(&self, sink: S, cursor: u64) {
        self.fanout.join(self.id, sink, cursor);
    }
}

impl<S: Sink> Drop for Membership<S> {
    fn drop(&mut self) {
        self.fanout.leave(self.id);
        self.presence.leave(self.id);
    }
}
