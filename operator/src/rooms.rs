//! All rooms that the operator knows, of all its scopes: which of them has a host.
//!
//! A room has the hosts that its status names. Of several rooms that ask for a host that none has, or that several have, the oldest gets it
//! (`creationTimestamp`, then namespace and name). So a host cannot be taken from a room that has it, not even by an older room.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future;
use kube::{
    Resource, ResourceExt,
    runtime::reflector::{Store, store, store::Writer},
};
use tokio::time::timeout;

use crate::{
    config::Defaults,
    crd::StoredRoom,
    validate::{Room, hosts_of, validate},
};

/// How long a room with a host waits for the first list of all rooms.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);

/// The rooms of all scopes. Clones share them.
#[derive(Clone, Default)]
pub struct Rooms(Arc<Mutex<Vec<Store<StoredRoom>>>>);

/// A host that another room has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConflict {
    /// The host.
    pub host: String,
    /// The room that has it, as NAMESPACE/NAME.
    pub room: String,
}

impl fmt::Display for HostConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, room } = self;
        write!(
            f,
            "the host {host} belongs to the ChatRoom {room}; set another one in spec.ingress.host or spec.gateway.hostnames"
        )
    }
}

/// How good a room's claim to a host is: the least one is the best.
type Claim = (bool, Option<k8s_openapi::jiff::Timestamp>, String);

impl Rooms {
    /// Adds the rooms of a scope, which the writer fills.
    pub fn add_scope(&self) -> Writer<StoredRoom> {
        let (reader, writer) = store();
        self.scopes().push(reader);
        writer
    }

    /// The room without the routes whose hosts belong to another room.
    pub(crate) async fn without_foreign_hosts(
        &self,
        mut room: Room,
        stored: &StoredRoom,
        defaults: &Defaults,
    ) -> Room {
        if room.hosts().is_empty() {
            return room;
        }
        let scopes = self.scopes().clone();
        let listed = future::join_all(scopes.iter().map(Store::wait_until_ready));
        // What cannot be listed keeps no room from being served.
        let _ = timeout(LIST_TIMEOUT, listed).await;
        let others: Vec<_> = scopes.iter().flat_map(Store::state).collect();
        let conflict = |host: &str| conflict(host, stored, &others, defaults);
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

    fn scopes(&self) -> MutexGuard<'_, Vec<Store<StoredRoom>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn conflict(
    host: &str,
    stored: &StoredRoom,
    others: &[Arc<StoredRoom>],
    defaults: &Defaults,
) -> Option<HostConflict> {
    let ours = claim(host, stored);
    others
        .iter()
        .filter(|other| other.meta().uid != stored.meta().uid)
        .filter(|other| asks_for(host, other, defaults))
        .map(|other| claim(host, other))
        .filter(|theirs| *theirs < ours)
        .min()
        .map(|(.., room)| HostConflict {
            host: host.to_owned(),
            room,
        })
}

/// Whether a room asks for the host. One that has it keeps it while its spec asks for it or cannot be read; one that does not have it must be able
/// to get it.
fn asks_for(host: &str, stored: &StoredRoom, defaults: &Defaults) -> bool {
    let is_readable = stored.unreadable.is_empty();
    let is_asked_for = hosts_of(&stored.room, defaults).contains(host);
    if has(host, stored) {
        return is_asked_for || !is_readable;
    }
    let is_deleted = stored.meta().deletion_timestamp.is_some();
    is_asked_for && is_readable && !is_deleted && validate(&stored.room, defaults).is_ok()
}

fn has(host: &str, stored: &StoredRoom) -> bool {
    let status = stored.room.status.as_ref();
    status.is_some_and(|status| status.hosts.iter().any(|given| given == host))
}

fn claim(host: &str, stored: &StoredRoom) -> Claim {
    let name = format!(
        "{}/{}",
        stored.namespace().unwrap_or_default(),
        stored.name_any()
    );
    let created = stored.creation_timestamp().map(|time| time.0);
    (!has(host, stored), created, name)
}
