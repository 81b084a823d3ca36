//! Who may open connections to the servers, and to which ports the servers may.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use papo_protocol::{Access, BrokerUrl, ports};

use super::{log::Log, metadata::metadata};
use crate::{names, validate::Room};

/// Ports of name servers. Policies apply to the port of the pod behind a Service: on `OpenShift` that of the cluster's name servers is 5353.
const DNS: [u16; 2] = [53, 5353];

/// Everybody may reach the chat, only Prometheus the admin port, and nobody anything else. The servers may reach name servers, brokers,
/// issuers, and each other, to which they forward requests.
///
/// The kubelet's probes need no rule: a node may always reach its pods.
pub fn network_policy(room: &Room, log: &Log) -> NetworkPolicy {
    let egress = &room.network.egress;
    let mut types = vec!["Ingress".to_owned()];
    types.extend(egress.as_ref().map(|_| "Egress".to_owned()));
    NetworkPolicy {
        metadata: metadata(room),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names::selector(&room.name)),
                ..LabelSelector::default()
            }),
            policy_types: Some(types),
            ingress: Some(ingress(&room.network.metrics_from)),
            egress: egress.as_ref().map(|own| egress_rules(room, log, own)),
        }),
    }
}

fn ingress(metrics_from: &[NetworkPolicyPeer]) -> Vec<NetworkPolicyIngressRule> {
    let rule = |port: &str, from: Option<Vec<NetworkPolicyPeer>>| NetworkPolicyIngressRule {
        from,
        ports: Some(vec![port_of("TCP", IntOrString::String(port.to_owned()))]),
    };
    // An empty list of peers would be everybody.
    let metrics =
        (!metrics_from.is_empty()).then(|| rule(names::ADMIN_PORT, Some(metrics_from.to_vec())));
    let chat = rule(names::CHAT_PORT, None);
    std::iter::once(chat).chain(metrics).collect()
}

/// A policy cannot name the hosts of broker and issuers, and a Service may have another port than its pods: so the ports are allowed at every
/// address, and the usual ports of brokers too.
fn egress_rules(
    room: &Room,
    log: &Log,
    own: &[NetworkPolicyEgressRule],
) -> Vec<NetworkPolicyEgressRule> {
    let rule = |ports: Vec<NetworkPolicyPort>| NetworkPolicyEgressRule {
        ports: Some(ports),
        to: None,
    };
    let dns = ["UDP", "TCP"]
        .into_iter()
        .flat_map(|protocol| DNS.map(|port| port_of(protocol, IntOrString::Int(port.into()))));
    let of_nodes = log.nodes.iter().map(BrokerUrl::port);
    let brokers: BTreeSet<u16> = of_nodes.chain([ports::AMQP, ports::AMQPS]).collect();
    let tcp = |port: u16| port_of("TCP", IntOrString::Int(port.into()));
    let brokers = brokers.into_iter().map(tcp);
    let issuers: Vec<_> = issuer_ports(&room.access.rules)
        .into_iter()
        .map(tcp)
        .collect();
    // An empty list of ports would be all of them.
    let issuers = (!issuers.is_empty()).then(|| rule(issuers));
    let servers = NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(LabelSelector {
                match_labels: Some(names::selector(&room.name)),
                ..LabelSelector::default()
            }),
            ..NetworkPolicyPeer::default()
        }]),
        ..rule(vec![tcp(ports::CHAT)])
    };
    let ours = [rule(dns.collect()), rule(brokers.collect()), servers];
    ours.into_iter()
        .chain(issuers)
        .chain(own.iter().cloned())
        .collect()
}

/// The ports at which the servers ask issuers for their keys. What is not `https` is the servers' own pod.
fn issuer_ports(access: &Access) -> BTreeSet<u16> {
    let issuers = access.issuers.iter();
    issuers
        .filter(|issuer| issuer.key_file.is_none())
        .filter_map(|issuer| {
            let keys = issuer.jwks_uri.as_ref().unwrap_or(&issuer.issuer).url();
            let is_elsewhere = keys.scheme() == "https";
            is_elsewhere.then(|| keys.port_or_known_default())?
        })
        .collect()
}

fn port_of(protocol: &str, port: IntOrString) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(port),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{config::Defaults, crd::ChatRoom, validate::validate};

    fn room(access: &Value) -> Room {
        let chat_room: ChatRoom = serde_json::from_value(json!({
            "apiVersion": "papo.chat/v1alpha1", "kind": "ChatRoom",
            "metadata": {"name": "geral", "namespace": "team", "uid": "u-1"},
            "spec": {"broker": {"secretName": "mq"}, "access": access},
        }))
        .expect("a room");
        validate(&chat_room, &Defaults::default()).expect("valid")
    }

    fn log(broker: &str) -> Log {
        Log {
            nodes: vec![broker.parse().expect("valid")],
            private_ca: false,
            epoch: papo_protocol::Epoch::from_bits(1),
        }
    }

    /// The TCP ports of each rule.
    fn tcp_ports(rules: Vec<NetworkPolicyEgressRule>) -> Vec<Vec<i32>> {
        let number = |port: NetworkPolicyPort| match port.port {
            Some(IntOrString::Int(port)) => port,
            other => panic!("{other:?}"),
        };
        let of_rule = |rule: NetworkPolicyEgressRule| {
            let ports = rule.ports.expect("ports").into_iter();
            let tcp = ports.filter(|port| port.protocol.as_deref() == Some("TCP"));
            tcp.map(number).collect()
        };
        rules.into_iter().map(of_rule).collect()
    }

    #[test]
    fn port_of_the_broker_is_open() {
        let ports = |broker| tcp_ports(egress_rules(&room(&Value::Null), &log(broker), &[]));
        assert_eq!(
            ports("amqp://mq"),
            [vec![53, 5353], vec![5671, 5672], vec![5000]]
        );
        assert_eq!(
            ports("amqps://mq:30671/v"),
            [vec![53, 5353], vec![5671, 5672, 30671], vec![5000]]
        );
    }

    #[test]
    fn ports_of_issuers_are_open_where_servers_ask_for_keys() {
        let issuer = |url: &str, more: Value| {
            let mut issuer = more;
            issuer["issuer"] = json!(url);
            issuer["audiences"] = json!(["papo"]);
            issuer
        };
        for (issuers, expected) in [
            (vec![], None),
            (
                vec![
                    issuer("https://a.example", json!({})),
                    issuer("https://b.example:8443/x", json!({})),
                ],
                Some(vec![443, 8443]),
            ),
            (
                vec![issuer(
                    "https://a.example:8443",
                    json!({"jwksUri": "https://dex.team.svc:5554/keys"}),
                )],
                Some(vec![5554]),
            ),
            (
                vec![
                    issuer("https://a.example", json!({"keySecretName": "key"})),
                    issuer("http://localhost:8080", json!({})),
                ],
                None,
            ),
        ] {
            let room = room(&json!({"guests": "Read", "issuers": issuers}));
            let rules = egress_rules(&room, &log("amqp://mq"), &[]);
            let ports = tcp_ports(rules).get(3).cloned();
            assert_eq!(ports, expected, "{issuers:?}");
        }
    }

    #[test]
    fn servers_of_the_room_reach_each_other_and_no_other_pods() {
        let room = room(&Value::Null);
        let rules = egress_rules(&room, &log("amqp://mq"), &[]);
        let chat = Some(vec![port_of("TCP", IntOrString::Int(ports::CHAT.into()))]);
        let rule = rules.iter().find(|rule| rule.ports == chat);
        let peers = rule.and_then(|rule| rule.to.as_deref()).expect("a peer");
        let labels = |peer: &NetworkPolicyPeer| peer.pod_selector.clone()?.match_labels;
        assert_eq!(
            peers.iter().map(labels).collect::<Vec<_>>(),
            [Some(names::selector(&room.name))]
        );
    }

    #[test]
    fn empty_list_of_peers_opens_no_port() {
        assert_eq!(ingress(&[]).len(), 1);
        assert_eq!(ingress(&[NetworkPolicyPeer::default()]).len(), 2);
    }
}
