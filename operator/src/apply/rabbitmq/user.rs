//! The broker user of the room's servers.

use rabbitmq_http_client::{
    password_hashing::base64_encoded_salted_password_hash_sha256,
    requests::{self, UserParams},
};

use super::{
    answers,
    request::{done, optional},
};
use crate::{broker::Broker, desired::User, error::BrokerError};

/// The password as RabbitMQ stores it. RabbitMQ's salt has four bytes. Ours are the first of the owner, so that hashes can be compared; a random
/// password needs no better salt.
fn password_hash(owner: &str, password: &str) -> String {
    let salt: Vec<u8> = owner.bytes().chain(*b"papo").take(4).collect();
    base64_encoded_salted_password_hash_sha256(&salt, password)
}

/// The password of the room's servers.
pub(crate) struct Password {
    pub(crate) text: String,
    /// It was drawn just now, so the user cannot have it yet.
    pub(crate) is_new: bool,
}

/// Makes the user have this password. `owner` is the `metadata.uid` of the room.
pub(super) async fn ensure_user(
    broker: &Broker,
    user: &User,
    owner: &str,
    password: &Password,
) -> Result<(), BrokerError> {
    let hash = password_hash(owner, &password.text);
    broker.metrics.broker_read();
    let path = ["users", user.name.as_str()];
    let existing: Option<answers::User> =
        optional("read the user", broker.management.get(&path, &[]).await)?;
    // RabbitMQ 4.4 does not show the hash: then a user that exists has the password, unless the password is new.
    let has_password = existing.is_some_and(|existing| match existing.password_hash {
        Some(existing) => existing == hash,
        None => !password.is_new,
    });
    if has_password {
        return Ok(());
    }
    broker.metrics.broker_write();
    let params = UserParams::new(&user.name, &hash, "");
    done("set the user", broker.management.put(&path, &params).await)
}

/// Makes the user have these permissions.
pub(super) async fn ensure_permissions(broker: &Broker, user: &User) -> Result<(), BrokerError> {
    let User {
        name,
        configure,
        write,
        read,
    } = user;
    broker.metrics.broker_read();
    let path = ["permissions", broker.vhost(), name];
    let existing: Option<answers::Permissions> = optional(
        "read the permissions",
        broker.management.get(&path, &[]).await,
    )?;
    if existing.is_some_and(|existing| {
        (&existing.configure, &existing.write, &existing.read) == (configure, write, read)
    }) {
        return Ok(());
    }
    broker.metrics.broker_write();
    let params = requests::Permissions {
        user: name,
        vhost: broker.vhost(),
        configure,
        read,
        write,
    };
    done(
        "set the permissions",
        broker.management.put(&path, &params).await,
    )
}
