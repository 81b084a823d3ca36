//! Whether an ingress controller serves the room's Ingress and a Gateway its HTTPRoute: otherwise its URL does not answer, whatever the servers do.

use k8s_openapi::api::networking::v1::Ingress;
use kube::core::DynamicObject;
use serde_json::Value;

use super::conditions::{ConditionState, state};
use crate::validate::{self, Room};

/// The state of `RouteAccepted`; `None` if the room has no route.
pub(super) fn accepted(
    room: &Room,
    ingress: Option<&Ingress>,
    http_route: Option<&DynamicObject>,
) -> Option<ConditionState> {
    let routes = [
        room.ingress.as_ref().map(|spec| by_ingress(spec, ingress)),
        room.route.as_ref().map(|_| by_gateway(http_route)),
    ];
    // The worst of them: rejected, then unknown, then accepted.
    routes
        .into_iter()
        .flatten()
        .min_by_key(|route| match route.status {
            Some(false) => 0,
            None => 1,
            Some(true) => 2,
        })
}

fn unknown(message: &str) -> ConditionState {
    ConditionState {
        status: None,
        reason: "Pending",
        message: message.to_owned(),
    }
}

fn by_ingress(spec: &validate::Ingress, ingress: Option<&Ingress>) -> ConditionState {
    if ingress.is_none() {
        return unknown("the Ingress does not exist yet");
    }
    let status = ingress.and_then(|ingress| ingress.status.as_ref()?.load_balancer.as_ref());
    let points = status.and_then(|balancer| balancer.ingress.as_ref());
    let addresses: Vec<&str> = points
        .into_iter()
        .flatten()
        .filter_map(|point| point.hostname.as_deref().or(point.ip.as_deref()))
        .collect();
    if addresses.is_empty() {
        return ConditionState {
            status: None,
            reason: "NoAddress",
            message: format!(
                "the ingress controller publishes no address, which is usual without a load balancer (kind, bare metal): \
                 the URL works once {} resolves to the controller",
                spec.host
            ),
        };
    }
    state(
        true,
        "RouteAccepted",
        format!("the Ingress is served at {}", addresses.join(", ")),
    )
}

fn by_gateway(route: Option<&DynamicObject>) -> ConditionState {
    let no_parents = Vec::new();
    let parents = route
        .and_then(|route| route.data["status"]["parents"].as_array())
        .unwrap_or(&no_parents);
    if parents.is_empty() {
        return unknown("no Gateway has accepted or rejected the HTTPRoute yet");
    }
    let generation = route.and_then(|route| route.metadata.generation);
    let rejections: Vec<String> = parents
        .iter()
        .filter_map(|parent| rejection(parent, generation))
        .collect();
    if rejections.is_empty() {
        return state(
            true,
            "RouteAccepted",
            "the Gateway has accepted the HTTPRoute",
        );
    }
    state(false, "RouteRejected", rejections.join("; "))
}

/// Why a Gateway rejects the route as it is now; `None` if it does not.
fn rejection(parent: &Value, generation: Option<i64>) -> Option<String> {
    let condition = parent["conditions"].as_array()?.iter().find(|it| {
        it["status"] == "False"
            && (it["type"] == "Accepted" || it["type"] == "ResolvedRefs")
            && (it["observedGeneration"].is_null()
                || it["observedGeneration"].as_i64() == generation)
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(format!(
        "Gateway {}: {}: {}",
        text(&parent["parentRef"]["name"]),
        text(&condition["reason"]),
        text(&condition["message"])
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desired;

    fn route(parents: &Value) -> DynamicObject {
        let mut route = DynamicObject::new("chat-geral", &desired::http_route_resource())
            .data(json!({"status": {"parents": parents}}));
        route.metadata.generation = Some(2);
        route
    }

    fn spec() -> validate::Ingress {
        validate::Ingress {
            host: "geral.example".to_owned(),
            class_name: None,
            annotations: std::collections::BTreeMap::new(),
            tls_secret_name: None,
        }
    }

    fn answer(type_: &str, status: &str, generation: i64) -> Value {
        json!({"type": type_, "status": status, "observedGeneration": generation, "reason": "NoMatchingListenerHostname", "message": "no listener has this host"})
    }

    #[test]
    fn rejected_route_has_the_words_of_the_gateway() {
        let parents = json!([{"parentRef": {"name": "public"}, "conditions": [answer("Accepted", "False", 2)]}]);
        let accepted = by_gateway(Some(&route(&parents)));
        assert_eq!(
            (accepted.status, accepted.reason),
            (Some(false), "RouteRejected")
        );
        assert_eq!(
            accepted.message,
            "Gateway public: NoMatchingListenerHostname: no listener has this host"
        );
    }

    #[test]
    fn rejection_of_an_earlier_generation_does_not_count() {
        let parents = json!([{"parentRef": {"name": "public"}, "conditions": [answer("Accepted", "False", 1)]}]);
        assert_eq!(by_gateway(Some(&route(&parents))).status, Some(true));
    }

    #[test]
    fn silent_gateway_leaves_the_condition_unknown() {
        assert_eq!(by_gateway(Some(&route(&json!([])))).status, None);
        let accepted = by_ingress(&spec(), Some(&Ingress::default()));
        assert_eq!((accepted.status, accepted.reason), (None, "NoAddress"));
        assert!(accepted.message.contains("once geral.example resolves"));
    }

    #[test]
    fn ingress_with_an_address_is_served_there() {
        let served = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}});
        let served: Ingress = serde_json::from_value(served).expect("an Ingress");
        let accepted = by_ingress(&spec(), Some(&served));
        assert_eq!(
            (accepted.status, accepted.message.as_str()),
            (Some(true), "the Ingress is served at 10.0.0.1")
        );
    }
}
