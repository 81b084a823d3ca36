//! All rooms that the operator knows, of all its scopes: which of them has a host, or a path of one.
//!
//! - A room has the hosts, with their paths, that its status names. Of several rooms that ask for one that none has, or that several have, the oldest
//!   gets it (`creationTimestamp`, then namespace and name). So it cannot be taken from a room that has it, not even by an older room.
//! - Rooms of one namespace share a host if each has a path of its own. Rooms of two namespaces never do: all paths of a host are one origin in a
//!   browser, and the image that one tenant chooses could read what the page of another tenant's room keeps there.
//! - Rooms are found by their hosts, so that a reconcile does not go through all rooms.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future;
use kube::{
    Resource, ResourceExt,
    runtime::{
        reflector::{ObjectRef, Store, store, store::Writer},
        watcher::Event,
    },
};
use tokio::time::timeout;

use crate::{
    config::Defaults,
    crd::StoredRoom,
    validate::{HostPath, Room, addresses_of, validate},
};

/// How long a room with a host waits for the first list of all rooms.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The rooms of all scopes. Clones share them.
#[derive(Clone, Default)]
pub struct Rooms(Arc<Mutex<Vec<Scope>>>);

/// The rooms of one scope.
#[derive(Clone)]
struct Scope {
    store: Store<StoredRoom>,
    hosts: Arc<Mutex<Hosts>>,
}

impl Scope {
    /// The rooms that ask for a host, or have it.
    fn with_host(&self, host: &str) -> Vec<Arc<StoredRoom>> {
        let hosts = lock(&self.hosts);
        let rooms = hosts.by_host.get(host).into_iter().flatten();
        rooms.filter_map(|room| self.store.get(room)).collect()
    }
}

type RoomRef = ObjectRef<StoredRoom>;

/// Which rooms ask for which host, or have it.
#[derive(Default)]
struct Hosts {
    by_host: HashMap<String, HashSet<RoomRef>>,
    of_room: HashMap<RoomRef, HashSet<String>>,
    /// The rooms of a list that has not ended.
    listed: HashSet<RoomRef>,
}

impl Hosts {
    fn note(&mut self, event: &Event<StoredRoom>, defaults: &Defaults) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(stored) => {
                self.listed.insert(ObjectRef::from_obj(stored));
                self.set(stored, defaults);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let gone: Vec<RoomRef> = self.of_room.keys().cloned().collect();
                for room in gone.iter().filter(|room| !listed.contains(room)) {
                    self.remove(room);
                }
            }
            Event::Apply(stored) => self.set(stored, defaults),
            Event::Delete(stored) => self.remove(&ObjectRef::from_obj(stored)),
        }
    }

    fn set(&mut self, stored: &StoredRoom, defaults: &Defaults) {
        let room = ObjectRef::from_obj(stored);
        self.remove(&room);
        let asked = addresses_of(&stored.room, defaults).into_iter();
        let given = given(stored).filter_map(HostPath::parse);
        let hosts: HashSet<String> = asked.chain(given).map(|it| it.host).collect();
        if hosts.is_empty() {
            return;
        }
        for host in &hosts {
            let rooms = self.by_host.entry(host.clone()).or_default();
            rooms.insert(room.clone());
        }
        self.of_room.insert(room, hosts);
    }

    fn remove(&mut self, room: &RoomRef) {
        for host in self.of_room.remove(room).iter().flatten() {
            if let Some(rooms) = self.by_host.get_mut(host) {
                rooms.remove(room);
                if rooms.is_empty() {
                    self.by_host.remove(host);
                }
            }
        }
    }
}

/// What fills the rooms of one scope.
pub struct ScopeWriter {
    /// The rooms.
    pub writer: Writer<StoredRoom>,
    /// Their hosts.
    pub index: HostIndex,
}

/// What fills the hosts of the rooms of one scope.
pub struct HostIndex {
    hosts: Arc<Mutex<Hosts>>,
    defaults: Defaults,
}

impl HostIndex {
    /// Follows an event of the watch, before the writer does.
    pub fn note(&self, event: &Event<StoredRoom>) {
        lock(&self.hosts).note(event, &self.defaults);
    }
}

/// Nothing panics while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A host, or a path of one, that another room has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConflict {
    /// What the room asks for.
    pub asked: HostPath,
    /// The room that has it, or another path of the host, as NAMESPACE/NAME.
    pub room: String,
    /// Whether that room is of the same namespace, so that another path would be free.
    pub may_share: bool,
}

impl fmt::Display for HostConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked,
            room,
            may_share,
        } = self;
        let host = &asked.host;
        let hosts = "spec.ingress.host or spec.gateway.hostnames";
        if *may_share {
            write!(
                f,
                "{asked} belongs to the ChatRoom {room}; set another path of the host {host} in spec.ingress.path and spec.gateway.path, or another \
                 host in {hosts}"
            )
        } else {
            write!(
                f,
                "the host {host} belongs to the ChatRoom {room} of another namespace; set another one in {hosts}"
            )
        }
    }
}

/// How good a room's claim to a host and path is: the least one is the best.
type Claim = (bool, Option<k8s_openapi::jiff::Timestamp>, String);

impl Rooms {
    /// Adds the rooms of a scope, which the writer fills.
    pub fn add_scope(&self, defaults: &Defaults) -> ScopeWriter {
        let (store, writer) = store();
        let hosts = Arc::default();
        lock(&self.0).push(Scope {
            store,
            hosts: Arc::clone(&hosts),
        });
        let index = HostIndex {
            hosts,
            defaults: defaults.clone(),
        };
        ScopeWriter { writer, index }
    }

    /// The room without the routes whose hosts belong to another room.
    pub(crate) async fn without_foreign_hosts(
        &self,
        mut room: Room,
        stored: &StoredRoom,
        defaults: &Defaults,
    ) -> Room {
        if room.addresses().is_empty() {
            return room;
        }
        let scopes = lock(&self.0).clone();
        let listed = scopes.iter().map(|scope| scope.store.wait_until_ready());
        // What cannot be listed keeps no room from being served.
        let _ = timeout(LIST_TIMEOUT, future::join_all(listed)).await;
        let conflict = |host: &str| {
            let others = scopes.iter().flat_map(|scope| scope.with_host(host));
            let others: Vec<_> = others.collect();
            conflict(&room.address(host), stored, &others, defaults)
        };
        let by_ingress = room.ingress.as_ref().and_then(|it| conflict(&it.host));
        let by_route = room
            .route
            .as_ref()
            .and_then(|it| it.hostnames.iter().find_map(|host| conflict(host)));
        room.ingress = room.ingress.filter(|_| by_ingress.is_none());
        room.route = room.route.filter(|_| by_route.is_none());
        room.host_conflict = by_ingress.or(by_route);
        room
    }
}

/// Why the room cannot have what it asks for.
fn conflict(
    asked: &HostPath,
    stored: &StoredRoom,
    others: &[Arc<StoredRoom>],
    defaults: &Defaults,
) -> Option<HostConflict> {
    let rivals = others
        .iter()
        .filter(|other| other.meta().uid != stored.meta().uid);
    let better = rivals.filter_map(|other| {
        let may_share = other.namespace() == stored.namespace();
        let is_excluded = |theirs: &HostPath| {
            theirs.host == asked.host && (!may_share || theirs.path == asked.path)
        };
        let theirs = best_claim(other, is_excluded, defaults)?;
        (theirs < claim(is_excluded, stored)).then_some((theirs, may_share))
    });
    better.min().map(|((.., room), may_share)| HostConflict {
        asked: asked.clone(),
        room,
        may_share,
    })
}

/// The best claim of a room to what this selects. It keeps what it has while its spec asks for it or cannot be read; what it does not have it must be
/// able to get.
fn best_claim(
    stored: &StoredRoom,
    selects: impl Fn(&HostPath) -> bool,
    defaults: &Defaults,
) -> Option<Claim> {
    let mut asked = addresses_of(&stored.room, defaults);
    if !stored.unreadable.is_empty() {
        asked.extend(given(stored).filter_map(HostPath::parse));
    }
    if !asked.iter().any(&selects) {
        return None;
    }
    let claim = claim(selects, stored);
    let (is_new, ..) = claim;
    (!is_new || can_get_more(stored, defaults)).then_some(claim)
}

fn can_get_more(stored: &StoredRoom, defaults: &Defaults) -> bool {
    let is_readable = stored.unreadable.is_empty();
    let is_deleted = stored.meta().deletion_timestamp.is_some();
    is_readable && !is_deleted && validate(&stored.room, defaults).is_ok()
}

/// What the status of a room names.
fn given(stored: &StoredRoom) -> impl Iterator<Item = &str> {
    let status = stored.room.status.iter();
    status.flat_map(|status| status.hosts.iter().map(String::as_str))
}

/// The claim of a room to what this selects: a host with one of its paths, or with any. Whoever has one path of a host has the host, as far as
/// rooms of other namespaces are concerned.
fn claim(selects: impl Fn(&HostPath) -> bool, stored: &StoredRoom) -> Claim {
    let has = given(stored)
        .filter_map(HostPath::parse)
        .any(|given| selects(&given));
    let name = format!(
        "{}/{}",
        stored.namespace().unwrap_or_default(),
        stored.name_any()
    );
    let created = stored.creation_timestamp().map(|time| time.0);
    (!has, created, name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn room(name: &str, spec: &serde_json::Value) -> StoredRoom {
        serde_json::from_value(json!({
            "apiVersion": "papo.chat/v1alpha1", "kind": "ChatRoom",
            "metadata": {"name": name, "namespace": "team"}, "spec": spec,
        }))
        .expect("always")
    }

    fn at(name: &str, host: &str) -> StoredRoom {
        room(name, &json!({"ingress": {"host": host}}))
    }

    fn names(hosts: &Hosts, host: &str) -> Vec<String> {
        let rooms = hosts.by_host.get(host).into_iter().flatten();
        let mut names: Vec<String> = rooms.map(|room| room.name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn rooms_are_found_by_their_latest_hosts() {
        let (mut hosts, defaults) = (Hosts::default(), Defaults::default());
        let mut note = |event: &Event<StoredRoom>| hosts.note(event, &defaults);
        note(&Event::Init);
        note(&Event::InitApply(at("a", "x.example")));
        note(&Event::InitApply(at("b", "x.example")));
        note(&Event::InitApply(room("c", &json!({}))));
        note(&Event::InitDone);
        note(&Event::Apply(at("b", "y.example")));
        note(&Event::Apply(at("d", "y.example")));
        note(&Event::Delete(at("d", "y.example")));
        assert_eq!(names(&hosts, "x.example"), ["a"]);
        assert_eq!(names(&hosts, "y.example"), ["b"]);
    }

    #[test]
    fn rooms_missing_from_a_new_list_are_forgotten() {
        let (mut hosts, defaults) = (Hosts::default(), Defaults::default());
        for listed in [&["a", "b"][..], &["b"]] {
            hosts.note(&Event::Init, &defaults);
            for name in listed {
                let event = Event::InitApply(at(name, "x.example"));
                hosts.note(&event, &defaults);
            }
            hosts.note(&Event::InitDone, &defaults);
            assert_eq!(names(&hosts, "x.example"), *listed);
        }
        assert_eq!(hosts.of_room.len(), 1);
    }
}
