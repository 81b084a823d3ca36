//! The rules of the chat, without sockets, brokers or clocks: what a client may say, and why it is refused.

mod draft;
mod hello;
mod rate;
mod refusal;

pub use draft::Draft;
pub use hello::{Hello, Member, Resume};
pub use rate::Rate;
pub use refusal::Refusal;
