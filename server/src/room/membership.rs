//! Membership: entering the room, and leaving it by dropping the guard.

use std::sync::Arc;

use papo_protocol::event::Code;

use super::{InitialHistory, Requester, Room};
use crate::{
    broker::Broker,
    chat::{Member, Rejection, Resume},
    fanout::{Fanout, MemberId, Sink},
    log::ReaderGuard,
    presence::{NameTaken, Presence},
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
        let member = self.presence.join(id, member);
        let membership = Membership {
            id,
            member: member.map_err(name_taken)?,
            fanout: self.fanout.clone(),
            presence: self.presence.clone(),
            _reader: reader,
        };
        Ok((history, membership))
    }
}

fn name_taken(NameTaken: NameTaken) -> Rejection {
    Rejection::new(
        Code::NameTaken,
        "somebody who is signed in has a name that looks like this one; choose another name",
    )
}

impl<S: Sink> Membership<S> {
    /// The member as others see it.
    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Gives the member another name. Returns it as others see it.
    pub(crate) fn rename(&self, member: Member) -> Option<Arc<Member>> {
        self.presence.rename(self.id, member)
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
