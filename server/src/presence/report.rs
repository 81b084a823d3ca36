//! What servers tell each other about their members: the body of a presence signal.

use papo_protocol::UserName;
use serde::{Deserialize, Serialize};

use crate::chat::Member;

/// Most members that a repeated report names with their senders.
pub(super) const MOST_MEMBERS: usize = 1_000;

/// A server's report of its own members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The server.
    pub server: String,
    /// How many connections it has.
    pub count: u64,
    /// Some of their names.
    pub members: Vec<UserName>,
    /// Who joined since the last report.
    #[serde(default)]
    pub joined: Vec<UserName>,
    /// Who left since the last report.
    #[serde(default)]
    pub left: Vec<UserName>,
    /// Which of those who left were signed in: a guest who was there before somebody signed in can have the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_verified: Vec<UserName>,
    /// The senders of the names: in a repeated report those of the members, in others those of who joined. Empty from a server of
    /// a version that does not send it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<Member>,
    /// How far the server has read the log, a [`papo_protocol::Position`]: only in a repeated report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}
