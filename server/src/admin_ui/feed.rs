//! What one client of the Admin UI is sent: all sockets in pieces, then the changes to them.

use std::{collections::VecDeque, sync::Arc, vec};

use super::packet::Packet;
use crate::socket::{Directory, Entry, Seen};

/// Sockets in the first packet, which replaces what the page has. Each is about 400 bytes. Every further one is a packet of its own, because
/// the page has no other that adds some.
const PIECE: usize = 100;
/// Packets that are made at once.
const BATCH: usize = 64;

/// What one client is sent next. It keeps a bounded number of packets, and a pointer to each socket that is still to be sent.
pub(super) struct Feed {
    directory: Arc<Directory>,
    room: String,
    packets: VecDeque<Packet>,
    /// Sockets that the client has not got yet.
    sockets: vec::IntoIter<Arc<Entry>>,
    /// Changes that it has got; `None` if it gets all sockets next.
    seen: Option<Seen>,
    /// The list that it has got was empty. The page selects a namespace only when a list has a socket in it, and shows no socket before.
    is_empty: bool,
}

impl Feed {
    pub(super) fn new(directory: Arc<Directory>, room: String) -> Self {
        Self {
            directory,
            room,
            packets: VecDeque::new(),
            sockets: Vec::new().into_iter(),
            seen: None,
            is_empty: true,
        }
    }

    /// The next packet, until it [was sent](Self::sent).
    pub(super) fn next(&mut self) -> Option<&Packet> {
        if self.packets.is_empty() {
            self.fill();
        }
        self.packets.front()
    }

    /// The next packet was sent.
    pub(super) fn sent(&mut self) {
        self.packets.pop_front();
    }

    fn fill(&mut self) {
        let Some(seen) = &mut self.seen else {
            return self.begin();
        };
        if self.sockets.len() > 0 {
            let next = self.sockets.by_ref().take(BATCH);
            let packets = next.map(|entry| Packet::socket_connected(&entry, &self.room));
            return self.packets.extend(packets);
        }
        match self.directory.changes(seen) {
            Some(changes) if changes.is_empty() => {}
            Some(changes) if !self.is_empty => {
                let packets = changes
                    .iter()
                    .map(|change| Packet::of_change(change, &self.room));
                self.packets.extend(packets.flatten());
            }
            Some(_) | None => self.begin(),
        }
    }

    /// Sends all sockets, and then the changes since.
    fn begin(&mut self) {
        let (all, seen) = self.directory.all();
        self.sockets = all.into_iter();
        let first: Vec<_> = self.sockets.by_ref().take(PIECE).collect();
        self.is_empty = first.is_empty();
        self.packets
            .push_back(Packet::all_sockets(&first, &self.room));
        self.seen = Some(seen);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::socket::CHANGES;

    /// What the page would show: it takes all packets that there are.
    #[derive(Default)]
    struct Page {
        sockets: BTreeSet<String>,
        events: Vec<&'static str>,
        longest: usize,
    }

    impl Page {
        fn read(&mut self, feed: &mut Feed) {
            while let Some(packet) = feed.next() {
                let arguments = json!(packet.arguments);
                self.longest = self.longest.max(arguments.to_string().len());
                self.events.push(packet.event);
                let id = |socket: &Json| socket["id"].as_str().expect("an id").to_owned();
                match packet.event {
                    "all_sockets" => {
                        let all = arguments[0].as_array().expect("a list");
                        self.sockets = all.iter().map(id).collect();
                    }
                    "socket_connected" => {
                        assert!(self.sockets.insert(id(&arguments[0])), "it is new");
                    }
                    "socket_disconnected" => {
                        let id = arguments[1].as_str().expect("an id");
                        assert!(self.sockets.remove(id), "{id} was there");
                    }
                    _ => {}
                }
                feed.sent();
                assert!(feed.packets.len() <= 3 * BATCH);
            }
        }
    }

    fn feed() -> (Arc<Directory>, Feed) {
        let directory = Arc::new(Directory::default());
        (
            directory.clone(),
            Feed::new(directory, "default/geral".to_owned()),
        )
    }

    #[test]
    fn ten_thousand_sockets_are_sent_in_small_pieces() {
        let (directory, mut feed) = feed();
        (0..10_000).for_each(|n| directory.join(&format!("{n:024}")));
        let mut page = Page::default();
        page.read(&mut feed);
        assert_eq!(page.sockets.len(), 10_000);
        assert!(page.longest < 64 * 1024, "{} bytes", page.longest);
    }

    #[test]
    fn changes_while_the_list_is_sent_come_after_it() {
        let (directory, mut feed) = feed();
        (0..500).for_each(|n| directory.join(&n.to_string()));
        assert_eq!(feed.next().map(|packet| packet.event), Some("all_sockets"));
        directory.leave("0");
        directory.leave("499");
        directory.join("500");
        let mut page = Page::default();
        page.read(&mut feed);
        let expected = (1..=500).filter(|n| *n != 499).map(|n| n.to_string());
        assert_eq!(page.sockets, expected.collect());
    }

    #[test]
    fn each_change_is_sent_once() {
        let (directory, mut feed) = feed();
        let mut page = Page::default();
        directory.join("first");
        page.read(&mut feed);
        directory.join("a");
        page.read(&mut feed);
        directory.leave("a");
        page.read(&mut feed);
        page.read(&mut feed);
        assert_eq!(
            page.events,
            [
                "all_sockets",
                "room_joined",
                "socket_connected",
                "socket_disconnected",
                "room_left",
                "room_left"
            ]
        );
    }

    #[test]
    fn first_member_of_an_empty_room_comes_in_a_list() {
        let (directory, mut feed) = feed();
        let mut page = Page::default();
        page.read(&mut feed);
        page.read(&mut feed);
        directory.join("a");
        page.read(&mut feed);
        assert_eq!(page.events, ["all_sockets", "all_sockets"]);
        assert_eq!(page.sockets, ["a".to_owned()].into());
    }

    #[test]
    fn client_that_fell_behind_begins_again() {
        let (directory, mut feed) = feed();
        let mut page = Page::default();
        directory.join("first");
        page.read(&mut feed);
        directory.leave("first");
        for _ in 0..CHANGES {
            directory.join("a");
            directory.leave("a");
        }
        directory.join("b");
        page.events.clear();
        page.read(&mut feed);
        assert_eq!(page.events, ["all_sockets"]);
        assert_eq!(page.sockets, ["b".to_owned()].into());
    }
}
