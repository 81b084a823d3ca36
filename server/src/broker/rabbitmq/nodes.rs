//! The nodes of the broker: which ones there are, which of them have just failed, and which are in use.
//!
//! A server that lost a node tries another one. A node that has failed is avoided for [`AVOIDED`] or longer, as long as there are others. The connections
//! share this knowledge, except that a node without a replica of the log is avoided by the reader only.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use papo_protocol::BrokerUrl;
use parking_lot::Mutex;
use rand::seq::SliceRandom;
use tokio::{
    net::lookup_host,
    time::{Instant, timeout},
};

use super::reaction::Reason;
use crate::broker::BrokerConnection;

/// How long a node that has failed is avoided. It doubles with each further failure, up to [`MOST_AVOIDED`].
pub(super) const AVOIDED: Duration = Duration::from_secs(15);
const MOST_AVOIDED: Duration = Duration::from_mins(1);
/// How long resolving a host may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most addresses that are used at once.
const MOST_ADDRESSES: usize = 64;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// It writes records and signals.
    Publisher,
    /// It reads the log and receives signals.
    Reader,
}

impl Purpose {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Reader => "reader",
        }
    }
}

/// An address of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Host and port of the URL.
    name: String,
    pub(super) address: SocketAddr,
    /// The URL's place in the list.
    pub(super) url: usize,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, address) = (&self.name, self.address);
        if *name == address.to_string() {
            write!(f, "{name}")
        } else {
            write!(f, "{name} ({})", address.ip())
        }
    }
}

/// The nodes of the broker, and what is known of them.
#[derive(Debug)]
pub(super) struct Nodes {
    hosts: Vec<(String, u16)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when an address is avoided, by all connections and by readers.
    avoided: HashMap<SocketAddr, Avoided>,
    /// How many addresses there were when the hosts were resolved last.
    addresses: usize,
    connections: BTreeMap<Purpose, Use>,
}

impl State {
    fn was_silent(&self, purpose: Purpose) -> bool {
        let used = self.connections.get(&purpose);
        used.is_some_and(|used| matches!(used.failed, Some(Reason::Stalled | Reason::Timeout)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Avoided {
    by_all: Instant,
    by_readers: Instant,
    /// How often in a row the node has failed.
    failures: u32,
}

impl Avoided {
    fn end(&self) -> Instant {
        self.by_all.max(self.by_readers)
    }
}

/// The use of nodes by one connection.
#[derive(Debug, Default)]
struct Use {
    node: Option<Node>,
    is_connected: bool,
    /// It stores what it gets, as far as is known.
    is_storing: bool,
    failed: Option<Reason>,
    moves: BTreeMap<&'static str, u64>,
}

impl Nodes {
    pub(super) fn new(urls: &[BrokerUrl]) -> Self {
        Self {
            hosts: urls
                .iter()
                .map(|url| (url.host().to_owned(), url.port()))
                .collect(),
            state: Mutex::default(),
        }
    }

    /// All addresses, those to be tried first at the beginning; or why there are none.
    pub(super) async fn resolve(&self, purpose: Purpose) -> Result<Vec<Node>, String> {
        let lookups = self
            .hosts
            .iter()
            .map(|(host, port)| timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), *port))));
        let (mut found, mut failures): (Vec<Node>, Vec<String>) = Default::default();
        for (url, resolved) in join_all(lookups).await.into_iter().enumerate() {
            let (host, port) = &self.hosts[url];
            match resolved {
                Ok(Ok(addresses)) => found.extend(addresses.map(|address| Node {
                    name: name(host, *port),
                    address,
                    url,
                })),
                Ok(Err(error)) => failures.push(format!("cannot resolve {host}: {error}")),
                Err(_) => failures.push(format!(
                    "cannot resolve {host} within {} s",
                    RESOLVE_TIMEOUT.as_secs()
                )),
            }
        }
        if found.is_empty() {
            return Err(failures.join("; "));
        }
        found.shuffle(&mut rand::rng());
        Ok(self.in_order(found, purpose, Instant::now()))
    }

    /// The nodes in the order in which to try them: after a silent one the one that stores what it gets, the others that are not avoided as they come, then those that
    /// are, the one that is avoided the shortest first.
    fn in_order(&self, mut nodes: Vec<Node>, purpose: Purpose, now: Instant) -> Vec<Node> {
        let mut state = self.state.lock();
        let avoided = &state.avoided;
        // Not always: a server that uses two nodes notices that one of them is cut off.
        let was_silent = state.was_silent(purpose);
        let publisher = state.connections.get(&Purpose::Publisher);
        let storing = publisher.filter(|used| was_silent && used.is_connected && used.is_storing);
        let storing = storing.and_then(|used| used.node.clone());
        nodes.sort_by_key(|node| {
            let until = avoided.get(&node.address).map(|avoided| match purpose {
                Purpose::Publisher => avoided.by_all,
                Purpose::Reader => avoided.by_all.max(avoided.by_readers),
            });
            let until = until.filter(|until| *until > now);
            (until, storing.as_ref() != Some(node))
        });
        let mut seen = Vec::new();
        nodes.retain(|node| {
            let is_new = !seen.contains(&node.address) && seen.len() < MOST_ADDRESSES;
            seen.push(node.address);
            is_new
        });
        state.addresses = nodes.len();
        nodes
    }

    /// Whether there is another address to go to.
    pub(super) fn has_others(&self) -> bool {
        self.state.lock().addresses > 1
    }

    /// A node has failed a connection, which leaves it: it is avoided for some time.
    pub(super) fn failed(&self, node: &Node, purpose: Purpose, reason: Reason) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state
            .avoided
            .retain(|_, avoided| avoided.end() + MOST_AVOIDED > now);
        let avoided = state.avoided.entry(node.address).or_insert(Avoided {
            by_all: now,
            by_readers: now,
            failures: 0,
        });
        let time = MOST_AVOIDED.min(AVOIDED * 2_u32.pow(avoided.failures.min(8)));
        avoided.failures += 1;
        if reason.is_of_readers() {
            avoided.by_readers = now + time;
        } else {
            avoided.by_all = now + time;
        }
        let used = state.connections.entry(purpose).or_default();
        // An address of another node that does not answer is no reason to have left this one.
        if used.node.as_ref().is_none_or(|used| used == node) {
            used.failed = Some(reason);
            used.is_connected = false;
        }
    }

    /// Whether the node that the publisher uses stores what it gets. If so, it is among most nodes of its cluster.
    pub(super) fn set_storing(&self, node: &Node, is_storing: bool) {
        let mut state = self.state.lock();
        if is_storing && let Some(avoided) = state.avoided.get_mut(&node.address) {
            (avoided.by_all, avoided.failures) = (Instant::now(), 0);
        }
        let used = state.connections.entry(Purpose::Publisher).or_default();
        used.is_storing = is_storing;
    }

    /// A connection uses a node from now on.
    pub(super) fn connected(&self, node: &Node, purpose: Purpose) {
        let mut state = self.state.lock();
        let used = state.connections.entry(purpose).or_default();
        let before = used.node.replace(node.clone());
        let reason = used.failed.take();
        (used.is_connected, used.is_storing) = (true, false);
        if before.is_some_and(|before| before.address != node.address) {
            let reason = reason.unwrap_or(Reason::Lost);
            *used.moves.entry(reason.as_str()).or_default() += 1;
        }
    }

    /// Whether the last node of this connection was silent, and there was none since.
    pub(super) fn was_silent(&self, purpose: Purpose) -> bool {
        self.state.lock().was_silent(purpose)
    }

    /// Whether the broker has ever accepted this connection.
    pub(super) fn has_connected(&self, purpose: Purpose) -> bool {
        let state = self.state.lock();
        let used = state.connections.get(&purpose);
        used.is_some_and(|used| used.node.is_some())
    }

    /// The connections, as of now.
    pub(super) fn connections(&self) -> Vec<BrokerConnection> {
        let state = self.state.lock();
        let connections = state.connections.iter().map(|(purpose, used)| {
            let node = used.node.as_ref().filter(|_| used.is_connected);
            BrokerConnection {
                purpose: purpose.as_str(),
                node: node.map(ToString::to_string),
                moves: used
                    .moves
                    .iter()
                    .map(|(reason, moves)| (*reason, *moves))
                    .collect(),
            }
        });
        connections.collect()
    }
}

fn name(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(urls: &[&str]) -> Nodes {
        let urls: Vec<BrokerUrl> = urls.iter().map(|url| url.parse().expect("valid")).collect();
        Nodes::new(&urls)
    }

    fn node(number: u8) -> Node {
        let address = SocketAddr::from(([10, 0, 0, number], 5672));
        let name = address.to_string();
        Node {
            name,
            address,
            url: 0,
        }
    }

    fn tried_first(nodes: &Nodes, purpose: Purpose) -> Vec<u8> {
        let all = vec![node(1), node(2), node(3)];
        let order = nodes.in_order(all, purpose, Instant::now());
        let last = |node: &Node| node.address.to_string().as_bytes()[7] - b'0';
        order.iter().map(last).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn failed_node_is_tried_last_for_some_time() {
        let nodes = nodes(&["amqp://10.0.0.1"]);
        nodes.failed(&node(1), Purpose::Publisher, Reason::Lost);
        tokio::time::advance(AVOIDED / 2).await;
        nodes.failed(&node(2), Purpose::Reader, Reason::Unreachable);
        for purpose in [Purpose::Publisher, Purpose::Reader] {
            assert_eq!(tried_first(&nodes, purpose), [3, 1, 2]);
        }
        tokio::time::advance(AVOIDED / 2).await;
        assert_eq!(tried_first(&nodes, Purpose::Reader), [1, 3, 2]);
        tokio::time::advance(AVOIDED).await;
        assert_eq!(tried_first(&nodes, Purpose::Reader), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_fails_again_is_avoided_longer() {
        let nodes = nodes(&["amqp://10.0.0.1"]);
        nodes.failed(&node(1), Purpose::Publisher, Reason::Stalled);
        nodes.failed(&node(1), Purpose::Reader, Reason::Stalled);
        nodes.failed(&node(2), Purpose::Reader, Reason::Timeout);
        assert_eq!(tried_first(&nodes, Purpose::Reader), [3, 2, 1]);
        tokio::time::advance(AVOIDED).await;
        assert_eq!(tried_first(&nodes, Purpose::Reader), [2, 3, 1]);
        tokio::time::advance(AVOIDED).await;
        assert_eq!(tried_first(&nodes, Purpose::Reader), [1, 2, 3]);
        for _ in 0..40 {
            nodes.failed(&node(1), Purpose::Reader, Reason::Lost);
        }
        tokio::time::advance(MOST_AVOIDED).await;
        assert_eq!(tried_first(&nodes, Purpose::Reader), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn node_that_stores_what_it_gets_is_tried_after_a_silent_one() {
        let nodes = nodes(&["amqp://10.0.0.1"]);
        nodes.connected(&node(3), Purpose::Publisher);
        nodes.set_storing(&node(3), true);
        assert_eq!(tried_first(&nodes, Purpose::Reader), [1, 2, 3]);
        nodes.connected(&node(1), Purpose::Reader);
        nodes.failed(&node(1), Purpose::Reader, Reason::Stalled);
        assert_eq!(tried_first(&nodes, Purpose::Reader), [3, 2, 1]);
        nodes.set_storing(&node(3), false);
        assert_eq!(tried_first(&nodes, Purpose::Reader), [2, 3, 1]);
        nodes.set_storing(&node(1), true);
        for number in [3, 2, 1] {
            nodes.failed(&node(number), Purpose::Reader, Reason::Timeout);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(tried_first(&nodes, Purpose::Reader), [3, 2, 1]);
        nodes.set_storing(&node(2), true);
        assert_eq!(tried_first(&nodes, Purpose::Reader), [2, 3, 1]);
        // It stores, and has no replica.
        nodes.failed(&node(2), Purpose::Reader, Reason::NoReplica);
        assert_eq!(tried_first(&nodes, Purpose::Reader), [3, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn publisher_uses_a_node_without_a_replica() {
        let nodes = nodes(&["amqp://10.0.0.1"]);
        nodes.failed(&node(1), Purpose::Reader, Reason::NoReplica);
        assert_eq!(tried_first(&nodes, Purpose::Reader), [2, 3, 1]);
        assert_eq!(tried_first(&nodes, Purpose::Publisher), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn notes_of_nodes_that_are_gone_are_dropped() {
        let nodes = nodes(&["amqp://10.0.0.1"]);
        for number in 0..=255 {
            nodes.failed(&node(number), Purpose::Reader, Reason::Lost);
        }
        tokio::time::advance(AVOIDED + MOST_AVOIDED).await;
        nodes.failed(&node(1), Purpose::Reader, Reason::Lost);
        assert_eq!(nodes.state.lock().avoided.len(), 1);
    }

    #[tokio::test]
    async fn every_address_of_every_url_is_a_node() {
        let nodes = nodes(&[
            "amqp://127.0.0.1:7000",
            "amqp://[::1]:7001",
            "amqp://127.0.0.1:7000",
        ]);
        let mut found = nodes.resolve(Purpose::Reader).await.expect("addresses");
        found.sort_by_key(|node| node.url);
        let names: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&"127.0.0.1:7000".to_owned()), "{names:?}");
        assert!(names.contains(&"[::1]:7001".to_owned()), "{names:?}");
        assert!(nodes.has_others());
    }

    #[tokio::test]
    async fn first_node_is_a_random_one() {
        let nodes = nodes(&["amqp://127.0.0.1:7000", "amqp://127.0.0.1:7001"]);
        let mut first = std::collections::HashSet::new();
        for _ in 0..200 {
            let found = nodes.resolve(Purpose::Reader).await.expect("addresses");
            first.insert(found[0].address.port());
        }
        assert_eq!(first.len(), 2);
    }

    #[tokio::test]
    async fn host_without_an_address_is_named() {
        let nodes = nodes(&["amqp://nowhere.invalid"]);
        let error = nodes
            .resolve(Purpose::Reader)
            .await
            .expect_err("no address");
        assert!(error.contains("nowhere.invalid"), "{error}");
    }

    #[tokio::test]
    async fn only_a_connection_to_another_node_counts_as_a_move() {
        let nodes = nodes(&["amqp://10.0.0.1"]);
        let moves = || nodes.connections().remove(0).moves;
        nodes.connected(&node(1), Purpose::Reader);
        nodes.failed(&node(1), Purpose::Reader, Reason::Lost);
        assert_eq!(nodes.connections()[0].node, None);
        nodes.connected(&node(1), Purpose::Reader);
        assert_eq!(moves(), []);
        nodes.failed(&node(1), Purpose::Reader, Reason::NoReplica);
        nodes.failed(&node(2), Purpose::Reader, Reason::Unreachable);
        nodes.connected(&node(3), Purpose::Reader);
        assert_eq!(moves(), [("no_replica", 1)]);
        let node = nodes.connections().remove(0).node;
        assert_eq!(node.as_deref(), Some("10.0.0.3:5672"));
    }
}
