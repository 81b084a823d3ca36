//! papo-server: serves one chat room.
//!
//! A room is a log ([`broker`] keeps it, [`log`] reads it); its members are cursors on it ([`fanout`]), each at the end of a
//! Socket.IO connection ([`socket`]) that obeys the rules of the [`chat`]. [`room`] is the facade between them, and
//! [`presence`] knows who is there. [`access`] decides who may enter. The page is [`web`]'s. [`say()`] is a client of it.

mod access;
mod address;
mod admin;
mod admin_ui;
mod backoff;
pub mod broker;
mod causes;
pub mod chat;
mod clock;
mod fanout;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod json;
mod log;
mod metrics;
mod presence;
mod room;
mod say;
mod serve;
mod socket;
mod task_set;
mod web;

use anyhow::Context;
use broker::{local::Local, rabbitmq::RabbitMq};
use papo_protocol::Launch;

pub use say::{Say, say};

/// Serves until asked to stop by SIGTERM or SIGINT, or until a task of the server ends by itself.
pub async fn run(launch: Launch) -> anyhow::Result<()> {
    if launch.broker.is_empty() {
        serve::serve(Local::new(launch.retention_bytes), launch).await
    } else {
        let broker = RabbitMq::connect(&launch).await.context("cannot start")?;
        serve::serve(broker, launch).await
    }
}
