//! The way in through an Ingress.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
};
use papo_protocol::ports;

use super::{deployment, metadata};
use crate::{names, validate};

/// The Ingress of a room.
///
/// Socket.IO has a path of its own beside `/`: some controllers (Contour) are told by path where WebSockets are allowed.
pub fn ingress(room: &validate::Room, wish: &validate::Ingress) -> Ingress {
    let path = |path: &str| HTTPIngressPath {
        path: Some(path.to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: names::child(&room.name),
                port: Some(ServiceBackendPort {
                    name: Some(deployment::CHAT_PORT.to_owned()),
                    ..ServiceBackendPort::default()
                }),
            }),
            ..IngressBackend::default()
        },
    };
    let mut metadata = metadata(room);
    if !wish.annotations.is_empty() {
        metadata.annotations = Some(wish.annotations.clone());
    }
    Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wish.class_name.clone(),
            tls: wish.tls_secret_name.clone().map(|secret| {
                vec![IngressTLS {
                    hosts: Some(vec![wish.host.clone()]),
                    secret_name: Some(secret),
                }]
            }),
            rules: Some(vec![IngressRule {
                host: Some(wish.host.clone()),
                http: Some(HTTPIngressRuleValue {
                    paths: vec![path(&format!("{}/", ports::SOCKET_IO_PATH)), path("/")],
                }),
            }]),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    }
}
