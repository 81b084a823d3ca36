//! The command line, which the chart fills.

use std::{
    collections::BTreeMap,
    error::Error,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    str::FromStr,
};

use clap::{Args, Parser, Subcommand};
use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyPeer};
use papo_protocol::{TrustedProxies, limits, ports};
use papo_telemetry::LogFormat;
use serde::de::DeserializeOwned;

use crate::{
    broker::HostPattern,
    crd::{Access, ImagePullPolicy, ParentRef},
    validate,
};

/// Papo's operator: makes chat rooms of `ChatRoom` resources.
#[derive(Parser, Clone, Debug)]
#[command(name = "papo-operator", version, max_term_width = 100)]
pub struct Cli {
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Reconcile chat rooms until the process is asked to stop
    Run(Box<Run>),
    /// Remove the finalizers of all rooms, for an uninstallation: rooms stay, but while no operator runs, deleting one leaves its objects on the broker
    RemoveFinalizers(RemoveFinalizers),
    /// Print the definition of the ChatRoom resource as YAML
    Crd,
}

/// The namespaces of the rooms.
#[derive(Args, Clone, Debug)]
pub struct Namespaces {
    /// Only rooms of these namespaces; repeat or separate by commas. All namespaces if not given
    #[arg(
        long,
        env = "PAPO_OPERATOR_WATCH_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
}

impl Namespaces {
    /// Each namespace that is given, or `None`, which means all, if none is.
    pub fn each(&self) -> Vec<Option<&str>> {
        let given = self.watch_namespaces.iter().map(String::as_str);
        let named: Vec<_> = given.filter(|name| !name.is_empty()).map(Some).collect();
        if named.is_empty() { vec![None] } else { named }
    }
}

/// The rooms whose finalizers are removed.
#[derive(Args, Clone, Debug)]
pub struct RemoveFinalizers {
    /// The rooms whose finalizers are removed
    #[command(flatten)]
    pub namespaces: Namespaces,
    /// Do nothing while this Deployment exists and is not being deleted: its operator is installed. Helm runs this command after it has deleted
    /// the operator, but tools that apply all manifests of the chart run it at once
    #[arg(
        long,
        env = "PAPO_OPERATOR_UNLESS_DEPLOYMENT",
        value_name = "NAMESPACE/NAME"
    )]
    pub unless_deployment: Option<DeploymentRef>,
}

/// Settings of the operator.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Defaults of rooms
    #[command(flatten)]
    pub defaults: Defaults,
    /// Bounds on the rooms' brokers
    #[command(flatten)]
    pub broker_bounds: BrokerBounds,
    /// Leader election
    #[command(flatten)]
    pub lease: Lease,
    /// The namespaces of the rooms
    #[command(flatten)]
    pub namespaces: Namespaces,

    /// Time after which the operator reconciles a room in which nothing has changed, in seconds
    #[arg(long, env = "PAPO_OPERATOR_RESYNC_PERIOD", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub resync_period: u32,
    /// Time after the last progress for which the operator tries to clear the broker of a deleted room before it removes the finalizer, puts the
    /// room on a list, and tries again later, in seconds
    #[arg(long, env = "PAPO_OPERATOR_CLEANUP_TIMEOUT", value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(0..=604_800))]
    pub cleanup_timeout: u32,
    /// Time for which rooms may wait without any reconcile finishing before `/readyz` fails, in seconds
    #[arg(long, env = "PAPO_OPERATOR_STALL_TIMEOUT", value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub stall_timeout: u32,
    /// Rooms that the operator reconciles concurrently
    #[arg(long, env = "PAPO_OPERATOR_CONCURRENCY", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub concurrency: u16,
    /// Address of probes and metrics. `[::]` is every address of the machine, IPv4 and IPv6
    #[arg(long, env = "PAPO_OPERATOR_ADMIN_LISTEN", value_name = "ADDR:PORT", default_value_t = SocketAddr::from((Ipv6Addr::UNSPECIFIED, ports::OPERATOR_ADMIN)))]
    pub admin_listen: SocketAddr,
    /// Log as text or JSON; text on a terminal and JSON otherwise if not given
    #[arg(long, env = "PAPO_OPERATOR_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What to log, in tracing's filter syntax: `info`, or `papo_operator=debug,warn`
    #[arg(
        long,
        env = "PAPO_OPERATOR_LOG_FILTER",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log_filter: String,
}

/// What rooms get unless their spec says otherwise.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Defaults of rooms")]
pub struct Defaults {
    /// Container image of the rooms' servers
    #[arg(long, env = "PAPO_OPERATOR_SERVER_IMAGE", value_name = "IMAGE")]
    pub server_image: String,
    /// When nodes pull it
    #[arg(long, env = "PAPO_OPERATOR_SERVER_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = pull_policy)]
    pub server_image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets (in the rooms' namespaces) to pull it with; repeat or separate by commas
    #[arg(
        long,
        env = "PAPO_OPERATOR_SERVER_IMAGE_PULL_SECRETS",
        value_name = "SECRET",
        value_delimiter = ','
    )]
    pub server_image_pull_secrets: Vec<String>,
    /// What the servers log, in tracing's filter syntax
    #[arg(
        long,
        env = "PAPO_OPERATOR_SERVER_LOG_FILTER",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub server_log_filter: String,
    /// Proxies whose `X-Forwarded-For` the servers trust: networks, addresses, and the words loopback, private and none, separated by commas
    #[arg(
        long,
        env = "PAPO_OPERATOR_SERVER_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        default_value_t = TrustedProxies::private()
    )]
    pub server_trusted_proxies: TrustedProxies,
    /// How long browsers use nothing but TLS for a room that they have reached over it, in seconds (HSTS); not told if 0. Only rooms with a
    /// certificate in their Ingress, or with an HTTPRoute
    #[arg(long, env = "PAPO_OPERATOR_SERVER_HSTS_MAX_AGE", value_name = "SECONDS", default_value_t = HSTS_MAX_AGE, value_parser = clap::value_parser!(u32).range(i64::from(limits::HSTS_MAX_AGE.min)..=i64::from(limits::HSTS_MAX_AGE.max)))]
    pub server_hsts_max_age: u32,
    /// Who may enter rooms, as a JSON object with the fields of `spec.access`. A field that a room sets replaces the one here; whom `denied` names here
    /// no room lets in
    #[arg(
        long,
        env = "PAPO_OPERATOR_SERVER_ACCESS",
        value_name = "JSON",
        default_value = "{}",
        value_parser = default_access
    )]
    pub server_access: Json<Access>,
    /// Secret with an administrator of the broker for rooms that name none
    #[arg(
        long,
        env = "PAPO_OPERATOR_BROKER_SECRET",
        value_name = "NAMESPACE/NAME"
    )]
    pub broker_secret: Option<SecretRef>,
    /// Domain of rooms with a route but without a host of their own: room `geral` of namespace `team` becomes geral-team.DOMAIN
    #[arg(long, env = "PAPO_OPERATOR_DOMAIN", value_name = "DOMAIN")]
    pub domain: Option<String>,
    /// Class of the rooms' Ingresses; the cluster's default if not given
    #[arg(long, env = "PAPO_OPERATOR_INGRESS_CLASS", value_name = "CLASS")]
    pub ingress_class: Option<String>,
    /// Annotations of the rooms' Ingresses, as a JSON object
    #[arg(
        long,
        env = "PAPO_OPERATOR_INGRESS_ANNOTATIONS",
        value_name = "JSON",
        default_value = "{}"
    )]
    pub ingress_annotations: Json<BTreeMap<String, String>>,
    /// Secret (in the rooms' namespaces) with the certificate of the rooms' Ingresses, such as a wildcard for the domain
    #[arg(long, env = "PAPO_OPERATOR_INGRESS_TLS_SECRET", value_name = "SECRET")]
    pub ingress_tls_secret: Option<String>,
    /// Gateways of the rooms' HTTPRoutes, as a JSON list of objects with `name` and optionally `namespace`, `sectionName` and `port`
    #[arg(
        long,
        env = "PAPO_OPERATOR_GATEWAY_PARENT_REFS",
        value_name = "JSON",
        default_value = "[]"
    )]
    pub gateway_parent_refs: Json<Vec<ParentRef>>,
    /// The rooms' NetworkPolicies
    #[command(flatten)]
    pub network: Network,
    /// What rooms may set of what concerns others
    #[command(flatten)]
    pub allowed: Allowed,
}

/// One year, as is usual.
const HSTS_MAX_AGE: u32 = 31_536_000;

/// What the rooms' NetworkPolicies allow.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The rooms' NetworkPolicies")]
pub struct Network {
    /// Who may read the servers' metrics, as a JSON list of peers of a NetworkPolicy. Pods of Prometheus if not given, nobody if it is empty
    #[arg(
        long,
        env = "PAPO_OPERATOR_SERVER_METRICS_FROM",
        value_name = "JSON",
        default_value = PROMETHEUS
    )]
    pub server_metrics_from: Json<Vec<NetworkPolicyPeer>>,
    /// What the servers may reach besides name servers and their broker, as a JSON list of egress rules of a NetworkPolicy
    #[arg(
        long,
        env = "PAPO_OPERATOR_SERVER_EGRESS_RULES",
        value_name = "JSON",
        default_value = "[]"
    )]
    pub server_egress_rules: Json<Vec<NetworkPolicyEgressRule>>,
    /// Let the servers reach everything
    #[arg(long, env = "PAPO_OPERATOR_SERVER_OPEN_EGRESS")]
    pub server_open_egress: bool,
}

/// Pods with the label that the Prometheus Operator and the charts of Prometheus set.
const PROMETHEUS: &str = r#"[{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}]"#;

/// What rooms may set although it concerns others: annotations command the ingress controller, and priority classes evict other pods.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What rooms may set")]
pub struct Allowed {
    /// Annotation that rooms may set on their Ingress: a key, or `PREFIX/*`; repeat or separate by commas. Those of --ingress-annotations are
    /// not affected
    #[arg(
        id = "allow-ingress-annotation",
        long = "allow-ingress-annotation",
        env = "PAPO_OPERATOR_ALLOW_INGRESS_ANNOTATIONS",
        value_name = "KEY",
        value_delimiter = ',',
        default_value = HARMLESS_ANNOTATIONS
    )]
    pub ingress_annotations: Vec<String>,
    /// Priority class that rooms may give their pods; repeat or separate by commas. None if not given
    #[arg(
        id = "allow-priority-class",
        long = "allow-priority-class",
        env = "PAPO_OPERATOR_ALLOW_PRIORITY_CLASSES",
        value_name = "CLASS",
        value_delimiter = ','
    )]
    pub priority_classes: Vec<String>,
}

/// What WebSockets need of ingress controllers: to be forwarded (Contour), and time-outs longer than the pause between two heartbeats. None of
/// them changes where requests go, or adds configuration in the controller's language.
const HARMLESS_ANNOTATIONS: &str = "haproxy-ingress.github.io/timeout-tunnel,haproxy.org/timeout-tunnel,\
nginx.ingress.kubernetes.io/proxy-read-timeout,nginx.ingress.kubernetes.io/proxy-send-timeout,\
projectcontour.io/response-timeout,projectcontour.io/websocket-routes";

impl Allowed {
    /// Whether a room may set this annotation on its Ingress.
    pub fn has_ingress_annotation(&self, key: &str) -> bool {
        self.ingress_annotations
            .iter()
            .any(|allowed| match allowed.strip_suffix('*') {
                Some(prefix) if prefix.ends_with('/') => key.starts_with(prefix),
                _ => key == allowed,
            })
    }

    /// Whether a room may give its pods this priority class.
    pub fn has_priority_class(&self, class: &str) -> bool {
        self.priority_classes.iter().any(|allowed| class == allowed)
    }
}

/// Bounds on the rooms' brokers: a room's Secret may name any host.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Bounds on brokers")]
pub struct BrokerBounds {
    /// Host that rooms may name in the Secret of their broker: a name, an address, or `*.SUFFIX` for all names below it; repeat or separate by
    /// commas. Any host if not given. The broker of --broker-secret is always allowed
    #[arg(
        long = "allow-broker-host",
        env = "PAPO_OPERATOR_ALLOW_BROKER_HOSTS",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub allow_broker_hosts: Vec<HostPattern>,
    /// Time that all requests to a broker for one reconcile of a room may take together, in seconds
    #[arg(long, env = "PAPO_OPERATOR_BROKER_TIMEOUT", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=120))]
    pub broker_timeout: u32,
}

/// Leader election: of several operators, the one that holds the Lease reconciles rooms.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
pub struct Lease {
    /// Namespace of the Lease; that of the operator's pod, or of the kubeconfig's context, if not given
    #[arg(long, env = "PAPO_OPERATOR_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of the Lease
    #[arg(
        long,
        env = "PAPO_OPERATOR_LEASE_NAME",
        value_name = "NAME",
        default_value = "papo-operator"
    )]
    pub lease_name: String,
    /// Identity of this operator in the Lease; its host name, which is the name of its pod in a cluster, if not given
    #[arg(long, env = "PAPO_OPERATOR_LEASE_IDENTITY", value_name = "TEXT")]
    pub lease_identity: Option<String>,
    /// Time after which another operator takes a Lease that its leader does not renew, in seconds
    #[arg(long, env = "PAPO_OPERATOR_LEASE_DURATION", value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(5..=3_600))]
    pub lease_duration: u32,
}

/// A Secret in some namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The text is not a [`SecretRef`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a Secret is given as NAMESPACE/NAME")]
pub struct InvalidSecretRef;

impl FromStr for SecretRef {
    type Err = InvalidSecretRef;

    fn from_str(text: &str) -> Result<Self, InvalidSecretRef> {
        let (namespace, name) = namespaced(text).ok_or(InvalidSecretRef)?;
        Ok(Self { namespace, name })
    }
}

/// A Deployment in some namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The text is not a [`DeploymentRef`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a Deployment is given as NAMESPACE/NAME")]
pub struct InvalidDeploymentRef;

impl FromStr for DeploymentRef {
    type Err = InvalidDeploymentRef;

    fn from_str(text: &str) -> Result<Self, InvalidDeploymentRef> {
        let (namespace, name) = namespaced(text).ok_or(InvalidDeploymentRef)?;
        Ok(Self { namespace, name })
    }
}

impl std::fmt::Display for DeploymentRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Namespace and name of an object.
fn namespaced(text: &str) -> Option<(String, String)> {
    let (namespace, name) = text.split_once('/')?;
    let is_name = |text: &str| !text.is_empty() && !text.contains('/');
    (is_name(namespace) && is_name(name)).then(|| (namespace.to_owned(), name.to_owned()))
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A value given as JSON: the chart's values go through unchanged, whatever characters they hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromStr for Json<T> {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self)
    }
}

/// Defaults of access, if rooms could have them.
fn default_access(text: &str) -> Result<Json<Access>, Box<dyn Error + Send + Sync>> {
    let access: Json<Access> = text.parse()?;
    validate::check_default_access(&access.0)?;
    Ok(access)
}

fn pull_policy(text: &str) -> Result<ImagePullPolicy, serde_json::Error> {
    serde_json::from_value(text.into())
}

impl Lease {
    /// The identity given, or the host's name.
    pub fn identity(&self) -> String {
        let host = || std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"));
        self.lease_identity
            .clone()
            .or_else(|| host().ok().map(|name| name.trim().to_owned()))
            .unwrap_or_else(|| format!("pid-{}", std::process::id()))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn secret_ref_is_a_namespace_and_a_name() {
        let parsed: SecretRef = "papo/papo-broker".parse().expect("valid");
        assert_eq!(parsed.to_string(), "papo/papo-broker");
        for bad in ["", "papo", "/x", "x/", "a/b/c"] {
            assert_eq!(bad.parse::<SecretRef>(), Err(InvalidSecretRef), "{bad:?}");
        }
    }

    #[test]
    fn annotations_are_allowed_by_key_or_by_prefix() {
        let allowed = Allowed {
            ingress_annotations: vec![
                "a.example/x".to_owned(),
                "b.example/*".to_owned(),
                "*".to_owned(),
            ],
            ..Allowed::default()
        };
        for (key, expected) in [
            ("a.example/x", true),
            ("a.example/xy", false),
            ("b.example/anything", true),
            ("b.example.evil/x", false),
            ("c", false),
        ] {
            assert_eq!(allowed.has_ingress_annotation(key), expected, "{key}");
        }
    }

    #[test]
    fn default_annotations_are_a_list_of_keys() {
        let cli = Cli::parse_from(["papo-operator", "run", "--server-image", "papo-server"]);
        let Command::Run(run) = cli.command else {
            panic!("run was asked for");
        };
        let allowed = run.defaults.allowed;
        assert!(allowed.has_ingress_annotation("projectcontour.io/websocket-routes"));
        assert!(!allowed.has_ingress_annotation("nginx.ingress.kubernetes.io/server-snippet"));
        assert!(!allowed.has_priority_class("system-cluster-critical"));
    }

    #[test]
    fn rules_of_network_policies_are_those_of_kubernetes() {
        let arguments = [
            "papo-operator",
            "run",
            "--server-image=papo-server",
            r#"--server-egress-rules=[{"ports": [{"port": 4318}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]"#,
        ];
        let Command::Run(run) = Cli::parse_from(arguments).command else {
            panic!("run was asked for");
        };
        let Network {
            server_metrics_from,
            server_egress_rules,
            server_open_egress,
        } = run.defaults.network;
        let labels = server_metrics_from.0[0].pod_selector.as_ref();
        assert!(labels.is_some_and(|labels| labels.match_labels.is_some()));
        assert!(server_metrics_from.0[0].namespace_selector.is_some());
        let to = server_egress_rules.0[0].to.as_deref();
        assert!(to.is_some_and(|to| to[0].ip_block.is_some()));
        assert!(!server_open_egress);
    }

    #[test]
    fn parent_refs_are_those_of_the_gateway_api() {
        let refs: Json<Vec<ParentRef>> =
            r#"[{"name": "lab", "namespace": "default", "sectionName": "http"}]"#
                .parse()
                .expect("valid");
        assert_eq!(refs.0[0].section_name.as_deref(), Some("http"));
    }

    #[test]
    fn default_access_that_no_room_could_have_is_an_error() {
        let parse = |json: &str| {
            let access = format!("--server-access={json}");
            Cli::try_parse_from([
                "papo-operator",
                "run",
                "--server-image=papo-server",
                &access,
            ])
        };
        assert!(parse("{}").is_ok());
        assert!(parse(r#"{"guests": "Read", "write": ["group:staff"]}"#).is_ok());
        for (json, words) in [
            (r#"{"guest": "Read"}"#, "unknown field `guest`"),
            (
                r#"{"write": ["staff"]}"#,
                "write: \"staff\" names nobody: it must be \"*\", \"group:NAME\" or \"subject:SUB\"",
            ),
        ] {
            let error = parse(json).expect_err("invalid").to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn empty_list_of_namespaces_means_all() {
        let cli = Cli::parse_from(["papo-operator", "run", "--server-image", "papo-server"]);
        let Command::Run(run) = cli.command else {
            panic!("run was asked for");
        };
        assert!(run.namespaces.watch_namespaces.is_empty());
        assert!(run.defaults.gateway_parent_refs.0.is_empty());
    }
}
