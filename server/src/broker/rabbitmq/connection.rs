//! Connections to RabbitMQ: how they are made, and what a failure means to the person who started the server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lapin::{
    Channel, Connection, ConnectionBuilder, ConnectionProperties, ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError},
    tcp::OwnedTLSConfig,
    uri::{AMQPUri, AMQPUserInfo},
};
use papo_protocol::{BrokerUrl, Launch, RoomName};
use tokio::{sync::Mutex, time::timeout};

use crate::broker::ReadError;

/// Seconds between heartbeats unless the URL says otherwise. A dead peer is noticed within two of them.
const HEARTBEAT: u16 = 5;
/// How long connecting may take, from TCP to an open AMQP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a broker that answers at all may take for one method.
pub(super) const METHOD_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// The AMQP client cannot use the URL.
    #[error("--broker {url} is not usable: {cause}")]
    Url {
        /// The URL without its password.
        url: BrokerUrl,
        /// Why.
        cause: String,
    },
    /// RabbitMQ does not answer.
    #[error("cannot reach RabbitMQ at {url}: {cause}; is it running, and is --broker right?")]
    Unreachable {
        /// The URL without its password.
        url: BrokerUrl,
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

impl From<ReadError> for ConnectError {
    fn from(error: ReadError) -> Self {
        Self::Topology(error)
    }
}

/// Makes connections, each with the credentials that the files hold then.
#[derive(Debug)]
pub(super) struct Connector {
    url: BrokerUrl,
    uri: AMQPUri,
    credentials: Option<PathBuf>,
    certificate_authority: Option<String>,
    room: RoomName,
}

impl Connector {
    pub(super) fn new(launch: &Launch) -> Result<Self, ConnectError> {
        let url = launch.broker.clone().unwrap_or_else(|| {
            "amqp://localhost"
                .parse()
                .expect("a constant that is a valid URL")
        });
        let mut uri: AMQPUri = url.as_str().parse().map_err(|cause| ConnectError::Url {
            url: url.clone(),
            cause,
        })?;
        uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT));
        let certificate_authority = launch.broker_ca.as_deref().map(read_file).transpose()?;
        Ok(Self {
            url,
            uri,
            credentials: launch.broker_credentials.clone(),
            certificate_authority,
            room: launch.room.clone(),
        })
    }

    /// Connects once. The broker shows the connection with its `purpose`.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Connection, ConnectError> {
        let uri = self.uri_with_credentials()?;
        let user = uri.authority.userinfo.username.clone();
        let unreachable = |cause: String| ConnectError::Unreachable {
            url: self.url.clone(),
            cause,
        };
        let name = format!("papo-server {} {purpose}", self.room);
        let builder = ConnectionBuilder::new().map_err(|error| unreachable(error.to_string()))?;
        let builder = builder
            .with_uri(uri)
            .with_properties(ConnectionProperties::default().with_connection_name(name.into()))
            .with_tls_config(OwnedTLSConfig {
                identity: None,
                cert_chain: self.certificate_authority.clone(),
            });
        match timeout(CONNECT_TIMEOUT, builder.connect()).await {
            Err(_) => Err(unreachable(format!(
                "no answer within {} s",
                CONNECT_TIMEOUT.as_secs()
            ))),
            Ok(Err(error)) if is_rejection(&error) => Err(ConnectError::Rejected {
                url: self.url.clone(),
                user,
                cause: error.to_string(),
            }),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Ok(Ok(connection)) => Ok(connection),
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

fn is_rejection(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return false;
    };
    let rejections = [403, 530];
    rejections.contains(&error.get_id())
        || *error.kind() == AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
}

/// The connection that reads: made when it is needed, and again after it was lost.
#[derive(Debug)]
pub(super) struct Link {
    connector: Arc<Connector>,
    purpose: &'static str,
    connection: Mutex<Option<Connection>>,
}

impl Link {
    pub(super) fn new(connector: Arc<Connector>, purpose: &'static str) -> Self {
        Self {
            connector,
            purpose,
            connection: Mutex::new(None),
        }
    }

    /// A channel for the caller alone: an error on it affects no other caller.
    pub(super) async fn channel(&self) -> Result<Channel, ConnectError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| open.status().connected())
            && let Ok(Ok(channel)) = timeout(METHOD_TIMEOUT, open.create_channel()).await
        {
            return Ok(channel);
        }
        let open = connection.insert(self.connector.connect(self.purpose).await?);
        let unreachable = |cause: String| ConnectError::Unreachable {
            url: self.connector.url.clone(),
            cause,
        };
        let channel = timeout(METHOD_TIMEOUT, open.create_channel()).await;
        channel
            .map_err(|_| unreachable("no channel in time".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))
    }
}
