//! How servers that declare their own topology agree on the epoch of the log, with nothing but RabbitMQ between them.
//!
//! A small stream holds who drew which epoch in place of which. Read from its beginning it is the same for everybody: the
//! first entry counts, and a later one only if it replaces the epoch that counts. So of several servers that draw at the
//! same time one wins, and all see which (compare-and-set).
//!
//! A log is created before its epoch is entered: an epoch that counts and has no stream was lost, not slow to appear.

use futures::StreamExt;
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::AMQPValue,
};
use papo_protocol::{Epoch, topology};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::topology::{Topology, close, in_time};
use crate::broker::ReadError;

/// Somebody drew an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Draw {
    pub epoch: Epoch,
    pub replaces: Option<Epoch>,
}

/// The epoch that counts; `None` when none was ever drawn.
pub(super) async fn current(topology: &Topology) -> Result<Option<Epoch>, ReadError> {
    Ok(counting(&draws(topology).await?))
}

/// The epoch that counts, whose stream there is: draws a new one if it was lost, or there was none.
pub(super) async fn agree(topology: &Topology) -> Result<Epoch, ReadError> {
    let register = topology::epochs(&topology.room);
    if !topology.has_stream(&register).await? {
        topology.declare_stream(&register, &[]).await?;
    }
    let current = current(topology).await?;
    if let Some(epoch) = &current
        && topology
            .has_stream(&topology::log(&topology.room, epoch))
            .await?
    {
        return Ok(epoch.clone());
    }
    let drawn = Draw {
        epoch: Epoch::from_bits(rand::random()),
        replaces: current,
    };
    info!(epoch = %drawn.epoch, replaces = ?drawn.replaces, "drawing a new log");
    topology.create_log(&drawn.epoch).await?;
    enter(topology, &drawn).await?;
    let agreed = self::current(topology).await?;
    if agreed.as_ref() != Some(&drawn.epoch) {
        topology.delete_log(&drawn.epoch).await?;
    }
    agreed
        .ok_or_else(|| ReadError::Unavailable(format!("{register} does not show what was entered")))
}

pub(super) fn counting(draws: &[Draw]) -> Option<Epoch> {
    draws.iter().fold(None, |current, draw| {
        if draw.replaces == current {
            Some(draw.epoch.clone())
        } else {
            current
        }
    })
}

async fn draws(topology: &Topology) -> Result<Vec<Draw>, ReadError> {
    let register = topology::epochs(&topology.room);
    let bounds = topology.bounds_of(&register).await?;
    let count = usize::try_from(bounds.end - bounds.start).unwrap_or(usize::MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    let channel = topology.channel().await?;
    let most = u16::try_from(count).unwrap_or(u16::MAX);
    let consumer = topology
        .consume(
            &channel,
            &register,
            AMQPValue::LongString("first".into()),
            most,
        )
        .await?;
    let entries = in_time(consumer.take(count).collect::<Vec<_>>()).await?;
    close(&channel).await;
    Ok(entries
        .into_iter()
        .filter_map(|entry| serde_json::from_slice(&entry.ok()?.data).ok())
        .collect())
}

async fn enter(topology: &Topology, draw: &Draw) -> Result<(), ReadError> {
    let register = topology::epochs(&topology.room);
    let body = serde_json::to_vec(draw).expect("epochs always encode");
    let channel = topology.channel().await?;
    let explain = |error: lapin::Error| topology.explain(&error, &register);
    in_time(channel.confirm_select(ConfirmSelectOptions::default()))
        .await?
        .map_err(explain)?;
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
    let confirm = in_time(published).await?.map_err(explain)?;
    in_time(confirm).await?.map_err(explain)?;
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
    fn of_those_who_draw_at_once_the_first_entry_counts() {
        let draws = [draw("a", None), draw("b", None)];
        assert_eq!(counting(&draws).map(String::from), Some("a".to_owned()));
    }

    #[test]
    fn a_lost_log_is_replaced_once() {
        let draws = [
            draw("a", None),
            draw("b", Some("a")),
            draw("c", Some("a")),
            draw("d", Some("b")),
        ];
        assert_eq!(counting(&draws).map(String::from), Some("d".to_owned()));
    }

    #[test]
    fn nothing_drawn_nothing_counts() {
        assert_eq!(counting(&[]), None);
    }
}
