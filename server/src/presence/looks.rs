//! Looks: which senders show names that look alike, so that one who comes later can be told apart.
//!
//! Somebody who is signed in is told apart from all guests already: only others who are signed in count for them.

use std::collections::HashMap;

use papo_protocol::{SenderId, UserName};

use crate::chat::{
    Member,
    name::{Look, looks},
};

/// The senders that show a name of each look, each with the number of its names.
///
/// One sender for most looks: a name that another sender shows gets a mark, and then looks different.
#[derive(Debug, Default)]
pub(super) struct Looks(HashMap<Look, Vec<Shown>>);

/// A sender that shows names of one look.
#[derive(Debug)]
struct Shown {
    sender: SenderId,
    names: u32,
    is_verified: bool,
}

impl Looks {
    /// Adds a member's name.
    pub(super) fn add(&mut self, member: &Member) {
        for look in looks(&member.user) {
            // Most looks have one sender: a vector that grows by itself begins with four places.
            let new = || Vec::with_capacity(1);
            let senders = self.0.entry(look).or_insert_with(new);
            match senders
                .iter_mut()
                .find(|shown| shown.sender == member.sender)
            {
                Some(shown) => shown.names += 1,
                None => senders.push(Shown {
                    sender: member.sender.clone(),
                    names: 1,
                    is_verified: member.verified,
                }),
            }
        }
    }

    /// Removes a name that was added.
    pub(super) fn remove(&mut self, member: &Member) {
        for look in looks(&member.user) {
            let Some(senders) = self.0.get_mut(&look) else {
                continue;
            };
            let of_sender = |shown: &&mut Shown| shown.sender == member.sender;
            if let Some(shown) = senders.iter_mut().find(of_sender) {
                shown.names -= 1;
            }
            senders.retain(|shown| shown.names > 0);
            if senders.is_empty() {
                self.0.remove(&look);
            }
        }
    }

    /// Whether another sender shows a name that looks like this one.
    pub(super) fn is_of_another(&self, user: &UserName, sender: &SenderId) -> bool {
        self.shows(user, |shown| shown.sender != *sender)
    }

    /// Whether another sender who is signed in shows a name that looks like this one.
    pub(super) fn is_of_another_signed_in(&self, user: &UserName, sender: &SenderId) -> bool {
        self.shows(user, |shown| shown.is_verified && shown.sender != *sender)
    }

    fn shows(&self, user: &UserName, is_meant: impl Fn(&Shown) -> bool) -> bool {
        looks(user).iter().any(|look| {
            let senders = self.0.get(look);
            senders.is_some_and(|senders| senders.iter().any(&is_meant))
        })
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(sender: &str, user: &str) -> Member {
        Member {
            sender: SenderId::from_trusted(sender),
            user: user.parse().expect("valid"),
            verified: false,
        }
    }

    #[test]
    fn look_belongs_to_its_sender_until_the_last_name_is_removed() {
        let (mut all, ana, eva) = (Looks::default(), member("a", "Ana"), member("e", "Аnа"));
        all.add(&ana);
        all.add(&ana);
        assert!(all.is_of_another(&eva.user, &eva.sender));
        assert!(!all.is_of_another(&ana.user, &ana.sender));
        all.remove(&ana);
        assert!(all.is_of_another(&eva.user, &eva.sender));
        all.remove(&ana);
        assert!(!all.is_of_another(&eva.user, &eva.sender));
        assert!(all.is_empty());
    }
}
