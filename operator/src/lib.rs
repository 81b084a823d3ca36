//! Papo's operator: makes each `ChatRoom` resource a room on RabbitMQ and in the cluster, and keeps it so.
//!
//! One pass over a room is a story in four steps ([`controller::reconcile`]):
//!
//! 1. [`validate`](mod@validate): from the raw spec to a [`validate::Room`] with every default filled in. Pure.
//! 2. [`desired`]: from the room to the objects it should have. Pure, and cannot fail.
//! 3. [`apply`](mod@apply): the only effects. First the broker, then the cluster, because the servers are told which log they have.
//! 4. [`status`](mod@status): from what came back to what users read. Pure.
//!
//! What happens at the end of a room is in [`finalize`], and at the end of the operator in [`mod@remove_finalizers`].

pub mod answer;
pub mod apply;
mod backoff;
pub mod broker;
pub mod cache;
pub mod config;
pub mod controller;
pub mod crd;
pub mod desired;
pub mod error;
pub mod finalize;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod lease;
pub mod metrics;
pub mod names;
pub mod progress;
pub mod remove_finalizers;
mod report;
mod run;
pub mod status;
pub mod validate;

pub use run::run;
