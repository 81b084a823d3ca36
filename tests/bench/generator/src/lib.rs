//! The load generator: many Socket.IO connections in one thread, sending by schedule and accounting for every delivery.
//!
//! It must never be the bottleneck of what it measures, so it reads frames where they lie in one shared buffer, parses no
//! JSON, and reports its own share of its core.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts and durations here are far below 2^52"
)]

pub mod connection;
pub mod frame;
pub mod idle;
pub mod load;
pub mod packet;
pub mod process;
pub mod reconnect;
pub mod refresh;
pub mod steps;
pub mod swarm;
pub mod tally;
pub mod text;
pub mod tokens;
