//! papo-server: serves one chat room.
//!
//! A room is a log ([`broker`]); its members are cursors on it ([`room`]), each at the end of a Socket.IO connection
//! ([`socket`]) that obeys the rules of the chat ([`chat`]). The page is [`web`]'s.

mod admin;
mod backoff;
pub mod broker;
pub mod chat;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod metrics;
mod parts;
pub mod room;
mod serve;
mod socket;
mod web;

use anyhow::Context;
use broker::{local::Local, rabbitmq::RabbitMq};
use papo_protocol::Launch;

/// Serves until told to stop by SIGTERM or SIGINT, or until a part of the server ends by itself.
pub async fn run(launch: Launch) -> anyhow::Result<()> {
    if launch.broker.is_some() {
        let broker = RabbitMq::connect(&launch).await.context("cannot begin")?;
        serve::serve(broker, launch).await
    } else {
        serve::serve(Local::new(launch.retention_bytes), launch).await
    }
}
