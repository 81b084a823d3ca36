//! Looks: which senders show names that look alike, so that one who comes later can be told apart.

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
pub(super) struct Looks(HashMap<Look, Vec<(SenderId, u32)>>);

impl Looks {
    /// Adds a member's name.
    pub(super) fn add(&mut self, Member { sender, user }: &Member) {
        for look in looks(user) {
            // Most looks have one sender: a vector that grows by itself begins with four places.
            let new = || Vec::with_capacity(1);
            let senders = self.0.entry(look).or_insert_with(new);
            match senders.iter_mut().find(|(known, _)| known == sender) {
                Some((_, names)) => *names += 1,
                None => senders.push((sender.clone(), 1)),
            }
        }
    }

    /// Removes a name that was added.
    pub(super) fn remove(&mut self, Member { sender, user }: &Member) {
        for look in looks(user) {
            let Some(senders) = self.0.get_mut(&look) else {
                continue;
            };
            if let Some((_, names)) = senders.iter_mut().find(|(known, _)| known == sender) {
                *names -= 1;
            }
            senders.retain(|(_, names)| *names > 0);
            if senders.is_empty() {
                self.0.remove(&look);
            }
        }
    }

    /// Whether another sender shows a name that looks like this one.
    pub(super) fn is_of_another(&self, user: &UserName, sender: &SenderId) -> bool {
        looks(user).iter().any(|look| {
            let senders = self.0.get(look);
            senders.is_some_and(|senders| senders.iter().any(|(known, _)| known != sender))
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
