//! The broker user of the room's servers.

use rabbitmq_http_client::{
    password_hashing::{base64_encoded_salted_password_hash_sha256, salted_password_hash_sha256},
    requests::{self, UserParams},
};
use serde_json::json;

use super::{
    answers,
    request::{done, optional},
};
use crate::{broker::Broker, desired::User, error::BrokerError};

/// The password as RabbitMQ stores it. RabbitMQ's salt has four bytes. Ours are the first of the owner, so that hashes can be compared; a random
/// password needs no better salt.
pub(super) fn password_hash(owner: &str, password: &str) -> String {
    let salt: Vec<u8> = owner.bytes().chain(*b"papo").take(4).collect();
    base64_encoded_salted_password_hash_sha256(&salt, password)
}

/// Tag of the user that names its owner, after this prefix: the `metadata.uid` of a room. RabbitMQ stores it and does not interpret it.
///
/// Users are the same in all virtual hosts, other than exchanges: a room of the same name in another cluster, with a virtual host of its own,
/// would have the same user.
const OWNER_TAG: &str = "papo-owner:";
/// Tag of the user that names its password, after this prefix: a digest of owner and password. RabbitMQ 4.4 does not show the password's hash, so
/// without this tag an attempt that was cut before the user got a new password would leave the old one.
const PASSWORD_TAG: &str = "papo-password:";
/// Bytes of the digest: as many as the password has random ones.
const DIGEST_BYTES: usize = 16;

pub(super) fn owner_tag(owner: &str) -> String {
    format!("{OWNER_TAG}{owner}")
}

/// The first bytes of SHA-256 over owner and password. Whoever sees tags cannot find the password by trying: it has 128 random bits.
fn password_tag(owner: &str, password: &str) -> String {
    // The crate's salted hash is the salt, and SHA-256 over salt and password.
    let salted = salted_password_hash_sha256(owner.as_bytes(), password);
    let first = salted.iter().skip(owner.len()).take(DIGEST_BYTES);
    let digest = first.fold(0_u128, |digest, byte| (digest << 8) | u128::from(*byte));
    format!("{PASSWORD_TAG}{digest:032x}")
}

/// The tags of the user of a room with this `metadata.uid`, in their order.
pub(super) fn user_tags(owner: &str, password: &str) -> [String; 2] {
    [owner_tag(owner), password_tag(owner, password)]
}

/// The user, if it exists.
async fn user_info(broker: &Broker, name: &str) -> Result<Option<answers::User>, BrokerError> {
    broker.metrics.broker_read();
    let path = ["users", name];
    optional("read the user", broker.management.get(&path, &[]).await)
}

/// Makes the user have this password and these limits, unless it belongs to another room. `owner` is the `metadata.uid` of the room. Returns
/// whether the user was created.
pub(super) async fn ensure_user(
    broker: &Broker,
    user: &User,
    owner: &str,
    password: &str,
) -> Result<bool, BrokerError> {
    let (hash, tags) = (password_hash(owner, password), user_tags(owner, password));
    let existing = user_info(broker, &user.name).await?;
    if let Some(existing) = &existing {
        check_user(existing, &user.name, &tags, &hash)?;
    }
    // Where the hash is shown, it tells also of a password that somebody else has set.
    let is_same = existing.as_ref().is_some_and(|existing| {
        let shown = existing.password_hash.as_ref();
        existing.tags == tags && shown.is_none_or(|shown| *shown == hash)
    });
    if !is_same {
        broker.metrics.broker_write();
        let tags = tags.join(",");
        let params = UserParams::new(&user.name, &hash, &tags);
        let path = ["users", user.name.as_str()];
        done("set the user", broker.management.put(&path, &params).await)?;
    }
    ensure_limits(broker, user, existing.as_ref()).await?;
    Ok(existing.is_none())
}

/// Fails unless the user belongs to the room. A user without an owner belongs to whoever knows its password, if the broker shows the hash.
fn check_user(
    existing: &answers::User,
    name: &str,
    [owner_tag, _]: &[String; 2],
    hash: &str,
) -> Result<(), BrokerError> {
    let conflict = |problem: &str| {
        Err(BrokerError::Conflict(format!(
            "user {name} exists already {problem}; it is left as it is: delete it if nobody needs it any more"
        )))
    };
    let is_tagged = |tag: &String| tag.starts_with(OWNER_TAG);
    if existing.tags.contains(owner_tag) {
        Ok(())
    } else if existing.tags.iter().any(is_tagged) {
        conflict(
            "and belongs to another ChatRoom, as of another cluster that uses this broker with another virtual host",
        )
    } else if existing.password_hash.as_deref() == Some(hash) {
        Ok(())
    } else {
        conflict(&format!(
            "and was not created by Papo's operator (it has no tag {OWNER_TAG})"
        ))
    }
}

/// Makes the user have these limits, so that one who has its password cannot take all connections of the broker.
async fn ensure_limits(
    broker: &Broker,
    user: &User,
    existing: Option<&answers::User>,
) -> Result<(), BrokerError> {
    for (limit, value) in [
        ("max-connections", user.max_connections),
        ("max-channels", user.max_channels),
    ] {
        if existing.and_then(|existing| existing.limit(limit)) == Some(value.into()) {
            continue;
        }
        broker.metrics.broker_write();
        let path = ["user-limits", user.name.as_str(), limit];
        let params = json!({"value": value});
        done(
            "set the user's limits",
            broker.management.put(&path, &params).await,
        )?;
    }
    Ok(())
}

/// Whether the user exists and belongs to the room with this `metadata.uid`.
pub(super) async fn is_user_of(
    broker: &Broker,
    name: &str,
    owner: &str,
) -> Result<bool, BrokerError> {
    let existing = user_info(broker, name).await?;
    Ok(existing.is_some_and(|existing| existing.tags.contains(&owner_tag(owner))))
}

/// Removes a user, with its permissions and limits.
pub(super) async fn remove_user(broker: &Broker, name: &str) -> Result<(), BrokerError> {
    broker.metrics.broker_write();
    let path = ["users", name];
    done("remove the user", broker.management.delete(&path).await)
}

/// Makes the user have these permissions.
pub(super) async fn ensure_permissions(broker: &Broker, user: &User) -> Result<(), BrokerError> {
    broker.metrics.broker_read();
    let path = ["permissions", broker.vhost(), &user.name];
    let existing: Option<answers::Permissions> = optional(
        "read the permissions",
        broker.management.get(&path, &[]).await,
    )?;
    let is_same = existing.is_some_and(|existing| {
        (&existing.configure, &existing.write, &existing.read)
            == (&user.configure, &user.write, &user.read)
    });
    if is_same {
        return Ok(());
    }
    set_permissions(broker, user).await
}

/// Gives the user its permissions.
pub(super) async fn set_permissions(broker: &Broker, user: &User) -> Result<(), BrokerError> {
    let User {
        name,
        configure,
        write,
        read,
        max_connections: _,
        max_channels: _,
    } = user;
    let path = ["permissions", broker.vhost(), name];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_name_owner_and_password() {
        let tags = user_tags("u-1", "secret");
        // printf u-1secret | sha256sum
        let digest = "1f9624f2081cea6a270d4fe4549a7257";
        assert_eq!(
            tags,
            [
                "papo-owner:u-1".to_owned(),
                format!("papo-password:{digest}")
            ]
        );
        assert_ne!(user_tags("u-2", "secret")[1], tags[1]);
        assert_ne!(user_tags("u-1", "other")[1], tags[1]);
    }
}
