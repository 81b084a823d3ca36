//! The effects on the broker: reads what is there, and writes only what differs.
//!
//! The exchange is the lock: it carries the identity of the room that owns it and everything named after it. It is made first and removed
//! last, so that a pass that was cut short is resumed by the next one, and so that a room never touches what is another's.
//!
//! A log is made first and its epoch written down afterwards (into the Deployment and the status). A pass that was cut short between the
//! two, or that works from an old status, finds the log by its name and takes it up: there are never two. The same search takes up the
//! log that an earlier room of the same name left behind with `deletionPolicy: Retain`.

use papo_protocol::{Epoch, topology as names};
use rabbitmq_http_client::{
    api::HttpClientError,
    commons::{PaginationParams, PolicyTarget},
    password_hashing::base64_encoded_salted_password_hash_sha256,
    requests::{ExchangeParams, Permissions, PolicyParams, QueueParams, UserParams},
    responses::{ExchangeInfo, QueueInfo},
};
use serde_json::{Map, Value, json};

use crate::{
    broker::Broker,
    desired::{LogPolicy, Topology, User},
    error::BrokerError,
};

/// Argument of the exchange: the identity of the room that owns it. RabbitMQ keeps it without minding it.
const OWNER: &str = "papo-owner";
/// Queues listed at once when a log is searched for.
const PAGE: usize = 500;
/// Over the policies people make without thinking of priorities.
const POLICY_PRIORITY: i32 = 10;

/// How the log came to be the one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is the one we knew.
    Known(Epoch),
    /// It was there under an epoch that we did not know, and is continued.
    Adopted(Epoch),
    /// There was none.
    Created(Epoch),
}

impl Found {
    pub(crate) fn epoch(&self) -> &Epoch {
        match self {
            Self::Known(epoch) | Self::Adopted(epoch) | Self::Created(epoch) => epoch,
        }
    }
}

/// Makes the broker's side of a room as it should be, and tells which log it has.
pub(crate) async fn apply(
    broker: &Broker,
    topology: &Topology,
    password: &str,
    recorded: Option<&Epoch>,
) -> Result<Found, BrokerError> {
    let Topology {
        room: _,
        exchange,
        owner,
        policy,
        user,
    } = topology;
    keep_exchange(broker, exchange, owner).await?;
    keep_policy(broker, policy).await?;
    let found = keep_log(broker, topology, recorded).await?;
    keep_binding(broker, exchange, &names::log(&topology.room, found.epoch())).await?;
    keep_user(broker, user, &password_hash(owner, password)).await?;
    keep_permissions(broker, user).await?;
    Ok(found)
}

/// Removes the broker's side of a room: everything, or everything but the log and its bounds. `had_log`: the room has ever had a log.
pub(crate) async fn remove(
    broker: &Broker,
    topology: &Topology,
    keep_log: bool,
    had_log: bool,
) -> Result<(), BrokerError> {
    let Topology {
        room: _,
        exchange,
        owner,
        policy,
        user,
    } = topology;
    let (api, vhost) = (&broker.api, broker.vhost());
    let ours = match exchange_info(broker, exchange).await? {
        Some(info) if owner_of(&info) != Some(owner) => return Ok(()),
        Some(_) => true,
        None => had_log,
    };
    if ours {
        if !keep_log {
            for log in logs(broker, topology).await? {
                broker.metrics.broker_write();
                done(
                    "remove the log",
                    api.delete_stream(vhost, &log.name, true).await,
                )?;
            }
            broker.metrics.broker_write();
            done(
                "remove the policy",
                api.delete_policy(vhost, &policy.name, true).await,
            )?;
        }
        broker.metrics.broker_write();
        done("remove the user", api.delete_user(&user.name, true).await)?;
    }
    broker.metrics.broker_write();
    done(
        "remove the exchange",
        api.delete_exchange(vhost, exchange, true).await,
    )
}

async fn keep_exchange(broker: &Broker, name: &str, owner: &str) -> Result<(), BrokerError> {
    if let Some(there) = exchange_info(broker, name).await? {
        return check_exchange(&there, owner);
    }
    let arguments = Map::from_iter([(OWNER.to_owned(), json!(owner))]);
    broker.metrics.broker_write();
    let params = ExchangeParams::durable_topic(name, Some(arguments));
    done(
        "create the exchange",
        broker.api.declare_exchange(broker.vhost(), &params).await,
    )?;
    // RabbitMQ says yes as well if somebody else was faster: whose it is only reading tells.
    match exchange_info(broker, name).await? {
        Some(there) => check_exchange(&there, owner),
        None => Err(BrokerError::Conflict(format!(
            "exchange {name} was removed while it was made"
        ))),
    }
}

pub(super) fn check_exchange(there: &ExchangeInfo, owner: &str) -> Result<(), BrokerError> {
    let ExchangeInfo {
        name,
        exchange_type,
        durable,
        auto_delete,
        ..
    } = there;
    let conflict = |problem: String| {
        Err(BrokerError::Conflict(format!(
            "exchange {name} exists already {problem}; it is left as it is: delete it if nobody needs it any more"
        )))
    };
    if exchange_type != "topic" || !durable || *auto_delete {
        return conflict(format!(
            "with other properties (type {exchange_type}, durable {durable}, auto-delete {auto_delete})"
        ));
    }
    match owner_of(there) {
        Some(other) if other == owner => Ok(()),
        Some(other) => conflict(format!("and belongs to another ChatRoom (uid {other})")),
        None => conflict(format!(
            "and was not made by Papo's operator (it has no argument {OWNER})"
        )),
    }
}

fn owner_of(exchange: &ExchangeInfo) -> Option<&str> {
    exchange.arguments.0.get(OWNER).and_then(Value::as_str)
}

async fn exchange_info(broker: &Broker, name: &str) -> Result<Option<ExchangeInfo>, BrokerError> {
    broker.metrics.broker_read();
    found(
        "read the exchange",
        broker.api.get_exchange_info(broker.vhost(), name).await,
    )
}

async fn keep_policy(broker: &Broker, policy: &LogPolicy) -> Result<(), BrokerError> {
    let mut definition = Map::from_iter([(
        "max-length-bytes".to_owned(),
        json!(policy.retention.max_bytes),
    )]);
    if let Some(age) = &policy.retention.max_age {
        definition.insert("max-age".to_owned(), json!(age));
    }
    broker.metrics.broker_read();
    let there = found(
        "read the policy",
        broker.api.get_policy(broker.vhost(), &policy.name).await,
    )?;
    let same = there.is_some_and(|there| {
        there.pattern == policy.pattern
            && there.definition.0.as_ref() == Some(&definition)
            && there.apply_to == PolicyTarget::Streams
    });
    if same {
        return Ok(());
    }
    let params = PolicyParams {
        vhost: broker.vhost(),
        name: &policy.name,
        pattern: &policy.pattern,
        apply_to: PolicyTarget::Streams,
        priority: POLICY_PRIORITY,
        definition,
    };
    broker.metrics.broker_write();
    done("set the policy", broker.api.declare_policy(&params).await)
}

async fn keep_log(
    broker: &Broker,
    topology: &Topology,
    recorded: Option<&Epoch>,
) -> Result<Found, BrokerError> {
    if let Some(epoch) = recorded {
        let name = names::log(&topology.room, epoch);
        broker.metrics.broker_read();
        let there = found(
            "read the log",
            broker.api.get_queue_info(broker.vhost(), &name).await,
        )?;
        if let Some(there) = there {
            return check_log(&there).map(|()| Found::Known(epoch.clone()));
        }
    }
    // The fullest first: should there be several, the empty ones were never used.
    let mut logs = logs(broker, topology).await?;
    logs.sort_by(|a, b| {
        b.message_count
            .cmp(&a.message_count)
            .then_with(|| a.name.cmp(&b.name))
    });
    if let Some(log) = logs.first() {
        check_log(log)?;
        let epoch = epoch_of(topology, &log.name)
            .ok_or_else(|| BrokerError::Conflict(format!("queue {} has no epoch", log.name)))?;
        return Ok(Found::Adopted(epoch));
    }
    let epoch = Epoch::from_bits(rand::random());
    let arguments = Map::from_iter([(
        "x-stream-max-segment-size-bytes".to_owned(),
        json!(names::SEGMENT_BYTES),
    )]);
    let name = names::log(&topology.room, &epoch);
    broker.metrics.broker_write();
    let params = QueueParams::new_stream(&name, Some(arguments));
    done(
        "create the log",
        broker.api.declare_queue(broker.vhost(), &params).await,
    )?;
    Ok(Found::Created(epoch))
}

pub(super) fn check_log(there: &QueueInfo) -> Result<(), BrokerError> {
    if there.queue_type == "stream" {
        return Ok(());
    }
    Err(BrokerError::Conflict(format!(
        "queue {} exists already and is no stream but {}; it is left as it is",
        there.name, there.queue_type
    )))
}

/// All streams that are named like a log of the room.
async fn logs(broker: &Broker, topology: &Topology) -> Result<Vec<QueueInfo>, BrokerError> {
    let mut logs = Vec::new();
    for page in 1.. {
        broker.metrics.broker_read();
        let listed = broker
            .api
            .list_queues_in_paged(broker.vhost(), &PaginationParams::new(page, PAGE))
            .await;
        // RabbitMQ says "page out of range" rather than that the page is empty.
        let queues = match listed {
            Err(error) if page > 1 && error.is_client_error() => break,
            listed => done("list the queues", listed)?,
        };
        let last = queues.len() < PAGE;
        logs.extend(
            queues
                .into_iter()
                .filter(|queue| epoch_of(topology, &queue.name).is_some()),
        );
        if last {
            break;
        }
    }
    Ok(logs)
}

pub(super) fn epoch_of(topology: &Topology, queue: &str) -> Option<Epoch> {
    let epoch = queue
        .strip_prefix(&topology.exchange)?
        .strip_prefix(".log.")?
        .parse()
        .ok()?;
    (names::log(&topology.room, &epoch) == queue).then_some(epoch)
}

async fn keep_binding(broker: &Broker, exchange: &str, log: &str) -> Result<(), BrokerError> {
    broker.metrics.broker_read();
    let bindings = done(
        "read the bindings",
        broker.api.list_queue_bindings(broker.vhost(), log).await,
    )?;
    if bindings
        .iter()
        .any(|binding| binding.source == exchange && binding.routing_key == names::MESSAGE_KEY)
    {
        return Ok(());
    }
    broker.metrics.broker_write();
    done(
        "bind the log",
        broker
            .api
            .bind_queue(
                broker.vhost(),
                log,
                exchange,
                Some(names::MESSAGE_KEY),
                None,
            )
            .await,
    )
}

/// RabbitMQ salts with four bytes. Ours are those of the room, so that the hash can be compared; a random password needs no better salt.
fn password_hash(owner: &str, password: &str) -> String {
    let salt: Vec<u8> = owner.bytes().chain(*b"papo").take(4).collect();
    base64_encoded_salted_password_hash_sha256(&salt, password)
}

async fn keep_user(broker: &Broker, user: &User, hash: &str) -> Result<(), BrokerError> {
    broker.metrics.broker_read();
    let there = found("read the user", broker.api.get_user(&user.name).await)?;
    // Newer brokers may keep the hash to themselves: then a user that is there is taken for right.
    if there.is_some_and(|there| {
        there
            .password_hash
            .is_none_or(|there| there.as_str() == hash)
    }) {
        return Ok(());
    }
    broker.metrics.broker_write();
    done(
        "set the user",
        broker
            .api
            .create_user(&UserParams::new(&user.name, hash, ""))
            .await,
    )
}

async fn keep_permissions(broker: &Broker, user: &User) -> Result<(), BrokerError> {
    let User {
        name,
        configure,
        write,
        read,
    } = user;
    broker.metrics.broker_read();
    let there = found(
        "read the permissions",
        broker.api.get_permissions(broker.vhost(), name).await,
    )?;
    if there.is_some_and(|there| {
        (&there.configure, &there.write, &there.read) == (configure, write, read)
    }) {
        return Ok(());
    }
    broker.metrics.broker_write();
    let params = Permissions {
        user: name,
        vhost: broker.vhost(),
        configure,
        read,
        write,
    };
    done(
        "set the permissions",
        broker.api.declare_permissions(&params).await,
    )
}

/// The result, or nothing if there is no such thing.
fn found<T>(attempt: &str, result: Result<T, HttpClientError>) -> Result<Option<T>, BrokerError> {
    match result {
        Err(error) if error.is_not_found() => Ok(None),
        result => done(attempt, result).map(Some),
    }
}

fn done<T>(attempt: &str, result: Result<T, HttpClientError>) -> Result<T, BrokerError> {
    result.map_err(|error| {
        let attempt = format!("cannot {attempt}");
        match &error {
            HttpClientError::RequestError { error, .. } => BrokerError::Unreachable {
                attempt,
                message: chain(error),
            },
            other => BrokerError::Refused {
                attempt,
                message: other.user_message(),
            },
        }
    })
}

/// An error and what it comes from: the client's own text alone says only that sending failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
