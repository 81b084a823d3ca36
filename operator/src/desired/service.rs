//! The servers' address within the cluster.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use papo_protocol::ports;

use super::metadata::metadata;
use crate::{names, validate::Room};

/// Port of the chat on the Service.
pub const CHAT_SERVICE_PORT: i32 = 80;

/// The Service of a room: the chat, and the admin port for Prometheus.
pub fn service(room: &Room) -> Service {
    let port = |name: &str, port: i32| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some("http".to_owned()),
        ..ServicePort::default()
    };
    Service {
        metadata: metadata(room),
        spec: Some(ServiceSpec {
            selector: Some(names::selector(&room.name)),
            ports: Some(vec![
                port(names::CHAT_PORT, CHAT_SERVICE_PORT),
                port(names::ADMIN_PORT, ports::ADMIN.into()),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
