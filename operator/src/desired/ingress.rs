//! The room's route through an ingress controller.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
};
use papo_protocol::ports;

use super::metadata::metadata;
use crate::{names, validate};

/// The Ingress of a room.
///
/// Socket.IO has a path of its own beside the page's: some controllers (Contour) allow WebSockets by path.
pub fn ingress(room: &validate::Room, spec: &validate::Ingress) -> Ingress {
    let path = |path: &str| HTTPIngressPath {
        path: Some(path.to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: names::child(&room.name),
                port: Some(ServiceBackendPort {
                    name: Some(names::CHAT_PORT.to_owned()),
                    ..ServiceBackendPort::default()
                }),
            }),
            ..IngressBackend::default()
        },
    };
    let base = &room.serving.base_path;
    let socket_io = format!("{}{}/", base.prefix(), ports::SOCKET_IO_PATH);
    let mut metadata = metadata(room);
    if !spec.annotations.is_empty() {
        metadata.annotations = Some(spec.annotations.clone());
    }
    Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: spec.class_name.clone(),
            tls: spec.tls_secret_name.clone().map(|secret| {
                vec![IngressTLS {
                    hosts: Some(vec![spec.host.clone()]),
                    secret_name: Some(secret),
                }]
            }),
            rules: Some(vec![IngressRule {
                host: Some(spec.host.clone()),
                http: Some(HTTPIngressRuleValue {
                    paths: vec![path(&socket_io), path(&base.to_string())],
                }),
            }]),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    }
}
