//! The servers of a room.

use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, KeyToPath,
            Lifecycle, LifecycleHandler, LocalObjectReference, ObjectFieldSelector,
            PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource,
            ResourceRequirements, SeccompProfile, SecretProjection, SecretVolumeSource,
            SecurityContext, SleepAction, Toleration, TopologySpreadConstraint, Volume,
            VolumeMount, VolumeProjection,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use papo_protocol::{HostPattern, Launch, ports};

use super::{
    log::Log,
    memory::{memory, with_memory},
    metadata::metadata,
    secret::{ACCESS_KEY, CA_KEY, SESSION_KEY},
};
use crate::{
    crd::{ImagePullPolicy, IntOrText},
    names,
    validate::{Ingress, IssuerFile, Room, Serving},
};

/// Where the room's Secret is mounted.
const CREDENTIALS: &str = "/etc/papo/broker";
/// Seconds that a server keeps serving after Kubernetes has decided to end it: proxies and kube-proxy may still send it new connections.
const PRE_STOP: i64 = 5;
/// Seconds that servers stay bound to a node that is lost, before others are started elsewhere. Kubernetes would wait for five minutes.
const LOST_NODE: i64 = 30;
/// Rights on mounted files, which belong to the servers' group.
const READABLE: i32 = 0o440;
/// A user that is nobody in any image.
const NOBODY: i64 = 65_532;

/// The Deployment of a room.
pub fn deployment(room: &Room, log: &Log) -> Deployment {
    let launch = launch(room, log);
    Deployment {
        metadata: metadata(room),
        spec: DeploymentSpec {
            replicas: Some(room.replicas),
            selector: selector(room),
            strategy: Some(no_unavailable_servers()),
            revision_history_limit: Some(2),
            progress_deadline_seconds: Some(120),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(names::labels(&room.name)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(room, &launch)),
            },
            ..DeploymentSpec::default()
        },
        ..Deployment::default()
    }
}

/// How the servers are started.
fn launch(room: &Room, log: &Log) -> Launch {
    let credentials = Path::new(CREDENTIALS);
    let Serving {
        base_path,
        allowed_origins,
        long_polling,
        history_page,
        slow_reader_timeout,
        drain_period,
    } = room.serving.clone();
    Launch {
        // The kubelet and Prometheus reach it from outside the pod, which may have addresses of either family.
        admin_listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, ports::ADMIN)),
        base_path,
        allow_origin: allowed_origins,
        long_polling,
        history_page,
        slow_reader_timeout,
        drain_period,
        allow_host: hosts(room),
        room: room.name.clone(),
        title: room.title.clone(),
        broker: log.nodes.clone(),
        broker_ca: log.private_ca.then(|| credentials.join(CA_KEY)),
        broker_credentials: Some(credentials.to_owned()),
        session_key: Some(credentials.join(SESSION_KEY)),
        access: Some(credentials.join(ACCESS_KEY)),
        epoch: Some(log.epoch.clone()),
        limits: room.limits.clone(),
        trusted_proxies: room.pods.trusted_proxies.clone(),
        hsts_max_age: hsts_max_age(room),
        log_filter: room.pods.log_filter.clone(),
        log_format: Some("json".to_owned()),
        ..Launch::default()
    }
}

/// HSTS only where browsers may reach the room over TLS: through an Ingress with a certificate, or through a Gateway, whose listeners the
/// operator does not know. The server sends it only to browsers that do.
fn hsts_max_age(room: &Room) -> u32 {
    let has_certificate = |ingress: &Ingress| ingress.tls_secret_name.is_some();
    if room.route.is_some() || room.ingress.as_ref().is_some_and(has_certificate) {
        room.pods.hsts_max_age
    } else {
        0
    }
}

/// The hosts of the room's routes, and the names of its Service. Empty, which is every host, if there is a route that the operator
/// does not know: one without host names, or one that somebody made for a room without routes.
fn hosts(room: &Room) -> Vec<HostPattern> {
    let ingress = room.ingress.iter().map(|ingress| ingress.host.as_str());
    let route = room.route.iter().flat_map(|route| &route.hostnames);
    let is_open = room
        .route
        .as_ref()
        .is_some_and(|route| route.hostnames.is_empty());
    let routes: Vec<&str> = ingress.chain(route.map(String::as_str)).collect();
    if routes.is_empty() || is_open {
        return Vec::new();
    }
    let (service, namespace) = (names::child(&room.name), room.name.namespace());
    let domains =
        ["", ".svc", ".svc.cluster.local"].map(|domain| format!("{service}.{namespace}{domain}"));
    let names = routes
        .into_iter()
        .map(str::to_owned)
        .chain([service])
        .chain(domains);
    let hosts: Result<Vec<HostPattern>, _> = names.map(|name| name.parse()).collect();
    hosts.unwrap_or_default()
}

fn selector(room: &Room) -> LabelSelector {
    LabelSelector {
        match_labels: Some(names::selector(&room.name)),
        ..LabelSelector::default()
    }
}

fn no_unavailable_servers() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::String("25%".to_owned())),
            max_unavailable: Some(IntOrString::Int(0)),
        }),
    }
}

fn pod(room: &Room, launch: &Launch) -> PodSpec {
    let pods = &room.pods;
    let placement = pods.placement.clone();
    let secrets = pods
        .image_pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() });
    let grace = i64::try_from(launch.grace_period().as_secs()).unwrap_or(i64::MAX - PRE_STOP);
    PodSpec {
        containers: vec![container(room, launch)],
        volumes: Some(volumes(room)),
        image_pull_secrets: (!pods.image_pull_secrets.is_empty()).then(|| secrets.collect()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(PRE_STOP + grace),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            run_as_group: Some(NOBODY),
            fs_group: Some(NOBODY),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: Some(spread(room)),
        node_selector: placement.node_selector,
        tolerations: Some(tolerations(placement.tolerations.unwrap_or_default())),
        affinity: placement.affinity,
        priority_class_name: placement.priority_class_name,
        ..PodSpec::default()
    }
}

/// The room's own, and a short wait for a node that is lost, unless the room says something of that itself.
fn tolerations(own: Vec<Toleration>) -> Vec<Toleration> {
    let lost = ["not-ready", "unreachable"].map(|state| Toleration {
        key: Some(format!("node.kubernetes.io/{state}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(LOST_NODE),
        ..Toleration::default()
    });
    // Without a key or an effect a toleration is about all of them.
    let covers = |own: &Option<String>, lost: &Option<String>| {
        own.as_deref().is_none_or(str::is_empty) || own == lost
    };
    let is_said = |lost: &Toleration| {
        own.iter()
            .any(|own| covers(&own.key, &lost.key) && covers(&own.effect, &lost.effect))
    };
    let missing: Vec<Toleration> = lost.into_iter().filter(|lost| !is_said(lost)).collect();
    own.into_iter().chain(missing).collect()
}

/// Over nodes and zones if possible, unless the room has constraints of its own.
fn spread(room: &Room) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        // Of one generation of pods only: during an update the old ones are about to go.
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    };
    let own = room.pods.placement.topology_spread_constraints.clone();
    own.unwrap_or_else(|| {
        vec![
            over("kubernetes.io/hostname"),
            over("topology.kubernetes.io/zone"),
        ]
    })
    .into_iter()
    .map(|constraint| TopologySpreadConstraint {
        label_selector: constraint.label_selector.or_else(|| Some(selector(room))),
        ..constraint
    })
    .collect()
}

fn volumes(room: &Room) -> Vec<Volume> {
    let credentials = Volume {
        name: "broker".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::child(&room.name)),
            default_mode: Some(READABLE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    let files = &room.access.issuer_files;
    let issuers = || Volume {
        name: "issuers".to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(READABLE),
            sources: Some(files.iter().map(projection).collect()),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    };
    let issuers = (!files.is_empty()).then(issuers);
    std::iter::once(credentials).chain(issuers).collect()
}

/// A file from a Secret that somebody else makes. Without the Secret its issuer does not work, but the servers start.
fn projection(file: &IssuerFile) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: file.secret.clone(),
            optional: Some(true),
            items: Some(vec![KeyToPath {
                key: file.key.to_owned(),
                path: file.path(),
                ..KeyToPath::default()
            }]),
        }),
        ..VolumeProjection::default()
    }
}

fn mounts(room: &Room) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let issuers = || mount("issuers", IssuerFile::DIRECTORY);
    let issuers = (!room.access.issuer_files.is_empty()).then(issuers);
    std::iter::once(mount("broker", CREDENTIALS))
        .chain(issuers)
        .collect()
}

fn container(room: &Room, launch: &Launch) -> Container {
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    // Written twice a `$` is one: alone, the kubelet would put other variables in the place of `$(NAME)`.
    let variable = |(name, value): (&str, String)| EnvVar {
        name: name.to_owned(),
        value: Some(value.replace('$', "$$")),
        ..EnvVar::default()
    };
    let variables = launch.environment().into_iter().map(variable);
    Container {
        name: names::CONTAINER.to_owned(),
        image: Some(room.pods.image.clone()),
        image_pull_policy: room
            .pods
            .image_pull_policy
            .map(ImagePullPolicy::as_str)
            .map(str::to_owned),
        env: Some(variables.chain([advertised()]).collect()),
        ports: Some(vec![
            port(names::CHAT_PORT, launch.listen.port()),
            port(names::ADMIN_PORT, launch.admin_listen.port()),
        ]),
        startup_probe: Some(probe(ports::LIVEZ, 1, 60)),
        liveness_probe: Some(probe(ports::LIVEZ, 10, 3)),
        readiness_probe: Some(probe(ports::READYZ, 2, 2)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: PRE_STOP }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: Some(resources(room)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(room)),
        ..Container::default()
    }
}

/// The address of the pod, at which the other servers of the room reach this one.
fn advertised() -> EnvVar {
    EnvVar {
        name: Launch::ADVERTISE_VARIABLE.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.podIP".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(names::ADMIN_PORT.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(3),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn resources(room: &Room) -> ResourceRequirements {
    let quantities = |amounts: &Option<BTreeMap<String, IntOrText>>| -> BTreeMap<_, _> {
        let quantity =
            |(name, amount): (&String, &IntOrText)| (name.clone(), Quantity(amount.to_string()));
        amounts.iter().flatten().map(quantity).collect()
    };
    let spec = &room.pods.resources;
    let (mut requests, mut limits) = (quantities(&spec.requests), quantities(&spec.limits));
    with_memory(&mut requests, &mut limits, memory(&room.limits));
    ResourceRequirements {
        requests: (!requests.is_empty()).then_some(requests),
        limits: (!limits.is_empty()).then_some(limits),
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: Option<&str>, effect: Option<&str>) -> Toleration {
        Toleration {
            key: key.map(str::to_owned),
            operator: Some("Exists".to_owned()),
            effect: effect.map(str::to_owned),
            ..Toleration::default()
        }
    }

    /// How many of the tolerations are ours.
    fn ours(own: &[Toleration]) -> usize {
        tolerations(own.to_vec()).len() - own.len()
    }

    #[test]
    fn own_tolerations_replace_ours_by_key_and_effect() {
        let unreachable = Some("node.kubernetes.io/unreachable");
        for (own, expected) in [
            (vec![], 2),
            (vec![toleration(Some("disk"), None)], 2),
            (vec![toleration(None, Some("NoSchedule"))], 2),
            (vec![toleration(unreachable, Some("NoSchedule"))], 2),
            (vec![toleration(unreachable, Some("NoExecute"))], 1),
            (vec![toleration(unreachable, None)], 1),
            (vec![toleration(None, Some("NoExecute"))], 0),
            (vec![toleration(None, None)], 0),
            (vec![toleration(Some(""), Some(""))], 0),
        ] {
            assert_eq!(ours(&own), expected, "{own:?}");
        }
    }
}
