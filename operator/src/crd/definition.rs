//! The definition of the resource, as `papo-operator crd` prints it.

use kube::CustomResourceExt;
use serde_json::Value;

use super::ChatRoom;

/// The formats of our schema that the API server knows. It warns of every other one, such as `uint32`, whenever the definition is applied.
const KNOWN_FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

/// The `CustomResourceDefinition` of `ChatRoom`.
pub fn definition() -> serde_json::Result<Value> {
    let mut definition = serde_json::to_value(ChatRoom::crd())?;
    remove_unknown_formats(&mut definition);
    Ok(definition)
}

fn remove_unknown_formats(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_unknown = |format: &Value| {
                format
                    .as_str()
                    .is_some_and(|format| !KNOWN_FORMATS.contains(&format))
            };
            if fields.get("format").is_some_and(is_unknown) {
                fields.remove("format");
            }
            fields.values_mut().for_each(remove_unknown_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_unknown_formats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use papo_protocol::limits::{self, Bounds};

    use super::*;

    fn spec_schema() -> Value {
        let definition = definition().expect("JSON");
        let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        definition.pointer(schema).expect("the spec").clone()
    }

    #[test]
    fn definition_has_no_format_that_the_api_server_warns_of() {
        let text = definition().expect("JSON").to_string();
        assert!(!text.contains("\"uint"), "{text}");
        assert!(text.contains("\"format\":\"int32\""), "{text}");
    }

    #[test]
    fn numbers_have_the_bounds_and_defaults_of_the_server() {
        let schema = spec_schema();
        for (field, bounds) in [
            ("limits/messageLength", limits::MESSAGE_LENGTH),
            ("limits/nameLength", limits::NAME_LENGTH),
            ("limits/messagesPerSecond", limits::MESSAGES_PER_SECOND),
            ("limits/messageBurst", limits::MESSAGE_BURST),
            ("limits/historyPerSecond", limits::HISTORY_PER_SECOND),
            ("limits/historyBurst", limits::HISTORY_BURST),
            ("limits/frameSize", limits::FRAME_SIZE),
            ("limits/connections", limits::CONNECTIONS),
            ("limits/historyPage", limits::HISTORY_PAGE),
            ("limits/slowReaderTimeout", limits::SLOW_READER_TIMEOUT),
            ("drainPeriod", limits::DRAIN_PERIOD),
            (
                "limits/address/messagesPerSecond",
                limits::ADDRESS_MESSAGES_PER_SECOND,
            ),
            ("limits/address/messageBurst", limits::ADDRESS_MESSAGE_BURST),
            (
                "limits/address/bytesPerSecond",
                limits::ADDRESS_BYTES_PER_SECOND,
            ),
            ("limits/address/byteBurst", limits::ADDRESS_BYTE_BURST),
            (
                "limits/address/connectsPerSecond",
                limits::ADDRESS_CONNECTS_PER_SECOND,
            ),
            ("limits/address/connectBurst", limits::ADDRESS_CONNECT_BURST),
        ] {
            let Bounds { min, max, default } = bounds;
            let property = field
                .split('/')
                .fold(&schema, |schema, field| &schema["properties"][field]);
            assert_eq!(property["minimum"].as_f64(), Some(min.into()), "{field}");
            assert_eq!(property["maximum"].as_f64(), Some(max.into()), "{field}");
            let description = property["description"].as_str().expect("a description");
            assert!(
                description.contains(&format!("{default} if not given")),
                "{field}: {description}"
            );
        }
    }
}
