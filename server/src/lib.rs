//! papo-server: serves one chat room.

pub mod broker;
