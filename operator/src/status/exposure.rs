//! Whether those who answer for a room's Ingress and HTTPRoute have taken them up: else its URL does not answer, whatever the servers do.

use k8s_openapi::api::networking::v1::Ingress;
use kube::core::DynamicObject;
use serde_json::Value;

use super::{Verdict, verdict};
use crate::validate::{self, Room};

/// What is said of the ways in; nothing if the room wants none.
pub(super) fn exposed(
    room: &Room,
    ingress: Option<&Ingress>,
    http_route: Option<&DynamicObject>,
) -> Option<Verdict> {
    let ways = [
        room.ingress
            .as_ref()
            .map(|wanted| by_ingress(wanted, ingress)),
        room.route.as_ref().map(|_| by_gateway(http_route)),
    ];
    // The worst of them: refused before unknown before taken up.
    ways.into_iter()
        .flatten()
        .min_by_key(|way| match way.holds {
            Some(false) => 0,
            None => 1,
            Some(true) => 2,
        })
}

fn unknown(message: &str) -> Verdict {
    Verdict {
        holds: None,
        reason: "Pending",
        message: message.to_owned(),
    }
}

fn by_ingress(wanted: &validate::Ingress, ingress: Option<&Ingress>) -> Verdict {
    if ingress.is_none() {
        return unknown("the Ingress is not there yet");
    }
    let status = ingress.and_then(|ingress| ingress.status.as_ref()?.load_balancer.as_ref());
    let points = status.and_then(|balancer| balancer.ingress.as_ref());
    let addresses: Vec<&str> = points
        .into_iter()
        .flatten()
        .filter_map(|point| point.hostname.as_deref().or(point.ip.as_deref()))
        .collect();
    if addresses.is_empty() {
        return Verdict {
            holds: None,
            reason: "NoAddress",
            message: format!(
                "the ingress controller publishes no address, which is usual without a load balancer (kind, bare metal): \
                 the URL works once {} resolves to the controller",
                wanted.host
            ),
        };
    }
    verdict(
        true,
        "RouteAccepted",
        format!("the Ingress is served at {}", addresses.join(", ")),
    )
}

fn by_gateway(route: Option<&DynamicObject>) -> Verdict {
    let no_parents = Vec::new();
    let parents = route
        .and_then(|route| route.data["status"]["parents"].as_array())
        .unwrap_or(&no_parents);
    if parents.is_empty() {
        return unknown("no Gateway has answered the HTTPRoute");
    }
    let generation = route.and_then(|route| route.metadata.generation);
    let refusals: Vec<String> = parents
        .iter()
        .filter_map(|parent| refusal(parent, generation))
        .collect();
    if refusals.is_empty() {
        return verdict(
            true,
            "RouteAccepted",
            "the Gateway has accepted the HTTPRoute",
        );
    }
    verdict(false, "RouteRejected", refusals.join("; "))
}

/// What a Gateway has against the route as it is now.
fn refusal(parent: &Value, generation: Option<i64>) -> Option<String> {
    let told = parent["conditions"].as_array()?.iter().find(|told| {
        told["status"] == "False"
            && (told["type"] == "Accepted" || told["type"] == "ResolvedRefs")
            && (told["observedGeneration"].is_null()
                || told["observedGeneration"].as_i64() == generation)
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(format!(
        "Gateway {}: {}: {}",
        text(&parent["parentRef"]["name"]),
        text(&told["reason"]),
        text(&told["message"])
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

    fn wanted() -> validate::Ingress {
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
    fn a_route_that_a_gateway_refuses_is_told_in_its_words() {
        let parents = json!([{"parentRef": {"name": "public"}, "conditions": [answer("Accepted", "False", 2)]}]);
        let told = by_gateway(Some(&route(&parents)));
        assert_eq!((told.holds, told.reason), (Some(false), "RouteRejected"));
        assert_eq!(
            told.message,
            "Gateway public: NoMatchingListenerHostname: no listener has this host"
        );
    }

    #[test]
    fn a_refusal_of_an_earlier_generation_does_not_count() {
        let parents = json!([{"parentRef": {"name": "public"}, "conditions": [answer("Accepted", "False", 1)]}]);
        assert_eq!(by_gateway(Some(&route(&parents))).holds, Some(true));
    }

    #[test]
    fn silence_is_neither_a_refusal_nor_an_acceptance() {
        assert_eq!(by_gateway(Some(&route(&json!([])))).holds, None);
        let told = by_ingress(&wanted(), Some(&Ingress::default()));
        assert_eq!((told.holds, told.reason), (None, "NoAddress"));
        assert!(told.message.contains("once geral.example resolves"));
    }

    #[test]
    fn an_ingress_with_an_address_is_served_there() {
        let served = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}});
        let served: Ingress = serde_json::from_value(served).expect("an Ingress");
        let told = by_ingress(&wanted(), Some(&served));
        assert_eq!(
            (told.holds, told.message.as_str()),
            (Some(true), "the Ingress is served at 10.0.0.1")
        );
    }
}
