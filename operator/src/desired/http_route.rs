//! The way in through the Gateway API.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::{CHAT_SERVICE_PORT, metadata};
use crate::{names, validate};

/// The kind. It is not in every cluster, and its types are in no crate that the rest needs.
pub fn resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "gateway.networking.k8s.io",
        "v1",
        "HTTPRoute",
    ))
}

/// The HTTPRoute of a room.
pub fn http_route(room: &validate::Room, wish: &validate::Route) -> DynamicObject {
    let mut spec = json!({
        "parentRefs": wish.parents,
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": names::child(&room.name), "port": CHAT_SERVICE_PORT}],
        }],
    });
    if !wish.hostnames.is_empty() {
        spec["hostnames"] = json!(wish.hostnames);
    }
    let mut route = DynamicObject::new("", &resource()).data(json!({ "spec": spec }));
    route.metadata = metadata(room);
    route
}
