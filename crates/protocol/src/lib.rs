//! The contract between Papo's programs: the names, records, settings and events that server and operator both use.
//!
//! Everything here is plain data and pure functions. The dependencies have no async runtime, no broker client and no Kubernetes
//! client, so that both programs can use each fact, and tests need neither.

pub mod access;
mod base_path;
mod epoch;
pub mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod launch;
pub mod limits;
mod origin;
pub mod ports;
mod position;
mod proxies;
mod record;
mod room;
pub mod topology;

pub use access::Access;
pub use base_path::{BasePath, InvalidBasePath};
pub use epoch::{Epoch, InvalidEpoch};
pub use host::{HostPattern, InvalidHostPattern, is_host_of};
pub use launch::{BrokerUrl, InvalidBrokerUrl, InvalidBrokerUrls, Launch};
pub use limits::Limits;
pub use origin::{AllowedOrigin, InvalidOrigin, Origin};
pub use position::{InvalidPosition, Position};
pub use proxies::{InvalidTrustedProxies, TrustedProxies};
pub use record::{
    InvalidMessageId, InvalidSenderId, InvalidUserName, MessageId, Record, SenderId, UserName,
};
pub use room::{InvalidRoomName, RoomName};
