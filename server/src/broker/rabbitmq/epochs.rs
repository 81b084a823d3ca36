//! How servers that declare their own objects agree on the epoch of the log, with nothing but RabbitMQ between them.
//!
//! A small stream, the register, holds drawn epochs, each with the epoch that it replaces. All servers read the same entries
//! from its beginning: the first entry is valid, and a later one only if it replaces the valid epoch. So when several servers draw
//! at the same time one of them wins, and all see which (compare-and-set).
//!
//! A log is created before its epoch is entered: a valid epoch without a stream was lost. But a node of a cluster may not know the stream yet,
//! or not be able to say so. So a log counts as lost only if it was missing several times, on several nodes, and once more after the broker
//! has created another one on the same node: RabbitMQ answers then only when this node knows everything that was declared before.

use futures::{StreamExt, TryStreamExt};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::AMQPValue,
};
use papo_protocol::{
    Epoch,
    topology::{self, LogSettings},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::info;

use super::{
    connection::METHOD_TIMEOUT,
    objects::{Objects, close},
};
use crate::broker::ReadError;

/// An entry of the register: a drawn epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Draw {
    pub epoch: Epoch,
    pub replaces: Option<Epoch>,
}

/// The valid epoch; `None` when none was ever drawn.
pub(super) async fn current(objects: &Objects) -> Result<Option<Epoch>, ReadError> {
    Ok(valid(&draws(objects).await?))
}

/// The valid epoch, whose log exists: draws a new one if the log was lost, or there was none.
pub(super) async fn agree(objects: &Objects, retention_bytes: u64) -> Result<Epoch, ReadError> {
    let register = topology::epochs(objects.room());
    if !objects.has_stream(&register).await? {
        objects
            .declare_stream(&topology::epochs_stream(objects.room()))
            .await?;
    }
    let current = current(objects).await?;
    if let Some(epoch) = &current
        && !objects
            .is_deleted(&topology::log(objects.room(), epoch))
            .await?
    {
        return Ok(epoch.clone());
    }
    let drawn = Draw {
        epoch: Epoch::from_bits(rand::random()),
        replaces: current,
    };
    info!(epoch = %drawn.epoch, replaces = ?drawn.replaces, "creating a new log");
    let settings = LogSettings {
        retention_bytes,
        max_age: None,
        replicas: None,
    };
    let log = topology::log_stream(objects.room(), &drawn.epoch, settings);
    objects.declare_stream(&log).await?;
    if let Some(epoch) = &drawn.replaces
        && objects
            .has_stream(&topology::log(objects.room(), epoch))
            .await?
    {
        info!(%epoch, "the log is there: this node of the broker did not know it yet");
        objects.delete_log(&drawn.epoch).await?;
        return Ok(epoch.clone());
    }
    write(objects, &drawn).await?;
    let entries = draws_with(objects, &drawn).await?;
    let agreed = valid(&entries);
    if agreed.as_ref() != Some(&drawn.epoch) {
        objects.delete_log(&drawn.epoch).await?;
    }
    agreed
        .ok_or_else(|| ReadError::Unavailable(format!("the stream {register} has no valid epoch")))
}

/// The entries of the register, once a confirmed one is among them: a busy broker may take longer to deliver it than a read of
/// the register waits.
async fn draws_with(objects: &Objects, confirmed: &Draw) -> Result<Vec<Draw>, ReadError> {
    let deadline = Instant::now() + METHOD_TIMEOUT;
    loop {
        let draws = draws(objects).await?;
        if draws.contains(confirmed) {
            return Ok(draws);
        }
        if Instant::now() > deadline {
            let register = topology::epochs(objects.room());
            return Err(ReadError::Unavailable(format!(
                "the stream {register} does not contain the epoch that was written to it"
            )));
        }
    }
}

pub(super) fn valid(draws: &[Draw]) -> Option<Epoch> {
    draws.iter().fold(None, |current, draw| {
        if draw.replaces == current {
            Some(draw.epoch.clone())
        } else {
            current
        }
    })
}

async fn draws(objects: &Objects) -> Result<Vec<Draw>, ReadError> {
    let register = topology::epochs(objects.room());
    let bounds = objects.bounds_of(&register).await?;
    let count = usize::try_from(bounds.end - bounds.start).unwrap_or(usize::MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    let channel = objects.channel().await?;
    let most = u16::try_from(count).unwrap_or(u16::MAX);
    let consumer = objects
        .consume(
            &channel,
            &register,
            AMQPValue::LongString("first".into()),
            most,
        )
        .await?;
    let entries = consumer.take(count).try_collect::<Vec<_>>();
    let entries = objects.call(&channel, &register, entries).await?;
    close(&channel).await;
    Ok(entries
        .into_iter()
        .filter_map(|entry| serde_json::from_slice(&entry.data).ok())
        .collect())
}

async fn write(objects: &Objects, draw: &Draw) -> Result<(), ReadError> {
    let register = topology::epochs(objects.room());
    let body = serde_json::to_vec(draw).expect("epochs always encode");
    let channel = objects.channel().await?;
    let selected = channel.confirm_select(ConfirmSelectOptions::default());
    objects.call(&channel, &register, selected).await?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let published = channel.basic_publish(
        "".into(),
        register.as_str().into(),
        options,
        &body,
        BasicProperties::default(),
    );
    let confirm = objects.call(&channel, &register, published).await?;
    objects.call(&channel, &register, confirm).await?;
    close(&channel).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(epoch: &str, replaces: Option<&str>) -> Draw {
        let parse = |text: &str| text.parse().expect("valid");
        Draw {
            epoch: parse(epoch),
            replaces: replaces.map(parse),
        }
    }

    #[test]
    fn first_of_simultaneous_draws_is_valid() {
        let draws = [draw("a", None), draw("b", None)];
        assert_eq!(valid(&draws).map(String::from), Some("a".to_owned()));
    }

    #[test]
    fn lost_log_is_replaced_once() {
        let draws = [
            draw("a", None),
            draw("b", Some("a")),
            draw("c", Some("a")),
            draw("d", Some("b")),
        ];
        assert_eq!(valid(&draws).map(String::from), Some("d".to_owned()));
    }

    #[test]
    fn empty_register_has_no_valid_epoch() {
        assert_eq!(valid(&[]), None);
    }
}
