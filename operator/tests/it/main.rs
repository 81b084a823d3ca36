//! The operator against an API server and a broker of its own making: no cluster is needed.

mod access;
mod allowed_hosts;
mod answers;
mod bounds;
mod crash;
mod credentials;
mod deletion;
mod fake;
mod fields;
mod golden;
mod hosts;
mod inventory;
mod leftovers;
mod process;
mod rabbitmq;
mod reconcile;
mod replicas;
mod serving;
mod unreadable;
