//! Ports and paths: where each program listens, and where probes and scrapers look.

/// The chat: page and Socket.IO. The port of the original.
pub const CHAT: u16 = 5000;
/// The server's admin listener: probes, metrics, stats.
pub const ADMIN: u16 = 5001;
/// The operator's admin listener.
pub const OPERATOR_ADMIN: u16 = 8080;
/// A broker's AMQP listener, unless its URL says otherwise.
pub const AMQP: u16 = 5672;
/// A broker's AMQP listener over TLS, unless its URL says otherwise.
pub const AMQPS: u16 = 5671;

/// Path of Socket.IO on the chat port.
pub const SOCKET_IO_PATH: &str = "/socket.io";
/// Is the process alive?
pub const LIVEZ: &str = "/livez";
/// Can it serve? Names what it waits for if it cannot.
pub const READYZ: &str = "/readyz";
/// Prometheus text format.
pub const METRICS: &str = "/metrics";
/// JSON for people: room, connections, offsets, epoch.
pub const STATS: &str = "/stats";
