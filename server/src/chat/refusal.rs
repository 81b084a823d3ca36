//! A refusal: a code for programs, and a sentence for people that names the limit it met.

use papo_protocol::event::Code;
use serde::Serialize;

/// Why the server will not do what a client asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What programs look at.
    #[serde(serialize_with = "code_as_text")]
    pub code: Code,
    /// What people read: the cause and, where there is one, the cure.
    pub message: String,
}

impl Refusal {
    /// A refusal with its sentence.
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
