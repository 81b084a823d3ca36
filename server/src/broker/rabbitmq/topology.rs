//! The topology of a room on the broker: found, or created when the server was started with `--declare`.

use std::sync::Arc;

use papo_protocol::{Epoch, Launch, topology};

use super::{
    connection::{ConnectError, Link},
    epochs,
    objects::{Objects, close},
};
use crate::broker::ReadError;

/// The exchange and the log of one room.
#[derive(Debug)]
pub(super) struct Topology {
    pub(super) objects: Arc<Objects>,
    epoch: Option<Epoch>,
    declare: bool,
    retention_bytes: u64,
}

impl Topology {
    pub(super) fn new(link: Link, launch: &Launch) -> Self {
        Self {
            objects: Arc::new(Objects::new(link, launch.room.clone())),
            epoch: launch.epoch.clone(),
            declare: launch.declare,
            retention_bytes: launch.retention_bytes,
        }
    }

    /// Whether this server creates the room's objects.
    pub(super) fn declares(&self) -> bool {
        self.declare
    }

    /// Whether the log of this epoch, if it exists, is the current one: not if the server was given another one.
    pub(super) fn can_be_current(&self, epoch: &Epoch) -> bool {
        self.epoch.as_ref().is_none_or(|given| given == epoch)
    }

    /// Checks that everything is there. With `--declare` it is afterwards.
    pub(super) async fn check(&self) -> Result<(), ConnectError> {
        close(&self.objects.link().channel().await?.0).await;
        let epoch = self.current_epoch().await?;
        self.objects.check_exchange().await?;
        let log = topology::log(self.objects.room(), &epoch);
        Ok(self.objects.find_stream(&log).await?)
    }

    /// The epoch of the room's log: the one that the server was given, or the one that the room's servers have agreed on.
    pub(super) async fn current_epoch(&self) -> Result<Epoch, ReadError> {
        if let Some(epoch) = &self.epoch {
            return Ok(epoch.clone());
        }
        if !self.declare {
            return epochs::current(&self.objects)
                .await?
                .ok_or_else(|| self.objects.missing(&topology::epochs(self.objects.room())));
        }
        self.objects.declare_exchange().await?;
        let epoch = epochs::agree(&self.objects, self.retention_bytes).await?;
        self.objects.bind_log(&epoch).await?;
        Ok(epoch)
    }

    /// Declares again what was deleted, if this server declares (`--declare`) and not the operator.
    pub(super) async fn restore(&self) -> Result<(), ReadError> {
        if self.declare {
            self.current_epoch().await?;
        }
        Ok(())
    }
}
