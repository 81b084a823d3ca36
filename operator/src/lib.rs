//! Papo's operator: makes each `ChatRoom` resource a room on RabbitMQ and in the cluster, and keeps it so.

pub mod config;
pub mod crd;
