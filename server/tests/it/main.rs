//! Tests of the server from outside: the broker port, the protocol on the wire, the process.

mod access;
mod admin_ui;
mod bounds;
mod cluster;
mod conformance;
mod fixture;
mod handshake;
mod hostile;
mod issuer;
mod origins;
mod past;
mod polling;
mod process;
mod proxy;
mod rabbitmq;
mod say;
mod traces;
mod wire;
