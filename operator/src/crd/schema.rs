//! Pieces of schema that cannot be derived.

use papo_protocol::{
    BasePath,
    access::{GRANTS_MAX, ISSUER_LENGTH_MAX, NAME_MAX},
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number or text, as users write quantities: `1`, `"500m"`, `2Gi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrText {
    /// A bare number.
    Int(i64),
    /// Anything else.
    Text(String),
}

impl std::fmt::Display for IntOrText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A size in bytes of at least 1M and at most 1Pi: the bounds of a retention in `papo_protocol::limits`.
pub(super) fn byte_quantity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": 20,
        "pattern": r"^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$",
        "x-kubernetes-validations": [{
            "rule": "quantity(string(self)).compareTo(quantity('1M')) >= 0 && quantity(string(self)).compareTo(quantity('1Pi')) <= 0",
            "message": "must be between 1M and 1Pi"
        }]
    })
}

/// A path that [`BasePath`] accepts.
pub(super) fn path(_: &mut SchemaGenerator) -> Schema {
    let reserved = BasePath::RESERVED.join("|").replace('.', r"\\.");
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": BasePath::MAX_LENGTH,
        "pattern": r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?)?$",
        "x-kubernetes-validations": [{
            "rule": format!(r"!self.matches('/(\\.|\\.\\.|{reserved})(/|$)')"),
            "message": format!("no segment may be {}, . or ..", BasePath::RESERVED.join(", "))
        }]
    })
}

/// A URL that `papo_protocol::access::IssuerUrl` accepts.
pub(super) fn issuer_url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": ISSUER_LENGTH_MAX,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^https://[^/?#@ ]+(/[^?# ]*)?$') || self.matches('^http://(([a-z0-9-]+[.])*localhost|127[.][0-9.]+|[[]::1[]])(:[0-9]+)?(/[^?# ]*)?$')",
            "message": "must be https:// (http:// only for localhost), without user, query and fragment"
        }]
    })
}

/// People that `papo_protocol::access::Grant` can name.
pub(super) fn grants(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": GRANTS_MAX,
        "items": {
            "type": "string",
            "maxLength": "subject:".len() + NAME_MAX,
            "x-kubernetes-validations": [{
                "rule": format!("self == '*' || self.matches('^(group|subject):(?s:.){{1,{NAME_MAX}}}$')"),
                "message": format!("must be *, group:NAME or subject:SUB, with 1 to {NAME_MAX} characters after the colon")
            }]
        }
    })
}

/// The name of a Secret.
pub(super) fn secret_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
    })
}

/// Resource names to quantities.
pub(super) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$",
        }
    })
}

/// Labels or annotations: keys to text.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "maxLength": 4_096}
    })
}

/// Labels a node must have.
pub(super) fn node_labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 63}
    })
}

/// `metav1.Condition`s, one of each type.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let item =
        generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"]
    })
}
