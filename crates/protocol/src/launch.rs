//! The settings of a server: one type that the server parses and the operator writes.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{ArgAction, Parser};

use crate::{
    AllowedOrigin, BasePath, Epoch, HostPattern, Limits, Origin, RoomName, TrustedProxies, limits,
    ports,
};

/// Serves one chat room: its page, and Socket.IO.
///
/// The room's messages are a log. Without --broker this process keeps the log, and it ends with the process. With --broker
/// amqp://... RabbitMQ keeps the log, and any number of servers share it.
#[derive(Parser, Clone, Debug, PartialEq)]
#[command(name = "papo-server", version, max_term_width = 100)]
pub struct Launch {
    /// Address of the page and Socket.IO. `[::]` is every address of the machine, IPv4 and IPv6
    #[arg(long, env = "PAPO_LISTEN", value_name = "ADDR:PORT", default_value_t = Self::default().listen)]
    pub listen: SocketAddr,
    /// Address of probes, metrics and statistics
    #[arg(long, env = "PAPO_ADMIN_LISTEN", value_name = "ADDR:PORT", default_value_t = Self::default().admin_listen)]
    pub admin_listen: SocketAddr,
    /// The room to serve
    #[arg(long, env = "PAPO_ROOM", value_name = "[NAMESPACE/]NAME", default_value_t = Self::default().room)]
    pub room: RoomName,
    /// Title of the page; the room's name if not given
    #[arg(long, env = "PAPO_TITLE", value_name = "TEXT")]
    pub title: Option<String>,
    /// Serve the page from this folder instead of the built-in one (to edit the page)
    #[arg(long, env = "PAPO_WEB_ROOT", value_name = "DIR")]
    pub web_root: Option<PathBuf>,
    /// Path of the page, as in /chat/geral: everything of the room is below it, Socket.IO too. For a proxy that forwards the path of a request as
    /// it is; the page needs no setting for one that removes this path
    #[arg(long, env = "PAPO_BASE_PATH", value_name = "PATH", default_value_t = Self::default().base_path)]
    pub base_path: BasePath,
    /// Accept Socket.IO's long-polling transport, with which clients begin by default
    #[arg(long, env = "PAPO_LONG_POLLING", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = Self::default().long_polling, default_missing_value = "true")]
    pub long_polling: bool,
    /// File with a secret of at least 32 bytes that all servers of the room have. With --advertise, a request for a long-polling session of
    /// another server is forwarded to it; without both, a balancer in front of several servers needs sticky sessions
    #[arg(long, env = "PAPO_SESSION_KEY", value_name = "FILE")]
    pub session_key: Option<PathBuf>,
    /// IP address at which the other servers of the room reach this one, at the port of --listen
    #[arg(long, env = Self::ADVERTISE_VARIABLE, value_name = "ADDR", requires = "session_key")]
    pub advertise: Option<IpAddr>,
    /// Accept browsers from these origins too, besides the page's own: `https://chat.example.com`, `file://`, `null`; repeat or separate by
    /// commas, `*` for any
    #[arg(
        long,
        env = "PAPO_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Vec<AllowedOrigin>,
    /// Accept requests for these hosts only, besides IP addresses and `localhost`; repeat or separate by commas, `*.DOMAIN` for all
    /// below it. Without this flag every host is accepted, also that of another site which resolves to this server
    #[arg(
        long,
        env = "PAPO_ALLOW_HOST",
        value_name = "HOST",
        value_delimiter = ','
    )]
    pub allow_host: Vec<HostPattern>,

    /// JSON file that says who may enter the room and what they may do there: issuers of access tokens, groups, guests. Everybody may read and
    /// write if not given. The server reads the file again when it changes
    #[arg(long, env = "PAPO_ACCESS", value_name = "FILE")]
    pub access: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` tells the address of a client: networks, addresses, and the words loopback, private and none, separated by commas
    #[arg(long, env = "PAPO_TRUSTED_PROXIES", value_name = "NETWORKS", default_value_t = Self::default().trusted_proxies)]
    pub trusted_proxies: TrustedProxies,
    /// Tell browsers that reach the server over TLS to use nothing else for this time, in seconds (HSTS). A trusted proxy ends TLS, and says so in
    /// `X-Forwarded-Proto`. Not sent if 0
    #[arg(long, env = "PAPO_HSTS_MAX_AGE", value_name = "SECONDS", default_value_t = limits::HSTS_MAX_AGE.default, value_parser = limits::HSTS_MAX_AGE.parser())]
    pub hsts_max_age: u32,

    /// File with the user of the Socket.IO Admin UI. With --admin-ui-password it switches on the namespace /admin on the admin listener
    #[arg(
        long,
        env = "PAPO_ADMIN_UI_USER",
        value_name = "FILE",
        help_heading = "Admin UI",
        requires = "admin_ui_password"
    )]
    pub admin_ui_user: Option<PathBuf>,
    /// File with the password of the Socket.IO Admin UI. Both files are read at every sign-in (a mounted Secret, so that rotation needs no restart)
    #[arg(
        long,
        env = "PAPO_ADMIN_UI_PASSWORD",
        value_name = "FILE",
        help_heading = "Admin UI",
        requires = "admin_ui_user"
    )]
    pub admin_ui_password: Option<PathBuf>,
    /// Origin of the web page of the Socket.IO Admin UI, as in `http://localhost:8080`; repeat or separate by commas
    #[arg(
        long,
        env = "PAPO_ADMIN_UI_ORIGIN",
        value_name = "ORIGIN",
        help_heading = "Admin UI",
        value_delimiter = ',',
        requires = "admin_ui_user"
    )]
    pub admin_ui_origin: Vec<Origin>,

    /// RabbitMQ to keep the log in: `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS. For the nodes of a cluster repeat it or
    /// separate by commas; the URLs differ in host and port only. The server resolves a host again at every connection, and uses each of its
    /// addresses
    #[arg(
        long,
        env = "PAPO_BROKER",
        value_name = "URL",
        help_heading = "Broker",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub broker: Vec<BrokerUrl>,
    /// Folder with files `username` and `password`, read at every connection (a mounted Secret, so that rotation needs no restart)
    #[arg(
        long,
        env = "PAPO_BROKER_CREDENTIALS",
        value_name = "DIR",
        help_heading = "Broker",
        requires = "broker"
    )]
    pub broker_credentials: Option<PathBuf>,
    /// PEM file with the certificate authority of an amqps:// broker, if the system does not know it
    #[arg(
        long,
        env = "PAPO_BROKER_CA",
        value_name = "FILE",
        help_heading = "Broker",
        requires = "broker"
    )]
    pub broker_ca: Option<PathBuf>,
    /// Create the room's exchange and stream if they are missing
    #[arg(
        long,
        env = "PAPO_DECLARE",
        help_heading = "Broker",
        requires = "broker",
        conflicts_with = "epoch"
    )]
    pub declare: bool,
    /// Epoch of the log to use: the operator created the log and sets this
    #[arg(
        long,
        env = "PAPO_EPOCH",
        value_name = "EPOCH",
        help_heading = "Broker",
        requires = "broker"
    )]
    pub epoch: Option<Epoch>,
    /// How long a message may wait for the broker's confirm, in seconds
    #[arg(long, env = "PAPO_PUBLISH_TIMEOUT", value_name = "SECONDS", help_heading = "Broker", default_value_t = limits::PUBLISH_TIMEOUT.default, value_parser = limits::PUBLISH_TIMEOUT.parser())]
    pub publish_timeout: u32,
    /// Size that the log keeps, in bytes, if it is created with --declare or kept in this process
    #[arg(long, env = "PAPO_RETENTION_BYTES", value_name = "BYTES", help_heading = "Broker", default_value_t = limits::DEFAULT_RETENTION_BYTES, value_parser = clap::value_parser!(u64).range(limits::MIN_RETENTION_BYTES..))]
    pub retention_bytes: u64,

    /// How long the server goes on reading the log after its last member has left, in seconds
    #[arg(long, env = "PAPO_READER_IDLE_TIMEOUT", value_name = "SECONDS", help_heading = "Broker", default_value_t = limits::READER_IDLE_TIMEOUT.default, value_parser = limits::READER_IDLE_TIMEOUT.parser())]
    pub reader_idle_timeout: u32,

    /// Limits on what clients may do
    #[command(flatten)]
    pub limits: Limits,
    /// Messages in a page of history
    #[arg(long, env = "PAPO_HISTORY_PAGE", value_name = "N", help_heading = "Limits", default_value_t = limits::HISTORY_PAGE.default, value_parser = limits::HISTORY_PAGE.parser())]
    pub history_page: u32,
    /// How long a connection that reads nothing is kept before the server closes it, in seconds
    #[arg(long, env = "PAPO_SLOW_READER_TIMEOUT", value_name = "SECONDS", help_heading = "Limits", default_value_t = limits::SLOW_READER_TIMEOUT.default, value_parser = limits::SLOW_READER_TIMEOUT.parser())]
    pub slow_reader_timeout: u32,
    /// How long the server takes to close all connections after SIGTERM, in seconds
    #[arg(long, env = "PAPO_DRAIN_PERIOD", value_name = "SECONDS", default_value_t = limits::DRAIN_PERIOD.default, value_parser = limits::DRAIN_PERIOD.parser())]
    pub drain_period: u32,
    /// Log format: text or json; if not given, text on a terminal and json otherwise
    #[arg(long, env = "PAPO_LOG_FORMAT", value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
    /// What is logged, in tracing's filter syntax: `info`, or `papo_server=debug,warn`
    #[arg(long, env = "PAPO_LOG_FILTER", value_name = "FILTER", default_value_t = Self::default().log_filter)]
    pub log_filter: String,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, ports::CHAT)),
            // Whoever reaches it learns about the room: by default only this machine can.
            admin_listen: SocketAddr::from(([127, 0, 0, 1], ports::ADMIN)),
            room: RoomName::new("default", "geral").expect("a constant that is a valid name"),
            title: None,
            web_root: None,
            base_path: BasePath::default(),
            long_polling: true,
            session_key: None,
            advertise: None,
            allow_origin: Vec::new(),
            allow_host: Vec::new(),
            access: None,
            trusted_proxies: TrustedProxies::loopback(),
            hsts_max_age: limits::HSTS_MAX_AGE.default,
            admin_ui_user: None,
            admin_ui_password: None,
            admin_ui_origin: Vec::new(),
            broker: Vec::new(),
            broker_credentials: None,
            broker_ca: None,
            declare: false,
            epoch: None,
            publish_timeout: limits::PUBLISH_TIMEOUT.default,
            retention_bytes: limits::DEFAULT_RETENTION_BYTES,
            reader_idle_timeout: limits::READER_IDLE_TIMEOUT.default,
            limits: Limits::default(),
            history_page: limits::HISTORY_PAGE.default,
            slow_reader_timeout: limits::SLOW_READER_TIMEOUT.default,
            drain_period: limits::DRAIN_PERIOD.default,
            log_format: None,
            // The server itself logs the errors of the AMQP client, with cause and cure.
            log_filter: "info,lapin=off".to_owned(),
        }
    }
}

impl Launch {
    /// The environment variable of `--advertise`: the operator does not know the address, and lets the kubelet set it.
    pub const ADVERTISE_VARIABLE: &str = "PAPO_ADVERTISE";

    /// Whether the server serves the Socket.IO Admin UI.
    pub fn has_admin_ui(&self) -> bool {
        self.admin_ui_user.is_some() && self.admin_ui_password.is_some()
    }

    /// The heading of the page.
    pub fn title(&self) -> &str {
        self.title.as_deref().unwrap_or(self.room.name())
    }

    /// How long a server may take to end after SIGTERM: it drains, then waits for the confirms of pending publishes.
    ///
    /// The operator writes it as the pod's termination grace period.
    pub fn grace_period(&self) -> Duration {
        Duration::from_secs(u64::from(self.drain_period) + u64::from(self.publish_timeout) + 5)
    }

    /// The environment variables that start a server with these settings: the operator writes them into a Deployment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let Self {
            listen,
            admin_listen,
            room,
            title,
            web_root,
            base_path,
            long_polling,
            session_key,
            advertise,
            allow_origin,
            allow_host,
            access,
            trusted_proxies,
            hsts_max_age,
            admin_ui_user,
            admin_ui_password,
            admin_ui_origin,
            broker,
            broker_credentials,
            broker_ca,
            declare,
            epoch,
            publish_timeout,
            retention_bytes,
            reader_idle_timeout,
            limits,
            history_page,
            slow_reader_timeout,
            drain_period,
            log_format,
            log_filter,
        } = self;
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let optional = [
            ("PAPO_TITLE", title.clone()),
            ("PAPO_WEB_ROOT", path(web_root)),
            (
                "PAPO_BASE_PATH",
                (!base_path.is_root()).then(|| base_path.to_string()),
            ),
            ("PAPO_SESSION_KEY", path(session_key)),
            (Self::ADVERTISE_VARIABLE, advertise.map(|ip| ip.to_string())),
            ("PAPO_ALLOW_ORIGIN", list(allow_origin)),
            ("PAPO_ALLOW_HOST", list(allow_host)),
            ("PAPO_ACCESS", path(access)),
            (
                "PAPO_HSTS_MAX_AGE",
                (*hsts_max_age > 0).then(|| hsts_max_age.to_string()),
            ),
            ("PAPO_ADMIN_UI_USER", path(admin_ui_user)),
            ("PAPO_ADMIN_UI_PASSWORD", path(admin_ui_password)),
            ("PAPO_ADMIN_UI_ORIGIN", list(admin_ui_origin)),
            (
                "PAPO_BROKER",
                joined(broker.iter().map(|url| url.as_str().to_owned())),
            ),
            ("PAPO_BROKER_CREDENTIALS", path(broker_credentials)),
            ("PAPO_BROKER_CA", path(broker_ca)),
            ("PAPO_DECLARE", declare.then(|| "true".to_owned())),
            ("PAPO_EPOCH", epoch.as_ref().map(ToString::to_string)),
            ("PAPO_LOG_FORMAT", log_format.clone()),
        ];
        let always = [
            ("PAPO_LISTEN", listen.to_string()),
            ("PAPO_ADMIN_LISTEN", admin_listen.to_string()),
            ("PAPO_ROOM", room.to_string()),
            ("PAPO_LONG_POLLING", long_polling.to_string()),
            ("PAPO_PUBLISH_TIMEOUT", publish_timeout.to_string()),
            ("PAPO_RETENTION_BYTES", retention_bytes.to_string()),
            ("PAPO_READER_IDLE_TIMEOUT", reader_idle_timeout.to_string()),
            ("PAPO_TRUSTED_PROXIES", trusted_proxies.to_string()),
            ("PAPO_HISTORY_PAGE", history_page.to_string()),
            ("PAPO_SLOW_READER_TIMEOUT", slow_reader_timeout.to_string()),
            ("PAPO_DRAIN_PERIOD", drain_period.to_string()),
            ("PAPO_LOG_FILTER", log_filter.clone()),
        ];
        let given = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let always = always.into_iter().chain(limits.environment());
        always.chain(given).collect()
    }
}

/// Values of a flag that may be repeated, as an environment variable has them; `None` if there are none.
fn list<T: ToString>(values: &[T]) -> Option<String> {
    joined(values.iter().map(ToString::to_string))
}

fn joined(texts: impl Iterator<Item = String>) -> Option<String> {
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// A RabbitMQ address: `amqp://` or `amqps://` with a host. Its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl(String);

/// Why a text is not a [`BrokerUrl`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidBrokerUrl {
    /// Not AMQP.
    #[error(
        "a broker URL begins with amqp:// or amqps://, as in amqp://guest:guest@localhost:5672; commas separate several URLs, and a comma in a password is written %2C"
    )]
    Scheme,
    /// No host.
    #[error("a broker URL names a host, as in amqp://guest:guest@localhost:5672")]
    Host,
    /// A character of a user, password or virtual host that must be percent-encoded: the password cannot be told from the rest.
    #[error(
        "user, password and virtual host of a broker URL are percent-encoded: %2F for /, %3F for ?, %40 for @"
    )]
    Encoding,
}

/// Why URLs are not those of the nodes of one broker.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidBrokerUrls {
    /// More than [`BrokerUrl::MOST`].
    #[error("--broker has {0} URLs, and at most {most} are allowed: name some nodes of the cluster, or one host that resolves to all", most = BrokerUrl::MOST)]
    TooMany(usize),
    /// They differ in what all nodes of a cluster have in common.
    #[error(
        "the URLs of --broker differ in more than host and port: {0} and {1}; give both the same scheme, user, password, virtual host and options, because a cluster has the same on all its nodes"
    )]
    Different(BrokerUrl, BrokerUrl),
}

impl BrokerUrl {
    /// Most URLs of one broker.
    pub const MOST: usize = 16;

    /// Checks that these are URLs of the nodes of one broker.
    pub fn check_nodes(urls: &[Self]) -> Result<(), InvalidBrokerUrls> {
        if urls.len() > Self::MOST {
            return Err(InvalidBrokerUrls::TooMany(urls.len()));
        }
        let Some((first, others)) = urls.split_first() else {
            return Ok(());
        };
        let different = others.iter().find(|url| url.common() != first.common());
        different.map_or(Ok(()), |url| {
            Err(InvalidBrokerUrls::Different(first.clone(), url.clone()))
        })
    }

    /// What is before the host, and what is after the port.
    fn common(&self) -> (&str, &str) {
        let authority = self.authority();
        let before = self.0.len() - self.after_scheme().len();
        let host = before + authority.rfind('@').map_or(0, |at| at + 1);
        (&self.0[..host], &self.0[before + authority.len()..])
    }

    fn after_scheme(&self) -> &str {
        self.0.split_once("://").unwrap_or_default().1
    }

    fn authority(&self) -> &str {
        self.after_scheme()
            .split(['/', '?'])
            .next()
            .unwrap_or_default()
    }

    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.authority().rsplit('@').next().unwrap_or_default();
        match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, _)) => address,
            None => host.split(':').next().unwrap_or_default(),
        }
    }

    /// The port of the broker.
    pub fn port(&self) -> u16 {
        let (scheme, _) = self.0.split_once("://").unwrap_or_default();
        let host = self.authority().rsplit('@').next().unwrap_or_default();
        // An IPv6 address without a port ends with a bracket, which is no number.
        let after = host.rsplit_once(':');
        let given = after.and_then(|(_, port)| port.parse().ok());
        let default = if scheme == "amqps" {
            ports::AMQPS
        } else {
            ports::AMQP
        };
        given.unwrap_or(default)
    }

    /// The URL with its credentials: for the AMQP client only.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidBrokerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBrokerUrl> {
        let rest = text
            .strip_prefix("amqp://")
            .or_else(|| text.strip_prefix("amqps://"))
            .ok_or(InvalidBrokerUrl::Scheme)?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            Err(InvalidBrokerUrl::Host)
        } else if rest[authority.len()..].contains('@') {
            Err(InvalidBrokerUrl::Encoding)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let host = rest[..authority_end].rfind('@').map_or(0, |at| at + 1);
        write!(f, "{scheme}://{}", &rest[host..])
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BrokerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::limits::AddressLimits;

    #[test]
    fn command_line_is_well_formed() {
        Launch::command().debug_assert();
    }

    #[test]
    fn no_arguments_give_the_defaults() {
        assert_eq!(Launch::parse_from(["papo-server"]), Launch::default());
    }

    #[test]
    fn environment_parses_to_the_same_settings() {
        let launch = Launch {
            title: Some("Sala".to_owned()),
            web_root: Some("/w".into()),
            base_path: "/chat/geral".parse().expect("valid"),
            long_polling: false,
            session_key: Some("/etc/papo/session-key".into()),
            advertise: Some("fd00::1".parse().expect("valid")),
            allow_origin: [
                "https://a.example",
                "HTTPS://b.example.:443",
                "file://",
                "null",
            ]
            .map(|origin| origin.parse().expect("valid"))
            .to_vec(),
            access: Some("/etc/papo/broker/access.json".into()),
            allow_host: ["a.example", "*.b.example"]
                .map(|host| host.parse().expect("valid"))
                .to_vec(),
            broker: ["amqp://mq-0:5672/%2f", "amqp://mq-1:5672/%2f"]
                .map(|url| url.parse().expect("valid"))
                .to_vec(),
            broker_credentials: Some("/etc/papo".into()),
            broker_ca: Some("/etc/ca.crt".into()),
            epoch: Some("e1".parse().expect("valid")),
            limits: Limits {
                message_length: 7,
                name_length: 8,
                messages_per_second: 9,
                message_burst: 10,
                history_per_second: 19,
                history_burst: 20,
                frame_size: 2_048,
                connections: 12,
                address: AddressLimits {
                    messages_per_second: 21,
                    message_burst: 22,
                    bytes_per_second: 2_300,
                    byte_burst: 300_000,
                    connections: Some(25),
                    connects_per_second: 26,
                    connect_burst: 27,
                },
            },
            trusted_proxies: "10.0.0.0/8".parse().expect("valid"),
            hsts_max_age: 600,
            admin_ui_user: Some("/etc/papo/admin/user".into()),
            admin_ui_password: Some("/etc/papo/admin/password".into()),
            admin_ui_origin: ["http://localhost:8080", "https://ui.example"]
                .map(|origin| origin.parse().expect("valid"))
                .to_vec(),
            history_page: 13,
            drain_period: 14,
            publish_timeout: 16,
            slow_reader_timeout: 17,
            reader_idle_timeout: 18,
            retention_bytes: 2_000_000,
            log_format: Some("json".to_owned()),
            ..Launch::default()
        };
        assert_eq!(parse_environment(&launch.environment()), launch);
        let declared = Launch {
            declare: true,
            epoch: None,
            ..launch
        };
        assert_eq!(parse_environment(&declared.environment()), declared);
    }

    /// Reads the environment as flags: the variables are named after them, and the test's own process stays as it is.
    fn parse_environment(environment: &[(&'static str, String)]) -> Launch {
        let command = Launch::command();
        let flags = environment.iter().map(|(name, value)| {
            let arg = command
                .get_arguments()
                .find(|a| a.get_env().is_some_and(|env| env == *name))
                .expect("a variable the server knows");
            let long = arg.get_long().expect("every argument is a flag");
            if arg.get_action().takes_values() {
                format!("--{long}={value}")
            } else {
                format!("--{long}")
            }
        });
        Launch::parse_from(std::iter::once("papo-server".to_owned()).chain(flags))
    }

    #[test]
    fn long_polling_is_on_unless_it_is_switched_off() {
        let parsed = |flags: &[&str]| {
            let arguments = ["papo-server"].iter().chain(flags);
            Launch::parse_from(arguments).long_polling
        };
        assert!(parsed(&[]) && parsed(&["--long-polling"]) && parsed(&["--long-polling=true"]));
        assert!(!parsed(&["--long-polling=false"]));
    }

    #[test]
    fn admin_ui_needs_user_and_password() {
        let parsed = |flags: &[&str]| {
            let arguments = ["papo-server"].iter().chain(flags);
            Launch::try_parse_from(arguments).map(|launch| launch.has_admin_ui())
        };
        let (user, password) = ("--admin-ui-user=u", "--admin-ui-password=p");
        assert_eq!(parsed(&[]).ok(), Some(false));
        assert_eq!(parsed(&[user, password]).ok(), Some(true));
        for flags in [&[user][..], &[password], &["--admin-ui-origin=http://a"]] {
            assert!(parsed(flags).is_err(), "{flags:?}");
        }
        assert!(parsed(&[user, password, "--admin-ui-origin=*"]).is_err());
    }

    #[test]
    fn broker_url_hides_its_password() {
        let url: BrokerUrl = "amqp://ana:s3cr3t@mq.example:5672/v?x=1"
            .parse()
            .expect("valid");
        assert_eq!(url.to_string(), "amqp://mq.example:5672/v?x=1");
        assert!(!format!("{url:?}").contains("s3cr3t"));
    }

    #[test]
    fn broker_url_has_a_port() {
        for (url, port) in [
            ("amqp://mq", 5672),
            ("amqps://mq/v", 5671),
            ("amqp://u:1@mq:7000/v", 7000),
            ("amqps://[::1]", 5671),
            ("amqp://[fd00::1]:7000", 7000),
        ] {
            let url: BrokerUrl = url.parse().expect("valid");
            assert_eq!(url.port(), port, "{url}");
        }
    }

    #[test]
    fn broker_url_has_a_host() {
        for (url, host) in [
            ("amqp://mq", "mq"),
            ("amqps://mq/v", "mq"),
            ("amqp://u:1@mq:7000/v", "mq"),
            ("amqps://[::1]", "::1"),
            ("amqp://u@[fd00::1]:7000?heartbeat=9", "fd00::1"),
        ] {
            let url: BrokerUrl = url.parse().expect("valid");
            assert_eq!(url.host(), host, "{url}");
        }
    }

    #[test]
    fn broker_urls_are_repeated_or_separated_by_commas() {
        let parsed = |flags: &[&str]| {
            let arguments = ["papo-server"].iter().chain(flags);
            Launch::try_parse_from(arguments).map(|launch| launch.broker.len())
        };
        let (one, other) = ("--broker=amqp://a", "--broker=amqp://b");
        assert_eq!(parsed(&[one]).ok(), Some(1));
        assert_eq!(parsed(&[one, other]).ok(), Some(2));
        assert_eq!(parsed(&["--broker=amqp://a,amqp://b"]).ok(), Some(2));
        let error = parsed(&["--broker=amqp://u:p,w@a"]).expect_err("a comma in a password");
        assert!(error.to_string().contains("%2C"), "{error}");
    }

    #[test]
    fn broker_urls_differ_only_in_host_and_port() {
        let check = |urls: &[&str]| {
            let urls: Vec<BrokerUrl> = urls.iter().map(|url| url.parse().expect("valid")).collect();
            BrokerUrl::check_nodes(&urls)
        };
        let first = "amqp://u:p@a:5672/v?heartbeat=9";
        for others in [
            &[][..],
            &["amqp://u:p@b/v?heartbeat=9"],
            &["amqp://u:p@[::1]:7000/v?heartbeat=9", first],
        ] {
            assert_eq!(check(&[&[first], others].concat()), Ok(()), "{others:?}");
        }
        for other in [
            "amqps://u:p@b/v?heartbeat=9",
            "amqp://x:p@b/v?heartbeat=9",
            "amqp://u:x@b/v?heartbeat=9",
            "amqp://b/v?heartbeat=9",
            "amqp://u:p@b/x?heartbeat=9",
            "amqp://u:p@b/v",
        ] {
            let error = check(&[first, other]).expect_err(other);
            assert!(!error.to_string().contains(":p@"), "{error}");
        }
        let many = vec!["amqp://a"; BrokerUrl::MOST + 1];
        assert_eq!(check(&many), Err(InvalidBrokerUrls::TooMany(17)));
        assert_eq!(check(&many[1..]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
    }

    #[test]
    fn invalid_broker_urls_are_rejected() {
        assert_eq!(
            "http://mq".parse::<BrokerUrl>(),
            Err(InvalidBrokerUrl::Scheme)
        );
        assert_eq!("amqp://".parse::<BrokerUrl>(), Err(InvalidBrokerUrl::Host));
        assert_eq!(
            "amqp://ana:s3/cr3t@mq".parse::<BrokerUrl>(),
            Err(InvalidBrokerUrl::Encoding)
        );
        assert_eq!(
            "amqp://user:pw@:5672".parse::<BrokerUrl>(),
            Err(InvalidBrokerUrl::Host)
        );
    }
}
