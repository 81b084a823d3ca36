//! A broker as its Secret describes it, in the keys of RabbitMQ's Cluster Operator.
//!
//! | key | meaning | if missing |
//! | --- | --- | --- |
//! | `username`, `password` | an administrator | an error |
//! | `host` | where it is: the management API, and AMQP | an error |
//! | `nodes` | hosts of a cluster's nodes, separated by commas: servers connect to one of them, and to another one if that fails | `host` |
//! | `port` | AMQP | 5672, or 5671 with TLS |
//! | `managementPort` | management HTTP API | 15672, or 15671 with TLS |
//! | `vhost` | virtual host of the rooms | `/` |
//! | `tls` | `true` or `false`, for both ports | `true` if `port` is 5671 or there is a `ca.crt` |
//! | `ca.crt` | its certificate authority (PEM) | the system's |
//!
//! Other keys are ignored.

use std::iter;

use k8s_openapi::api::core::v1::Secret;
use papo_protocol::{BrokerUrl, ports};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986, section 2.3.
pub(super) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Where a broker is and who administers it.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub(super) username: String,
    pub(super) password: String,
    host: String,
    management_port: u16,
    vhost: String,
    urls: Vec<BrokerUrl>,
    tls: bool,
    ca: Option<String>,
}

impl Settings {
    /// Reads a Secret.
    pub fn parse(secret: &Secret) -> Result<Self, String> {
        let text = |key: &str| -> Result<Option<String>, String> {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            let text = bytes
                .map(|bytes| String::from_utf8(bytes.0.clone()))
                .transpose();
            let text = text.map_err(|_| format!("`{key}` is not UTF-8"))?;
            Ok(text.filter(|text| !text.is_empty()))
        };
        let needed = |key: &str| text(key)?.ok_or_else(|| format!("`{key}` is missing"));
        let port = |key: &str| -> Result<Option<u16>, String> {
            let parse = |text: String| {
                text.trim()
                    .parse()
                    .map_err(|_| format!("`{key}` is not a port"))
            };
            text(key)?.map(parse).transpose()
        };
        let (amqp_port, ca) = (port("port")?, text("ca.crt")?);
        let tls = match text("tls")?.as_deref().map(str::trim) {
            Some("true") => true,
            Some("false") => false,
            Some(_) => return Err("`tls` is neither `true` nor `false`".to_owned()),
            None => amqp_port == Some(ports::AMQPS) || ca.is_some(),
        };
        let host = needed("host")?.trim().to_owned();
        if !is_host(&host) {
            return Err("`host` is not a host name".to_owned());
        }
        let nodes = text("nodes")?.unwrap_or_default();
        let nodes = nodes.split(',').map(str::trim);
        let nodes: Vec<&str> = nodes.filter(|node| !node.is_empty()).collect();
        if nodes.len() > BrokerUrl::MOST {
            return Err(format!("`nodes` has more than {} hosts", BrokerUrl::MOST));
        }
        if !nodes.iter().all(|node| is_host(node)) {
            return Err("`nodes` is not a list of host names, separated by commas".to_owned());
        }
        let vhost = text("vhost")?.unwrap_or_else(|| "/".to_owned());
        if [".", ".."].contains(&vhost.as_str()) {
            return Err("`vhost` cannot be part of a URL".to_owned());
        }
        let amqp_port = amqp_port.unwrap_or(if tls { ports::AMQPS } else { ports::AMQP });
        let scheme = if tls { "amqps" } else { "amqp" };
        let path = utf8_percent_encode(&vhost, RESERVED);
        let url = |host: &str| {
            let url = format!("{scheme}://{host}:{amqp_port}/{path}").parse();
            url.map_err(|_| format!("{host:?} is not a host name"))
        };
        let hosts = if nodes.is_empty() {
            vec![host.as_str()]
        } else {
            nodes
        };
        let urls = hosts.into_iter().map(url).collect::<Result<_, _>>()?;
        Ok(Self {
            username: needed("username")?,
            password: needed("password")?,
            urls,
            host,
            management_port: port("managementPort")?.unwrap_or(if tls { 15671 } else { 15672 }),
            vhost,
            ca: ca.filter(|_| tls),
            tls,
        })
    }

    /// Where servers connect, without credentials: to one of these.
    pub fn urls(&self) -> &[BrokerUrl] {
        &self.urls
    }

    /// The broker's own certificate authority.
    pub fn ca(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// All its hosts, as the Secret names them.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        iter::once(self.host.as_str()).chain(self.urls.iter().map(BrokerUrl::host))
    }

    /// The virtual host of the rooms.
    pub(crate) fn vhost(&self) -> &str {
        &self.vhost
    }

    /// Whether both ports speak TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls
    }

    /// The management API.
    pub(crate) fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}/api", self.host, self.management_port)
    }
}

/// A name or an address without a port, which URLs keep as it is.
fn is_host(text: &str) -> bool {
    let url = format!("http://{text}/").parse::<reqwest::Url>();
    url.is_ok_and(|url| url.host_str() == Some(&text.to_ascii_lowercase()) && url.path() == "/")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Secret {
        let data = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
        Secret {
            data: Some(data.collect()),
            ..Secret::default()
        }
    }

    const CLUSTER_OPERATORS: [(&str, &str); 6] = [
        ("username", "u"),
        ("password", "p"),
        ("host", "mq.team.svc"),
        ("port", "5672"),
        ("provider", "rabbitmq"),
        ("type", "rabbitmq"),
    ];

    #[test]
    fn secret_of_the_cluster_operator_is_enough() {
        let settings = Settings::parse(&secret(&CLUSTER_OPERATORS)).expect("valid");
        assert_eq!(settings.endpoint(), "http://mq.team.svc:15672/api");
        assert_eq!(urls(&settings), ["amqp://mq.team.svc:5672/%2F"]);
    }

    #[test]
    fn servers_connect_to_the_nodes() {
        let with_nodes = [
            &CLUSTER_OPERATORS[..3],
            &[("nodes", "mq-0.mq, mq-1.mq,\n[::1],"), ("tls", "true")],
        ]
        .concat();
        let settings = Settings::parse(&secret(&with_nodes)).expect("valid");
        assert_eq!(settings.endpoint(), "https://mq.team.svc:15671/api");
        let expected = [
            "amqps://mq-0.mq:5671/%2F",
            "amqps://mq-1.mq:5671/%2F",
            "amqps://[::1]:5671/%2F",
        ];
        assert_eq!(urls(&settings), expected);
        BrokerUrl::check_nodes(settings.urls()).expect("the server accepts them");
        let hosts: Vec<&str> = settings.hosts().collect();
        assert_eq!(hosts, ["mq.team.svc", "mq-0.mq", "mq-1.mq", "::1"]);
    }

    #[test]
    fn wrong_or_too_many_nodes_are_an_error() {
        let many = vec!["mq"; BrokerUrl::MOST + 1].join(",");
        for (nodes, problem) in [
            (
                "mq-0:5672",
                "`nodes` is not a list of host names, separated by commas",
            ),
            (
                "mq-0 mq-1",
                "`nodes` is not a list of host names, separated by commas",
            ),
            (&many, "`nodes` has more than 16 hosts"),
        ] {
            let pairs = [&CLUSTER_OPERATORS[..3], &[("nodes", nodes)]].concat();
            let found = Settings::parse(&secret(&pairs)).err();
            assert_eq!(found.as_deref(), Some(problem), "{nodes}");
        }
    }

    fn urls(settings: &Settings) -> Vec<&str> {
        settings.urls().iter().map(BrokerUrl::as_str).collect()
    }

    #[test]
    fn certificate_authority_means_tls() {
        let with_ca = [
            &CLUSTER_OPERATORS[..3],
            &[("ca.crt", "PEM"), ("vhost", "a b")],
        ]
        .concat();
        let settings = Settings::parse(&secret(&with_ca)).expect("valid");
        assert_eq!(settings.endpoint(), "https://mq.team.svc:15671/api");
        assert_eq!(urls(&settings), ["amqps://mq.team.svc:5671/a%20b"]);
    }

    #[test]
    fn missing_or_wrong_key_is_named() {
        for (pairs, problem) in [
            (&CLUSTER_OPERATORS[..2], "`host` is missing"),
            (
                &[
                    ("username", "u"),
                    ("password", "p"),
                    ("host", "h"),
                    ("port", "x"),
                ],
                "`port` is not a port",
            ),
            (
                &[
                    ("username", "u"),
                    ("password", "p"),
                    ("host", "h"),
                    ("tls", "yes"),
                ],
                "`tls` is neither `true` nor `false`",
            ),
            (
                &[("username", "u"), ("password", "p"), ("host", "h/x")],
                "`host` is not a host name",
            ),
        ] {
            assert_eq!(
                Settings::parse(&secret(pairs)).err().as_deref(),
                Some(problem)
            );
        }
    }

    #[test]
    fn host_that_a_url_would_parse_differently_is_invalid() {
        for host in [
            "mq:5672", "mq/x", "a@mq", "m q", "m\tq", "mq?", "127.1", "%6d",
        ] {
            let pairs = [("username", "u"), ("password", "p"), ("host", host)];
            let problem = Settings::parse(&secret(&pairs)).err();
            assert_eq!(
                problem.as_deref(),
                Some("`host` is not a host name"),
                "{host:?}"
            );
        }
        for host in ["mq", "Mq.team.svc", "10.0.0.1", "[::1]", "a_b-c"] {
            let pairs = [("username", "u"), ("password", "p"), ("host", host)];
            assert!(Settings::parse(&secret(&pairs)).is_ok(), "{host:?}");
        }
        let dots = [&CLUSTER_OPERATORS[..3], &[("vhost", "..")]].concat();
        assert!(Settings::parse(&secret(&dots)).is_err());
    }
}
