//! The rules of the chat, without sockets, brokers or clocks: what a client may send, and why a request is rejected.

mod access_token;
mod connect_auth;
mod identity;
mod message_request;
pub mod name;
mod rate;
mod rejection;

pub use access_token::AccessToken;
pub use connect_auth::{ConnectAuth, Credentials, Member, Resume};
pub(crate) use identity::Identity;
pub use message_request::MessageRequest;
pub use rate::{Rate, RateLimit, Used};
pub use rejection::Rejection;
