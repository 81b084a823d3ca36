//! Standing: who a member is, and what it may do by the rules in force.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use papo_protocol::SenderId;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use crate::{
    access::{AccessControl, Due, Expiry, May, NoEntry, Person},
    chat::Member,
};

/// Who a member is, and what it may do.
pub(super) struct Standing {
    /// The number of changes when the rules were asked last, and what the member may do by them: while there are no others, an event costs no
    /// more than to compare numbers.
    answer: AtomicU64,
    state: Mutex<State>,
}

struct State {
    member: Arc<Member>,
    token: Option<Box<Token>>,
    /// What the client was told that it may do.
    told: May,
    is_put_out: bool,
}

/// The token of somebody who is signed in.
pub(super) struct Token {
    pub(super) person: Person,
    pub(super) expiry: Expiry,
}

/// What a change of rules or keys does to a member.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Review {
    /// Nothing that it must be told.
    Same,
    /// It may do more or less: the new `you`.
    Told(Json),
    /// It may no longer be here.
    PutOut(NoEntry),
}

impl Standing {
    /// A member that was let in after this number of changes.
    pub(super) fn new(member: Arc<Member>, token: Option<Token>, may: May, number: u64) -> Self {
        Self {
            answer: AtomicU64::new(answer(number, may)),
            state: Mutex::new(State {
                member,
                token: token.map(Box::new),
                told: may,
                is_put_out: false,
            }),
        }
    }

    /// The member as others see it.
    pub(super) fn member(&self) -> Arc<Member> {
        self.state.lock().member.clone()
    }

    /// Its public identity, which stays.
    pub(super) fn sender(&self) -> SenderId {
        self.state.lock().member.sender.clone()
    }

    pub(super) fn is_signed_in(&self) -> bool {
        self.state.lock().token.is_some()
    }

    /// `you`, as the client gets it.
    pub(super) fn you(&self) -> Json {
        let state = self.state.lock();
        you(&state.member, state.told)
    }

    /// What the member may do now.
    pub(super) fn may(&self, access: &AccessControl) -> May {
        let known = self.answer.load(Ordering::Relaxed);
        if known >> May::BITS == access.number() {
            return May::from_bits(known);
        }
        let may = self.ask(&self.state.lock(), access);
        may.unwrap_or(May::NOTHING)
    }

    fn ask(&self, state: &State, access: &AccessControl) -> Result<May, NoEntry> {
        // Before the rules: those of a later change are asked once more.
        let number = access.number();
        let rules = access.rules();
        let sender = &state.member.sender;
        let may = match &state.token {
            Some(token) => rules.person(sender, &token.person),
            None => rules.guest(sender),
        };
        let known = answer(number, may.unwrap_or(May::NOTHING));
        self.answer.store(known, Ordering::Relaxed);
        may
    }

    /// Asks the rules in force again.
    pub(super) fn review(&self, access: &AccessControl) -> Review {
        let mut state = self.state.lock();
        match self.ask(&state, access) {
            Ok(may) if may == state.told => Review::Same,
            Ok(may) => {
                state.told = may;
                Review::Told(you(&state.member, may))
            }
            Err(no_entry) => Review::PutOut(no_entry),
        }
    }

    /// Takes a new token of the same person, who may have another name.
    pub(super) fn renew(&self, member: Arc<Member>, token: Token) {
        let mut state = self.state.lock();
        state.member = member;
        state.token = Some(Box::new(token));
        // Its groups may be others.
        self.answer.store(u64::MAX, Ordering::Relaxed);
    }

    /// What is due for the token, and when the next is.
    pub(super) fn take_due(&self, now: u64) -> (Due, Option<u64>) {
        let mut state = self.state.lock();
        let Some(token) = &mut state.token else {
            return (Due::Nothing, None);
        };
        let due = token.expiry.take_due(now);
        (due, Some(token.expiry.next()))
    }

    /// When the token expires, in milliseconds since the Unix epoch.
    pub(super) fn expires(&self) -> Option<u64> {
        let state = self.state.lock();
        state.token.as_ref().map(|token| token.person.expires)
    }

    /// Whether the member is put out by this call; false if it was before.
    pub(super) fn put_out(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().is_put_out, true)
    }

    /// Calls with the person who is signed in, if it is one.
    pub(super) fn with_person<T>(&self, act: impl FnOnce(&Member, Option<&Person>) -> T) -> T {
        let state = self.state.lock();
        let person = state.token.as_ref().map(|token| &token.person);
        act(&state.member, person)
    }
}

fn answer(number: u64, may: May) -> u64 {
    number << May::BITS | may.bits()
}

fn you(member: &Member, may: May) -> Json {
    let Member {
        sender,
        user,
        verified,
    } = member;
    json!({ "sender": sender, "user": user, "verified": verified, "may": may })
}
