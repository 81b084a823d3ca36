//! A rejection: a code for programs, and a sentence for people that names the limit that was exceeded.

use papo_protocol::event::Code;
use serde::Serialize;

/// Why the server rejects a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// For programs.
    #[serde(serialize_with = "code_as_text")]
    pub code: Code,
    /// For people: the cause and, where there is one, the cure.
    pub message: String,
}

impl Rejection {
    /// A rejection with its message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn code_as_text<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}
