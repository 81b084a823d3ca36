//! The room's Secret: credentials, which are drawn once, and who may enter, which the servers read again when it changes.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use papo_protocol::limits::SESSION_KEY_LENGTH_MIN;
use serde_json::json;

use super::{drift::digest, target};
use crate::{
    answer,
    broker::Broker,
    clients::Clients,
    desired::{self, ACCESS_KEY, CA_KEY, Credentials, PASSWORD_KEY, SESSION_KEY},
    error::ClusterError,
    known::Known,
    names,
    validate::Room,
};

/// How many times as long a Secret is not read again that nobody reads: that of a room without servers.
const WITHOUT_SERVERS: u32 = 10;
/// Pods that are told of a change: as many as a room may have servers, and those that others replace.
const PODS: u32 = 2_000;
/// Pods that are told at once.
const CONCURRENCY: usize = 8;

/// The Secrets of rooms that were read a short time ago and were as they should be. While a room is made, its children change many times, and each
/// change causes a reconcile: of a thousand new rooms that would be ten thousand requests.
#[derive(Default)]
pub struct RecentSecrets {
    period: Duration,
    rooms: Known<Recent>,
}

struct Recent {
    /// A digest of all that the Secret depends on.
    of: String,
    password: String,
    read: Instant,
}

impl RecentSecrets {
    /// `period` is how long a Secret is not read again; [`WITHOUT_SERVERS`] times that in a room without servers. Nobody reports a change of it, so
    /// this is short: a resync reads it.
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            rooms: Known::default(),
        }
    }

    fn password(&self, uid: &str, of: &str, has_servers: bool) -> Option<String> {
        let rooms = self.rooms.lock();
        let recent = rooms.get(uid).filter(|recent| recent.of == of)?;
        let periods = if has_servers { 1 } else { WITHOUT_SERVERS };
        let is_recent = recent.read.elapsed() < self.period * periods;
        is_recent.then(|| recent.password.clone())
    }

    fn note(&self, room: &Room, of: String, password: &str) {
        let recent = Recent {
            of,
            password: password.to_owned(),
            read: Instant::now(),
        };
        self.rooms.set(&room.uid, recent);
    }

    /// Forgets the Secret of a room that is deleted.
    pub(crate) fn forget(&self, uid: &str) {
        self.rooms.forget(uid);
    }

    /// Forgets all rooms but these.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        self.rooms.retain(uids);
    }
}

/// Makes the room's Secret as it should be, and returns the password in it. A password and a session key are drawn once: when there is none.
///
/// The broker gets the password only after it is stored: a Secret that the API server rejects must not change the password of servers that run.
pub(super) async fn apply(
    clients: &Clients,
    room: &Room,
    broker: &Broker,
) -> Result<String, ClusterError> {
    let ca = broker.settings().ca();
    let of = digest(&format!("{room:?} {ca:?}"));
    let has_servers = room.replicas > 0;
    if let Some(password) = clients.secrets.password(&room.uid, &of, has_servers) {
        return Ok(password);
    }
    let stored = Stored::read(clients, room).await?;
    let credentials = Credentials {
        password: stored.password().unwrap_or_else(random),
        session_key: stored.session_key().unwrap_or_else(random),
        ca: ca.map(str::to_owned),
    };
    stored.write(&credentials).await?;
    clients.secrets.note(room, of, &credentials.password);
    Ok(credentials.password)
}

/// Makes what the room's Secret says of access as it should be, while the broker of the room is not known. Without a Secret there are no servers.
pub(super) async fn apply_access(clients: &Clients, room: &Room) -> Result<(), ClusterError> {
    let stored = Stored::read(clients, room).await?;
    let (Some(password), Some(session_key)) = (stored.password(), stored.session_key()) else {
        return Ok(());
    };
    let credentials = Credentials {
        password,
        session_key,
        ca: stored.text(CA_KEY),
    };
    stored.write(&credentials).await
}

/// 128 random bits, as 32 characters.
fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The room's Secret as it is.
struct Stored<'a> {
    clients: &'a Clients,
    room: &'a Room,
    secret: Option<Secret>,
}

impl<'a> Stored<'a> {
    /// Reads the Secret, which nobody watches. Fails if it belongs to somebody else.
    async fn read(clients: &'a Clients, room: &'a Room) -> Result<Self, ClusterError> {
        let kind = &clients.cache.secrets;
        let target = target(clients, room);
        let api = kind.api(room.name.namespace());
        let secret = target.get(&api, kind).await?;
        if let Some(secret) = &secret {
            target.check_owner(kind, secret)?;
        }
        Ok(Self {
            clients,
            room,
            secret,
        })
    }

    fn text(&self, key: &str) -> Option<String> {
        let bytes = self.secret.as_ref()?.data.as_ref()?.get(key)?;
        let text = String::from_utf8(bytes.0.clone()).ok();
        text.filter(|text| !text.is_empty())
    }

    fn password(&self) -> Option<String> {
        self.text(PASSWORD_KEY)
    }

    /// The servers do not start with a shorter one.
    fn session_key(&self) -> Option<String> {
        self.text(SESSION_KEY)
            .filter(|key| key.len() >= SESSION_KEY_LENGTH_MIN)
    }

    /// Writes the Secret if it differs, and tells the pods if who may enter does.
    async fn write(&self, credentials: &Credentials) -> Result<(), ClusterError> {
        let Self {
            clients,
            room,
            secret,
        } = self;
        let kind = &clients.cache.secrets;
        let desired = desired::secret(room, credentials);
        let api = kind.api(room.name.namespace());
        target(clients, room)
            .write(&api, kind, secret.as_ref(), &desired)
            .await?;
        let is_changed = self.text(ACCESS_KEY).as_ref() != Some(&room.access.json);
        if secret.is_some() && is_changed {
            tell_pods(clients, room).await;
        }
        Ok(())
    }
}

/// Annotates the room's pods, which makes their kubelets read the Secret now. They would do so within 60 to 90 seconds by themselves, so a failure is no
/// error.
async fn tell_pods(clients: &Clients, room: &Room) {
    let api: Api<Pod> = Api::namespaced(clients.client.clone(), room.name.namespace());
    let of_the_room = ListParams::default()
        .labels(&names::selector_text(&room.name))
        .limit(PODS);
    let pods = match api.list_metadata(&of_the_room).await {
        Ok(pods) => pods.items,
        Err(error) => return report_delay(room, &error),
    };
    let digest = digest(&room.access.json);
    let change = json!({"metadata": {"annotations": {(names::ACCESS_ANNOTATION): digest}}});
    let (params, patch) = (PatchParams::default(), Patch::Merge(&change));
    let remaining = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none());
    stream::iter(remaining)
        .for_each_concurrent(CONCURRENCY, async |pod| {
            clients.metrics.cluster_write();
            let patched = api.patch_metadata(&pod.name_any(), &params, &patch).await;
            // A pod may have ended meanwhile.
            if let Err(error) = answer::optional(patched) {
                report_delay(room, &error);
            }
        })
        .await;
}

fn report_delay(room: &Room, error: &kube::Error) {
    let error = answer::message(error);
    tracing::warn!(room = %room.name, error, "cannot annotate the pods; a change of access reaches the servers later, within 90 s");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_read_less_often_in_a_room_without_servers() {
        let period = Duration::from_mins(1);
        let secrets = RecentSecrets::new(period);
        for (periods, has_servers, is_known) in [
            (0, true, true),
            (2, true, false),
            (2, false, true),
            (9, false, true),
            (11, false, false),
        ] {
            let recent = Recent {
                of: "a".to_owned(),
                password: "p".to_owned(),
                read: Instant::now()
                    .checked_sub(period * periods)
                    .expect("a time"),
            };
            secrets.rooms.set("u", recent);
            let known = secrets.password("u", "a", has_servers);
            assert_eq!(known.is_some(), is_known, "{periods} {has_servers}");
            assert_eq!(secrets.password("u", "b", has_servers), None);
        }
    }
}
