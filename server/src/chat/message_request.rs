//! A message request: a `message` event as a client sent it, checked against the limits.

use papo_protocol::{Limits, MessageId, event::Code};
use serde_json::Value;
use uuid::Uuid;

use super::Rejection;

/// A message that may be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRequest {
    /// The client's id for it, or a new one.
    pub id: MessageId,
    /// The text.
    pub text: String,
}

impl MessageRequest {
    /// Reads the arguments of a `message` event: `text`, or `{ text, id? }`.
    pub fn parse(arguments: &[Value], limits: &Limits) -> Result<Self, Rejection> {
        let (text, id) = match arguments.first() {
            Some(Value::String(text)) => (text, None),
            Some(Value::Object(fields)) => match fields.get("text") {
                Some(Value::String(text)) => (text, fields.get("id").filter(|id| !id.is_null())),
                _ => return Err(wrong_shape()),
            },
            _ => return Err(wrong_shape()),
        };
        let id = id.map_or_else(|| Ok(new_id()), parse_id)?;
        Ok(Self {
            id,
            text: checked_text(text, limits)?,
        })
    }
}

fn wrong_shape() -> Rejection {
    Rejection::new(Code::BadRequest, "a message is a text, or { text, id? }")
}

fn parse_id(id: &Value) -> Result<MessageId, Rejection> {
    let text = id
        .as_str()
        .ok_or_else(|| Rejection::new(Code::InvalidId, "a message id is a string"))?;
    text.parse()
        .map_err(|invalid| Rejection::new(Code::InvalidId, format!("{invalid}")))
}

/// A time-ordered id, so that the ids of the server sort in the order of sending.
fn new_id() -> MessageId {
    Uuid::now_v7()
        .to_string()
        .parse()
        .expect("a UUID is printable ASCII of 36 characters")
}

fn checked_text(text: &str, limits: &Limits) -> Result<String, Rejection> {
    if text.trim().is_empty() {
        return Err(Rejection::new(Code::EmptyText, "the text is empty"));
    }
    let most = limits.message_length as usize;
    // Bytes bound characters from above, so most texts need no count.
    if text.len() > most && text.chars().count() > most {
        return Err(Rejection::new(
            Code::TextTooLong,
            format!("a message has at most {most} characters"),
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(arguments: &Value) -> Result<MessageRequest, Code> {
        let limits = Limits {
            message_length: 5,
            ..Limits::default()
        };
        MessageRequest::parse(arguments.as_array().expect("an array"), &limits)
            .map_err(|rejection| rejection.code)
    }

    #[test]
    fn bare_text_gets_a_new_id() {
        let one = parse(&json!(["olá"])).expect("accepted");
        let other = parse(&json!(["olá"])).expect("accepted");
        assert_eq!(one.text, "olá");
        assert_ne!(one.id, other.id);
    }

    #[test]
    fn id_of_the_client_is_kept() {
        let request = parse(&json!([{ "text": "oi", "id": "a-1" }])).expect("accepted");
        assert_eq!((request.text.as_str(), request.id.as_str()), ("oi", "a-1"));
    }

    #[test]
    fn text_is_not_changed() {
        assert_eq!(
            parse(&json!([" <b> "])).map(|request| request.text),
            Ok(" <b> ".to_owned())
        );
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(parse(&json!(["çãéõü"])).is_ok());
        assert_eq!(parse(&json!(["123456"])), Err(Code::TextTooLong));
    }

    #[test]
    fn invalid_requests_are_rejected_with_a_code() {
        for (arguments, code) in [
            (json!([]), Code::BadRequest),
            (json!([7]), Code::BadRequest),
            (json!([null]), Code::BadRequest),
            (json!([["a"]]), Code::BadRequest),
            (json!([{ "text": 7 }]), Code::BadRequest),
            (json!([{ "id": "a" }]), Code::BadRequest),
            (
                json!([{ "_placeholder": true, "num": 0 }]),
                Code::BadRequest,
            ),
            (json!([" \n\t"]), Code::EmptyText),
            (json!([""]), Code::EmptyText),
            (json!([{ "text": "a", "id": 1 }]), Code::InvalidId),
            (json!([{ "text": "a", "id": "" }]), Code::InvalidId),
            (json!([{ "text": "a", "id": "ção" }]), Code::InvalidId),
        ] {
            assert_eq!(parse(&arguments), Err(code), "{arguments}");
        }
    }

    proptest! {
        #[test]
        fn accepted_texts_are_within_the_limit(text in ".{0,40}") {
            if let Ok(request) = parse(&json!([text])) {
                prop_assert!(request.text.chars().count() <= 5);
                prop_assert_eq!(request.text, text);
            }
        }
    }
}
