//! Papo's operator: makes each `ChatRoom` resource a room on RabbitMQ and in the cluster, and keeps it so.
//!
//! The reconcile of a room ([`controller::reconcile`]) has four steps:
//!
//! 1. [`validate`](mod@validate): from the raw spec to a [`validate::Room`] with every default filled in. Pure.
//! 2. [`desired`]: from the room to the objects that it should have. Pure, and cannot fail.
//! 3. [`apply`](mod@apply): the only effects. First the broker, then the cluster, because the servers are started with the log that was found.
//! 4. [`status`](mod@status): from what came back to what users read. Pure.
//!
//! A deleted room is finalized instead: its servers end, and its broker is cleared. One whose broker cannot be cleared is kept in a list
//! ([`leftovers`]) and tried again. [`mod@remove_finalizers`] is for uninstalling the operator.

pub mod answer;
pub mod apply;
pub mod backoff;
pub mod broker;
pub mod cache;
pub mod clients;
pub mod config;
pub mod controller;
mod counted;
pub mod crd;
pub mod desired;
pub mod error;
mod finalizers;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod known;
pub mod lease;
pub mod leftovers;
pub mod metrics;
pub mod names;
pub mod patience;
pub mod progress;
mod quantity;
pub mod remove_finalizers;
pub mod rooms;
mod run;
pub mod status;
pub mod validate;

pub use run::run;
