//! Who may open connections to the servers, and to which ports the servers may.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
        NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use papo_protocol::ports;

use super::{log::Log, metadata::metadata};
use crate::{names, validate::Room};

/// Ports of name servers. Policies apply to the port of the pod behind a Service: on `OpenShift` that of the cluster's name servers is 5353.
const DNS: [u16; 2] = [53, 5353];

/// Everybody may reach the chat, only Prometheus the admin port, and nobody anything else. The servers may reach name servers, brokers and
/// each other, to which they forward requests.
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
            egress: egress
                .as_ref()
                .map(|own| egress_rules(names::selector(&room.name), log, own)),
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

/// A policy cannot name the broker's host, and a Service may have another port than its pods: so the broker's port is allowed at every address,
/// and the usual ports of brokers too.
fn egress_rules(
    servers: BTreeMap<String, String>,
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
    let brokers = BTreeSet::from([log.broker.port(), ports::AMQP, ports::AMQPS]);
    let brokers = brokers
        .into_iter()
        .map(|port| port_of("TCP", IntOrString::Int(port.into())));
    let servers = NetworkPolicyEgressRule {
        to: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(LabelSelector {
                match_labels: Some(servers),
                ..LabelSelector::default()
            }),
            ..NetworkPolicyPeer::default()
        }]),
        ..rule(vec![port_of("TCP", IntOrString::Int(ports::CHAT.into()))])
    };
    let ours = [rule(dns.collect()), rule(brokers.collect()), servers];
    ours.into_iter().chain(own.iter().cloned()).collect()
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
    use super::*;

    fn log(broker: &str) -> Log {
        Log {
            broker: broker.parse().expect("valid"),
            private_ca: false,
            epoch: papo_protocol::Epoch::from_bits(1),
        }
    }

    #[test]
    fn port_of_the_broker_is_open() {
        let ports = |broker| -> Vec<i32> {
            let rules = egress_rules(BTreeMap::new(), &log(broker), &[]);
            let ports = rules
                .into_iter()
                .flat_map(|rule| rule.ports.expect("ports"));
            ports
                .filter(|port| port.protocol.as_deref() == Some("TCP"))
                .map(|port| match port.port {
                    Some(IntOrString::Int(port)) => port,
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(ports("amqp://mq"), [53, 5353, 5671, 5672, 5000]);
        assert_eq!(
            ports("amqps://mq:30671/v"),
            [53, 5353, 5671, 5672, 30671, 5000]
        );
    }

    #[test]
    fn servers_of_the_room_reach_each_other_and_no_other_pods() {
        let selector = BTreeMap::from([("room".to_owned(), "geral".to_owned())]);
        let rules = egress_rules(selector.clone(), &log("amqp://mq"), &[]);
        let chat = Some(vec![port_of("TCP", IntOrString::Int(ports::CHAT.into()))]);
        let rule = rules.iter().find(|rule| rule.ports == chat);
        let peers = rule.and_then(|rule| rule.to.as_deref()).expect("a peer");
        let labels = |peer: &NetworkPolicyPeer| peer.pod_selector.clone()?.match_labels;
        assert_eq!(
            peers.iter().map(labels).collect::<Vec<_>>(),
            [Some(selector)]
        );
    }

    #[test]
    fn empty_list_of_peers_opens_no_port() {
        assert_eq!(ingress(&[]).len(), 1);
        assert_eq!(ingress(&[NetworkPolicyPeer::default()]).len(), 2);
    }
}
