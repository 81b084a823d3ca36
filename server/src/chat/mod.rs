//! The rules of the chat, without sockets, brokers or clocks: what a client may send, and why a request is rejected.

mod connect_auth;
mod message_request;
mod rate;
mod rates;
mod rejection;

pub use connect_auth::{ConnectAuth, Member, Resume};
pub use message_request::MessageRequest;
pub use rate::Rate;
pub use rates::Rates;
pub use rejection::Rejection;
