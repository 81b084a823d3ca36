//! The room's route through the Gateway API.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::{metadata::metadata, service::CHAT_SERVICE_PORT};
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
pub fn http_route(room: &validate::Room, spec: &validate::Route) -> DynamicObject {
    let path = room.serving.base_path.to_string();
    let mut data = json!({
        "parentRefs": spec.parents,
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": path}}],
            "backendRefs": [{"name": names::child(&room.name), "port": CHAT_SERVICE_PORT}],
        }],
    });
    if !spec.hostnames.is_empty() {
        data["hostnames"] = json!(spec.hostnames);
    }
    let mut route = DynamicObject::new("", &resource()).data(json!({ "spec": data }));
    route.metadata = metadata(room);
    route
}
