//! JSON from clients: all that JSON can say (RFC 8259) is read or rejected. Only a text that is no JSON breaks the protocol.
//!
//! - ECMAScript escapes one half of a surrogate pair if the other is missing (`"\ud83d"`). No Unicode text has it: U+FFFD takes its place.
//! - Nesting has a bound, because each level takes stack. A number has one too: the largest of 64-bit floating point.
//! - No key has a meaning. `serde_json`'s own reader of a [`Value`] has a key whose text it reads as further JSON, with a bound of its own.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// What takes the place of half a surrogate pair: U+FFFD, escaped.
const REPLACEMENT: &str = "\\ufffd";
/// Bytes of an escape such as `\ufffd`.
const ESCAPE: usize = REPLACEMENT.len();

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AnyJson(pub(crate) Value);

/// Why a text cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// It is no JSON.
    #[error("not JSON")]
    Syntax,
    /// It is JSON, of another shape, nested too deeply or with too large a number.
    #[error(
        "the JSON has another shape than is expected here, more than 127 levels or a number that is too large"
    )]
    Content,
}

/// Reads JSON as a client wrote it.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, JsonError> {
    let text = without_lone_surrogates(text);
    serde_json::from_str(&text).map_err(|_| {
        // It checks the syntax without recursion, and no numbers.
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => JsonError::Content,
            Err(_) => JsonError::Syntax,
        }
    })
}

/// An offset in the log: a number, or its decimal digits, because some clients can send only strings.
pub(crate) fn offset(value: &Value) -> Option<u64> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) if digits(text) => text.parse().ok(),
        _ => None,
    }
}

/// The same JSON, with U+FFFD for each escaped half of a surrogate pair whose other half does not follow.
fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    if !json.contains("\\ud") && !json.contains("\\uD") {
        return json.into();
    }
    let mut replaced = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(backslash) = rest.find('\\') {
        let (before, escape) = rest.split_at(backslash);
        replaced.push_str(before);
        let length = match surrogate(escape) {
            Some(Half::High) if surrogate(&escape[ESCAPE..]) == Some(Half::Low) => 2 * ESCAPE,
            Some(_) => {
                replaced.push_str(REPLACEMENT);
                rest = &escape[ESCAPE..];
                continue;
            }
            // With the character behind it, which may be a backslash too.
            None => escape.chars().take(2).map(char::len_utf8).sum(),
        };
        let (kept, after) = escape.split_at(length);
        replaced.push_str(kept);
        rest = after;
    }
    replaced.push_str(rest);
    replaced.into()
}

/// A half of a surrogate pair (the Unicode Standard, 3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    High,
    Low,
}

/// The half that a text begins with, as an escape.
fn surrogate(text: &str) -> Option<Half> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::High),
        0xdc00..=0xdfff => Some(Half::Low),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(Self)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(AnyJson(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, AnyJson(value))) = object.next_entry()? {
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Result<Value, JsonError> {
        read(text).map(|AnyJson(value)| value)
    }

    #[test]
    fn half_of_a_surrogate_pair_becomes_one_replacement_character() {
        for (text, expected) in [
            (r#""ok \ud83d""#, "ok \u{fffd}"),
            (r#""\uDE00!""#, "\u{fffd}!"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\u0041""#, "\u{fffd}A"),
            (r#""\uD83D\uDE00""#, "😀"),
            (r#""\\ud83d""#, r"\ud83d"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
            (r#""\ud83d\\ude00""#, "\u{fffd}\\ude00"),
            (r#""é\ud83dé""#, "é\u{fffd}é"),
        ] {
            assert_eq!(parsed(text), Ok(json!(expected)), "{text}");
        }
        let in_a_key = parsed(r#"{"\ud83d":["\udc00"]}"#);
        assert_eq!(in_a_key, Ok(json!({ "\u{fffd}": ["\u{fffd}"] })));
    }

    #[test]
    fn text_that_is_no_json_is_a_syntax_error() {
        for text in [
            "",
            "x",
            "[",
            "[1,]",
            "[1]2",
            r#""\ud83""#,
            r#""\ud83d"#,
            r#""\ud83d\"#,
            r#""\ud83d\x""#,
            r#""\uz""#,
            "\"\n\"",
            "\\ud83d",
            "{1:2}",
            "NaN",
        ] {
            assert_eq!(parsed(text), Err(JsonError::Syntax), "{text:?}");
        }
    }

    #[test]
    fn json_beyond_the_bounds_is_an_error_of_content() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parsed(&nested(127)).is_ok());
        for text in [nested(128), nested(200), nested(30_000), "1e999".to_owned()] {
            assert_eq!(parsed(&text), Err(JsonError::Content), "{text:.20}");
        }
        assert_eq!(read::<Vec<AnyJson>>("{}"), Err(JsonError::Content));
    }

    #[test]
    fn no_key_has_a_meaning() {
        for key in [
            "$serde_json::private::RawValue",
            "$serde_json::private::Number",
        ] {
            for value in [json!(1), json!("[[1]]"), json!("no JSON")] {
                let object = json!([{ key: value }]);
                assert_eq!(parsed(&object.to_string()), Ok(object));
            }
        }
    }

    #[test]
    fn offset_is_a_number_or_its_digits() {
        for (value, expected) in [
            (json!(7), Some(7)),
            (json!("7"), Some(7)),
            (json!("007"), Some(7)),
            (json!("18446744073709551615"), Some(u64::MAX)),
            (json!("18446744073709551616"), None),
            (json!(-1), None),
            (json!("-1"), None),
            (json!("+1"), None),
            (json!(" 1"), None),
            (json!(""), None),
            (json!("1.0"), None),
            (json!(1.5), None),
            (json!(1e300), None),
            (json!(null), None),
            (json!([7]), None),
        ] {
            assert_eq!(offset(&value), expected, "{value}");
        }
    }

    /// JSON as programs write it, of any shape.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((".{0,4}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_are_read_as_they_were_written(value in value()) {
            prop_assert_eq!(read::<AnyJson>(&value.to_string()), Ok(AnyJson(value)));
        }

        #[test]
        fn escapes_of_any_code_units_are_read(units in prop::collection::vec(any::<u16>(), 0..8)) {
            let escaped: Vec<_> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let expected = String::from_utf16_lossy(&units);
            prop_assert_eq!(read::<String>(&format!("\"{}\"", escaped.concat())), Ok(expected));
        }
    }
}
