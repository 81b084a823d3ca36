//! Connections to RabbitMQ: how they are made, to which node, and what a failure means to the person who started the server.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use lapin::{
    Channel, Connection, ConnectionProperties,
    runtime::default_runtime,
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::{AMQPScheme, AMQPUri, AMQPUserInfo},
};
use papo_protocol::{BrokerUrl, InvalidBrokerUrls, Launch, RoomName};
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::{debug, info};

use super::{
    majority,
    nodes::{Node, Nodes, Purpose},
    reaction::{Reaction, Reason, reaction},
};
use crate::broker::{BrokerConnection, ReadError};

/// Seconds between heartbeats unless the URL says otherwise. A dead peer is noticed within two of them.
const HEARTBEAT: u16 = 5;
/// How long connecting to one node may take, from TCP to an open AMQP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker that answers at all may take for one method.
pub(super) const METHOD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to show that it is among most nodes of its cluster.
const MAJORITY_TIMEOUT: Duration = Duration::from_secs(4);
/// How many nodes are tried for one connection.
const NODES_TRIED: usize = 4;

/// Why a server cannot start: cause and cure in one line.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file of the settings cannot be read.
    #[error("cannot read {path}: {cause}; is the path right?")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The URLs are not those of one broker.
    #[error(transparent)]
    Urls(#[from] InvalidBrokerUrls),
    /// The AMQP client cannot use the URL.
    #[error("--broker {url} is not usable: {cause}")]
    Url {
        /// The URL without its password.
        url: BrokerUrl,
        /// Why.
        cause: String,
    },
    /// RabbitMQ does not answer.
    #[error("cannot reach RabbitMQ at {urls}: {cause}; is it running, and is --broker right?")]
    Unreachable {
        /// The URLs without their passwords.
        urls: Urls,
        /// Why.
        cause: String,
    },
    /// RabbitMQ does not accept the user.
    #[error(
        "RabbitMQ at {url} rejects the user {user:?}: {cause}; check user, password and virtual host of --broker"
    )]
    Rejected {
        /// The URL without its password.
        url: BrokerUrl,
        /// The user.
        user: String,
        /// The broker's words.
        cause: String,
    },
    /// Connected, but the room's exchange or log does not exist.
    #[error("{0}")]
    Topology(ReadError),
}

impl ConnectError {
    /// Whether it lasts until a person corrects something.
    pub(super) fn must_be_corrected(&self) -> bool {
        match self {
            Self::File { .. } | Self::Urls(_) | Self::Url { .. } | Self::Rejected { .. } => true,
            Self::Unreachable { .. } => false,
            Self::Topology(error) => matches!(error, ReadError::Rejected(_)),
        }
    }
}

impl From<ReadError> for ConnectError {
    fn from(error: ReadError) -> Self {
        Self::Topology(error)
    }
}

/// The URLs of one broker, without their passwords.
#[derive(Clone, Debug)]
pub struct Urls(Vec<BrokerUrl>);

impl fmt::Display for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(f, "{}", texts.join(", "))
    }
}

/// Makes connections, each with the credentials that the files hold then.
#[derive(Debug)]
pub(super) struct Connector {
    urls: Vec<BrokerUrl>,
    /// What all URLs have in common.
    uri: AMQPUri,
    nodes: Nodes,
    credentials: Option<PathBuf>,
    certificate_authority: Option<String>,
    room: RoomName,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: Connection,
    pub(super) node: Node,
}

impl Connector {
    pub(super) fn new(launch: &Launch) -> Result<Self, ConnectError> {
        let mut urls = launch.broker.clone();
        if urls.is_empty() {
            let url = "amqp://localhost".parse();
            urls.push(url.expect("a constant that is a valid URL"));
        }
        BrokerUrl::check_nodes(&urls)?;
        let url = &urls[0];
        let mut uri: AMQPUri = url.as_str().parse().map_err(|cause| ConnectError::Url {
            url: url.clone(),
            cause,
        })?;
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT));
        let certificate_authority = launch.broker_ca.as_deref().map(read_file).transpose()?;
        Ok(Self {
            uri,
            nodes: Nodes::new(&urls),
            urls,
            credentials: launch.broker_credentials.clone(),
            certificate_authority,
            room: launch.room.clone(),
        })
    }

    /// Connects to one of the nodes. The broker shows the connection with its `purpose`.
    ///
    /// Hosts are resolved again each time. Nodes that have just failed come last.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Open, ConnectError> {
        let uri = self.uri_with_credentials()?;
        let nodes = self.nodes.resolve(purpose).await;
        let nodes = nodes.map_err(|cause| self.unreachable(cause))?;
        let (mut causes, mut rejection) = (Vec::new(), None);
        for node in nodes.into_iter().take(NODES_TRIED) {
            let user = uri.authority.userinfo.username.clone();
            let (reason, cause) = match self.connect_to(&node, uri.clone(), purpose.as_str()).await
            {
                Ok(connection) => {
                    self.nodes.connected(&node, purpose);
                    info!(connection = purpose.as_str(), %node, "connected to the broker");
                    return Ok(Open { connection, node });
                }
                Err(failure) => failure,
            };
            debug!(connection = purpose.as_str(), %node, cause, "cannot connect to a node of the broker");
            self.nodes.failed(&node, purpose, reason);
            if reason == Reason::Rejected {
                let url = self.urls[node.url].clone();
                rejection = Some(ConnectError::Rejected { url, user, cause });
            } else {
                causes.push((node, cause));
            }
        }
        let is_alone = causes.len() == 1;
        let cause = causes.into_iter().map(|(node, cause)| {
            if is_alone {
                cause
            } else {
                format!("{node}: {cause}")
            }
        });
        let cause: Vec<String> = cause.collect();
        Err(rejection.unwrap_or_else(|| self.unreachable(cause.join("; "))))
    }

    async fn connect_to(
        &self,
        node: &Node,
        uri: AMQPUri,
        purpose: &str,
    ) -> Result<Connection, (Reason, String)> {
        let name = format!("papo-server {} {purpose}", self.room);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let host = self.urls[node.url].host().to_owned();
        let (address, authority) = (node.address, self.certificate_authority.clone());
        let failed = |error: lapin::Error| match reaction(&error) {
            Reaction::Correct => (Reason::Rejected, error.to_string()),
            _ => (Reason::Unreachable, error.to_string()),
        };
        let runtime = default_runtime().map_err(failed)?;
        let connecting = Connection::connector(
            uri,
            runtime,
            // The node's own address; the certificate is of the URL's host.
            async move |uri, runtime| {
                let stream = AsyncTcpStream::connect(&runtime, address).await?;
                if uri.scheme == AMQPScheme::AMQP {
                    return Ok(stream);
                }
                let tls = OwnedTLSConfig {
                    identity: None,
                    cert_chain: authority.clone(),
                };
                Ok(stream.into_tls(&host, tls.as_ref()).await?)
            },
            properties,
        );
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Err(_) => Err((
                Reason::Timeout,
                format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            )),
            Ok(connected) => connected.map_err(failed),
        }
    }

    /// The node has failed this connection: the next one is to another node, if there is one.
    pub(super) fn failed(&self, node: &Node, purpose: Purpose, reason: Reason) {
        self.nodes.failed(node, purpose, reason);
    }

    /// Whether the node that the publisher uses stores what it gets.
    pub(super) fn set_storing(&self, node: &Node, is_storing: bool) {
        self.nodes.set_storing(node, is_storing);
    }

    /// Whether the node is among most nodes of its cluster; if not, why, as far as is known. On a connection of its own, because the broker stops
    /// reading from one that waits for many confirms.
    pub(super) async fn check_majority(&self, node: &Node) -> Result<(), String> {
        let check = async {
            let uri = self
                .uri_with_credentials()
                .map_err(|error| error.to_string())?;
            match self.connect_to(node, uri, "check").await {
                Ok(connection) => majority::create_queue(&connection, &self.room)
                    .await
                    .map_err(|error| error.to_string()),
                // A limit of connections, for example: nothing is known.
                Err((Reason::Rejected, _)) => Ok(()),
                Err((_, cause)) => Err(cause),
            }
        };
        let checked = timeout(MAJORITY_TIMEOUT, check.boxed()).await;
        let checked = checked.unwrap_or_else(|_| {
            Err(format!(
                "it has created no queue within {} s",
                MAJORITY_TIMEOUT.as_secs()
            ))
        });
        checked.map_err(|cause| {
            format!("the node may be cut off from most nodes of the broker: {cause}")
        })
    }

    /// Whether there is another node to go to.
    pub(super) fn has_others(&self) -> bool {
        self.nodes.has_others()
    }

    pub(super) fn connections(&self) -> Vec<BrokerConnection> {
        self.nodes.connections()
    }

    fn unreachable(&self, cause: String) -> ConnectError {
        ConnectError::Unreachable {
            urls: Urls(self.urls.clone()),
            cause,
        }
    }

    fn uri_with_credentials(&self) -> Result<AMQPUri, ConnectError> {
        let mut uri = self.uri.clone();
        if let Some(folder) = &self.credentials {
            let secret = |file: &str| {
                Ok::<_, ConnectError>(read_file(&folder.join(file))?.trim().to_owned())
            };
            uri.authority.userinfo = AMQPUserInfo {
                username: secret("username")?,
                password: secret("password")?,
            };
        }
        Ok(uri)
    }
}

fn read_file(path: &Path) -> Result<String, ConnectError> {
    fs::read_to_string(path).map_err(|cause| ConnectError::File {
        path: path.to_owned(),
        cause,
    })
}

/// The connection that reads: made when it is needed, and again after it was lost.
#[derive(Debug)]
pub(super) struct Link {
    connector: Arc<Connector>,
    current: Mutex<Option<Arc<Open>>>,
    /// One connection is made at a time.
    connecting: tokio::sync::Mutex<()>,
}

impl Link {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self {
            connector,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// A channel for the caller alone, and its connection: an error on it affects no other caller.
    pub(super) async fn channel(&self) -> Result<(Channel, Arc<Open>), ConnectError> {
        let _one_at_a_time = self.connecting.lock().await;
        let current = self.current.lock().clone();
        if let Some(open) = current {
            let is_connected = open.connection.status().connected();
            match timeout(METHOD_TIMEOUT, open.connection.create_channel()).await {
                Ok(Ok(channel)) => return Ok((channel, open)),
                Err(_) if is_connected => self.leave(&open, Reason::Timeout),
                _ => self.leave(&open, Reason::Lost),
            }
        }
        // The next node may be cut off from the others, as that one may have been.
        let was_silent = self.connector.nodes.was_silent(Purpose::Reader);
        let open = Arc::new(self.connector.connect(Purpose::Reader).await?);
        *self.current.lock() = Some(open.clone());
        if was_silent
            && self.has_others()
            && let Err(cause) = self.connector.check_majority(&open.node).await
        {
            self.leave(&open, Reason::Stalled);
            let cause = format!("{}: {cause}", open.node);
            return Err(self.connector.unreachable(cause));
        }
        let channel = timeout(METHOD_TIMEOUT, open.connection.create_channel()).await;
        let error = match channel {
            Ok(Ok(channel)) => return Ok((channel, open)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no channel in time".to_owned(),
        };
        self.leave(&open, Reason::Lost);
        Err(self.connector.unreachable(error))
    }

    /// Ends this connection, if it is the current one, for all who use it: they go on with the next one, to another node.
    pub(super) fn leave(&self, open: &Arc<Open>, reason: Reason) {
        {
            let mut current = self.current.lock();
            if !current.as_ref().is_some_and(|now| Arc::ptr_eq(now, open)) {
                return; // Somebody else has left it.
            }
            *current = None;
        }
        let node = &open.node;
        info!(%node, reason = reason.as_str(), "leaving a node of the broker");
        self.connector.failed(node, Purpose::Reader, reason);
        // The first poll queues the request. Nobody waits for the answer.
        let _ = open
            .connection
            .close(200, "leaving this node".into())
            .now_or_never();
    }

    /// Ends the current connection, if there is one.
    pub(super) fn leave_current(&self, reason: Reason) {
        let current = self.current.lock().clone();
        if let Some(open) = current {
            self.leave(&open, reason);
        }
    }

    /// Whether there is another node to go to.
    pub(super) fn has_others(&self) -> bool {
        self.connector.has_others()
    }

    /// Whether the node is among most nodes of its cluster, if there is another one to go to.
    pub(super) async fn can_serve(&self, node: &Node) -> bool {
        self.has_others() && self.connector.check_majority(node).await.is_ok()
    }

    /// Whether the broker has ever accepted a connection.
    pub(super) fn has_connected(&self) -> bool {
        self.connector.nodes.has_connected(Purpose::Reader)
    }
}
