//! A draft: a `message` event as a client sent it, checked against the limits.

use papo_protocol::{Limits, MessageId, event::Code};
use serde_json::Value;
use uuid::Uuid;

use super::Refusal;

/// A message that may be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The client's id for it, or one drawn here.
    pub id: MessageId,
    /// What to say.
    pub text: String,
}

impl Draft {
    /// Reads the arguments of a `message` event: `text`, or `{ text, id? }`.
    pub fn parse(arguments: &[Value], limits: &Limits) -> Result<Self, Refusal> {
        let (text, id) = match arguments.first() {
            Some(Value::String(text)) => (text, None),
            Some(Value::Object(fields)) => match fields.get("text") {
                Some(Value::String(text)) => (text, fields.get("id").filter(|id| !id.is_null())),
                _ => return Err(wrong_shape()),
            },
            _ => return Err(wrong_shape()),
        };
        let id = id.map_or_else(|| Ok(drawn_id()), parse_id)?;
        Ok(Self {
            id,
            text: checked_text(text, limits)?,
        })
    }
}

fn wrong_shape() -> Refusal {
    Refusal::new(Code::BadRequest, "a message is a text, or { text, id? }")
}

fn parse_id(id: &Value) -> Result<MessageId, Refusal> {
    let text = id
        .as_str()
        .ok_or_else(|| Refusal::new(Code::InvalidId, "a message id is a string"))?;
    text.parse()
        .map_err(|invalid| Refusal::new(Code::InvalidId, format!("{invalid}")))
}

/// Time-ordered, so that ids drawn here sort as they were sent.
fn drawn_id() -> MessageId {
    Uuid::now_v7()
        .to_string()
        .parse()
        .expect("a UUID is printable ASCII of 36 characters")
}

fn checked_text(text: &str, limits: &Limits) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new(Code::EmptyText, "there is nothing to send"));
    }
    let most = limits.message_length as usize;
    // Bytes bound characters from above, so most texts need no count.
    if text.len() > most && text.chars().count() > most {
        return Err(Refusal::new(
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

    fn parse(arguments: &Value) -> Result<Draft, Code> {
        let limits = Limits {
            message_length: 5,
            ..Limits::default()
        };
        Draft::parse(arguments.as_array().expect("an array"), &limits)
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_originals_bare_text_gets_an_id_of_its_own() {
        let one = parse(&json!(["olá"])).expect("accepted");
        let other = parse(&json!(["olá"])).expect("accepted");
        assert_eq!(one.text, "olá");
        assert_ne!(one.id, other.id);
    }

    #[test]
    fn an_id_is_kept_so_that_a_retry_can_be_recognised() {
        let draft = parse(&json!([{ "text": "oi", "id": "a-1" }])).expect("accepted");
        assert_eq!((draft.text.as_str(), draft.id.as_str()), ("oi", "a-1"));
    }

    #[test]
    fn text_is_kept_to_the_letter() {
        assert_eq!(
            parse(&json!([" <b> "])).map(|draft| draft.text),
            Ok(" <b> ".to_owned())
        );
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(parse(&json!(["çãéõü"])).is_ok());
        assert_eq!(parse(&json!(["123456"])), Err(Code::TextTooLong));
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_reason() {
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
        fn no_text_makes_it_panic_or_slip_past_the_limit(text in ".{0,40}") {
            if let Ok(draft) = parse(&json!([text])) {
                prop_assert!(draft.text.chars().count() <= 5);
                prop_assert_eq!(draft.text, text);
            }
        }
    }
}
