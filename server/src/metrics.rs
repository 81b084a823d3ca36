//! The server's metrics. They take plain values; labels have few values, none of them from clients.

use std::{fmt, time::Duration};

use papo_protocol::event::Code;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use crate::{access::AccessStatus, broker::BrokerConnection};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exceeded {
    bound: &'static str,
}

/// A bound on people that somebody has exceeded. `docs/limits.md` has their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Messages of one sender.
    SenderMessages,
    /// History requests, and resumes beyond the window, of one sender.
    SenderHistory,
    /// Typing signals of one sender.
    SenderTyping,
    /// New access tokens of one sender.
    SenderTokens,
    /// Messages of one address.
    AddressMessages,
    /// Bytes of texts of one address.
    AddressBytes,
    /// History requests, and resumes beyond the window, of one address.
    AddressHistory,
    /// Typing signals of one address.
    AddressTyping,
    /// New connections of one address.
    AddressConnects,
    /// CONNECT packets with an access token of one address.
    AddressSignIns,
    /// Connections of one address.
    AddressConnections,
    /// Connections of the server.
    Connections,
    /// Sockets of the server.
    Sockets,
    /// Sockets of one peer.
    PeerSockets,
    /// Time to the end of a socket's first request head.
    HeadTime,
    /// Size of a request head.
    HeadSize,
    /// Time for a request.
    RequestTime,
    /// Time for a client to read an answer.
    AnswerTime,
    /// Time from opening a connection to its CONNECT packet.
    ConnectTime,
    /// Size of a frame.
    FrameSize,
    /// What is kept for clients of an address, or for all.
    ClientMemory,
    /// Clients that wait to join.
    JoinQueue,
    /// Requests of one connection that wait.
    PendingRequests,
}

impl Bound {
    fn as_str(self) -> &'static str {
        match self {
            Self::SenderMessages => "sender_messages",
            Self::SenderHistory => "sender_history",
            Self::SenderTyping => "sender_typing",
            Self::SenderTokens => "sender_tokens",
            Self::AddressMessages => "address_messages",
            Self::AddressBytes => "address_bytes",
            Self::AddressHistory => "address_history",
            Self::AddressTyping => "address_typing",
            Self::AddressConnects => "address_connects",
            Self::AddressSignIns => "address_sign_ins",
            Self::AddressConnections => "address_connections",
            Self::Connections => "connections",
            Self::Sockets => "sockets",
            Self::PeerSockets => "peer_sockets",
            Self::HeadTime => "head_time",
            Self::HeadSize => "head_size",
            Self::RequestTime => "request_time",
            Self::AnswerTime => "answer_time",
            Self::ConnectTime => "connect_time",
            Self::FrameSize => "frame_size",
            Self::ClientMemory => "client_memory",
            Self::JoinQueue => "join_queue",
            Self::PendingRequests => "pending_requests",
        }
    }
}

/// What became of a request for a session of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// The other server has answered.
    Answered,
    /// The other server has upgraded the connection to a WebSocket.
    Upgraded,
    /// This server forwards as much as it may.
    Full,
    /// The other server does not answer, or has gone.
    Unreachable,
    /// The other server has not answered in time.
    Timeout,
    /// It has come to this server with a code that is no server's.
    Forged,
}

impl Forwarding {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Upgraded => "upgraded",
            Self::Full => "full",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Forged => "forged",
        }
    }
}

/// Seconds: from a broker on the same machine to one that is in trouble.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// The server's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Open connections, members or not.
    pub(crate) connections: Gauge,
    /// Clients that wait to join.
    pub(crate) joins_waiting: Gauge,
    /// Sockets of the public port, from `accept` on.
    pub(crate) sockets: Gauge,
    /// WebSockets that are forwarded to other servers.
    pub(crate) forwarded_websockets: Gauge,
    /// Reads of the past that run.
    pub(crate) past_reads: Gauge,
    /// Reads of the past that wait for a turn.
    pub(crate) past_reads_waiting: Gauge,
    past_reads_rejected: Counter,
    past_records_read: Counter,
    broker_up: Gauge,
    duplicates: Counter,
    received: Counter,
    delivered: Counter,
    published: Family<Outcome, Counter>,
    closed: Family<Reason, Counter>,
    rejected: Family<Reason, Counter>,
    forwarded: Family<Outcome, Counter>,
    signed_in: Family<Kind, Counter>,
    tokens_rejected: Family<Reason, Counter>,
    tokens_refreshed: Counter,
    tokens_expired: Counter,
    bounds_exceeded: Family<Exceeded, Counter>,
    publish_seconds: Histogram,
    read_lag_seconds: Histogram,
    delivery_seconds: Histogram,
}

impl Metrics {
    /// Metrics that are registered, all with the prefix `papo_`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            connections: Gauge::default(),
            joins_waiting: Gauge::default(),
            sockets: Gauge::default(),
            forwarded_websockets: Gauge::default(),
            past_reads: Gauge::default(),
            past_reads_waiting: Gauge::default(),
            past_reads_rejected: Counter::default(),
            past_records_read: Counter::default(),
            broker_up: Gauge::default(),
            duplicates: Counter::default(),
            received: Counter::default(),
            delivered: Counter::default(),
            published: Family::default(),
            closed: Family::default(),
            rejected: Family::default(),
            forwarded: Family::default(),
            signed_in: Family::default(),
            tokens_rejected: Family::default(),
            tokens_refreshed: Counter::default(),
            tokens_expired: Counter::default(),
            bounds_exceeded: Family::default(),
            publish_seconds: Histogram::new(SECONDS),
            read_lag_seconds: Histogram::new(SECONDS),
            delivery_seconds: Histogram::new(SECONDS),
        };
        let papo = registry.sub_registry_with_prefix("papo");
        metrics.register_gauges(papo);
        papo.register(
            "past_reads_rejected",
            "Reads of the log before the window that were rejected because too many wait",
            metrics.past_reads_rejected.clone(),
        );
        papo.register(
            "past_records_read",
            "Records before the window that were read from the broker again",
            metrics.past_records_read.clone(),
        );
        papo.register(
            "duplicates",
            "Duplicates found in the log and hidden: second stored copies of a message",
            metrics.duplicates.clone(),
        );
        papo.register(
            "messages_received",
            "Messages received from clients",
            metrics.received.clone(),
        );
        papo.register(
            "messages_delivered",
            "Messages written to sockets",
            metrics.delivered.clone(),
        );
        papo.register(
            "messages_published",
            "Messages from clients, by outcome: stored, or the code of the rejection",
            metrics.published.clone(),
        );
        papo.register_with_unit(
            "publish",
            "From receiving a message to knowing its offset in the log",
            Unit::Seconds,
            metrics.publish_seconds.clone(),
        );
        papo.register_with_unit(
            "read_lag",
            "From a server receiving a message to this server reading it from the log",
            Unit::Seconds,
            metrics.read_lag_seconds.clone(),
        );
        papo.register_with_unit(
            "delivery",
            "From a server receiving a message to this server having written it to its members' sockets",
            Unit::Seconds,
            metrics.delivery_seconds.clone(),
        );
        metrics.register_forwarding(papo);
        metrics.register_bounds(papo);
        metrics.register_access(papo);
        metrics
    }

    fn register_access(&self, papo: &mut Registry) {
        papo.register(
            "sign_ins",
            "Members who have joined, by kind: token or guest",
            self.signed_in.clone(),
        );
        papo.register(
            "token_rejections",
            "Access tokens that were not accepted, by reason",
            self.tokens_rejected.clone(),
        );
        papo.register(
            "token_refreshes",
            "New access tokens that members have presented",
            self.tokens_refreshed.clone(),
        );
        papo.register(
            "token_expirations",
            "Connections that were closed because their access token has expired",
            self.tokens_expired.clone(),
        );
    }

    fn register_gauges(&self, papo: &mut Registry) {
        papo.register("connections", "Open connections", self.connections.clone());
        papo.register(
            "joins_waiting",
            "Clients that wait to join",
            self.joins_waiting.clone(),
        );
        papo.register(
            "past_reads",
            "Reads of the log before the window that run",
            self.past_reads.clone(),
        );
        papo.register(
            "past_reads_waiting",
            "Reads of the log before the window that wait for others",
            self.past_reads_waiting.clone(),
        );
        papo.register(
            "broker_up",
            "1 while the broker takes messages",
            self.broker_up.clone(),
        );
    }

    fn register_forwarding(&self, papo: &mut Registry) {
        papo.register(
            "forwarded_websockets",
            "Open WebSockets of other servers' sessions, which this server forwards",
            self.forwarded_websockets.clone(),
        );
        papo.register(
            "requests_forwarded",
            "Requests for a session of another server, by outcome",
            self.forwarded.clone(),
        );
    }

    /// Registers what says how near to their bounds people are, and when they have exceeded one.
    fn register_bounds(&self, papo: &mut Registry) {
        papo.register(
            "sockets",
            "Open sockets of the public port, counted from accept",
            self.sockets.clone(),
        );
        papo.register(
            "connections_closed",
            "Connections closed by the server, by reason",
            self.closed.clone(),
        );
        papo.register(
            "rejections",
            "Rejected connections and requests, by code",
            self.rejected.clone(),
        );
        papo.register(
            "bounds_exceeded",
            "Sockets, connections and requests that exceeded a bound, by bound",
            self.bounds_exceeded.clone(),
        );
    }

    /// A client sent a message.
    pub(crate) fn received(&self) {
        self.received.inc();
    }

    /// Sockets took messages.
    pub(crate) fn delivered(&self, count: u64) {
        self.delivered.inc_by(count);
    }

    /// A message was stored, or rejected with this code.
    pub(crate) fn published(&self, rejected: Option<Code>, took: Duration) {
        let outcome = rejected.map_or("stored", Code::as_str);
        self.published.get_or_create(&Outcome { outcome }).inc();
        if rejected.is_none() {
            self.publish_seconds.observe(took.as_secs_f64());
        }
    }

    /// The broker takes messages, or does not.
    pub(crate) fn broker_up(&self, is_up: bool) {
        self.broker_up.set(i64::from(is_up));
    }

    /// A read of the past was rejected.
    pub(crate) fn past_read_rejected(&self) {
        self.past_reads_rejected.inc();
    }

    /// So many records of the past were read from the broker.
    pub(crate) fn past_records_read(&self, records: usize) {
        self.past_records_read.inc_by(records as u64);
    }

    /// How many records of the past were read from the broker.
    #[cfg(test)]
    pub(crate) fn past_records(&self) -> u64 {
        self.past_records_read.get()
    }

    /// A duplicate was found in the log.
    pub(crate) fn duplicate(&self) {
        self.duplicates.inc();
    }

    /// A message was read from the log, this long after a server received it.
    pub(crate) fn read_lag(&self, lag: Duration) {
        self.read_lag_seconds.observe(lag.as_secs_f64());
    }

    /// A message was written to the sockets of a shard, this long after a server received it.
    pub(crate) fn delivery(&self, took: Duration) {
        self.delivery_seconds.observe(took.as_secs_f64());
    }

    /// The server closed a connection.
    pub(crate) fn connection_closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }

    /// A connection or a request was rejected.
    pub(crate) fn rejected(&self, code: Code) {
        self.rejected
            .get_or_create(&Reason {
                reason: code.as_str(),
            })
            .inc();
    }

    /// A member has joined.
    pub(crate) fn signed_in(&self, has_token: bool) {
        let kind = if has_token { "token" } else { "guest" };
        self.signed_in.get_or_create(&Kind { kind }).inc();
    }

    /// An access token was not accepted.
    pub(crate) fn token_rejected(&self, reason: &'static str) {
        self.tokens_rejected.get_or_create(&Reason { reason }).inc();
    }

    /// A member has presented a new access token.
    pub(crate) fn token_refreshed(&self) {
        self.tokens_refreshed.inc();
    }

    /// The access token of a member has expired, and its connection is closed.
    pub(crate) fn token_expired(&self) {
        self.tokens_expired.inc();
    }

    /// A request for a session of another server has had this outcome.
    pub(crate) fn forwarded(&self, forwarding: Forwarding) {
        let outcome = forwarding.as_str();
        self.forwarded.get_or_create(&Outcome { outcome }).inc();
    }

    /// Somebody exceeded a bound.
    pub(crate) fn exceeded(&self, bound: Bound) {
        let bound = bound.as_str();
        self.bounds_exceeded
            .get_or_create(&Exceeded { bound })
            .inc();
    }
}

/// Counts in a gauge until it is dropped.
pub(crate) struct Counted<'a> {
    gauge: &'a Gauge,
    /// What the gauge showed before.
    pub(crate) before: i64,
}

impl<'a> Counted<'a> {
    pub(crate) fn new(gauge: &'a Gauge) -> Self {
        let before = gauge.inc();
        Self { gauge, before }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Registers `papo_client_memory_bytes`, which is read whenever the metrics are.
pub(crate) fn register_client_memory(
    registry: &mut Registry,
    read: impl Fn() -> usize + Send + Sync + 'static,
) {
    registry.register_collector(Box::new(ClientMemory(read)));
}

/// Registers `papo_broker_connection` and `papo_broker_moves_total`, which are read whenever the metrics are.
pub(crate) fn register_broker_connections(
    registry: &mut Registry,
    read: impl Fn() -> Vec<BrokerConnection> + Send + Sync + 'static,
) {
    registry.register_collector(Box::new(BrokerConnections(read)));
}

/// Registers `papo_access_valid`, `papo_issuer_keys` and `papo_issuer_keys_age_seconds`, which are read whenever the metrics are.
pub(crate) fn register_access(
    registry: &mut Registry,
    read: impl Fn() -> AccessStatus + Send + Sync + 'static,
) {
    registry.register_collector(Box::new(AccessCollector(read)));
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfIssuer {
    issuer: String,
}

struct AccessCollector<F>(F);

impl<F: Fn() -> AccessStatus + Send + Sync + 'static> Collector for AccessCollector<F> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let AccessStatus {
            problem, issuers, ..
        } = (self.0)();
        let help = "1 while the access file can be used, or if there is none; otherwise 0";
        let valid =
            encoder.encode_descriptor("papo_access_valid", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(problem.is_none())).encode(valid)?;
        let label = |issuer: &str| OfIssuer {
            issuer: issuer.to_owned(),
        };
        let help = "Keys of an issuer that the server has";
        let mut keys =
            encoder.encode_descriptor("papo_issuer_keys", help, None, MetricType::Gauge)?;
        for status in &issuers {
            let known = i64::try_from(status.keys).unwrap_or(i64::MAX);
            keys.encode_family(&label(&status.issuer))?
                .encode_gauge(&known)?;
        }
        let help = "Time since the keys of an issuer were fetched";
        let seconds = Some(&Unit::Seconds);
        let mut ages =
            encoder.encode_descriptor("papo_issuer_keys_age", help, seconds, MetricType::Gauge)?;
        for status in &issuers {
            if let Some(age) = status.age {
                ages.encode_family(&label(&status.issuer))?
                    .encode_gauge(&age.as_secs_f64())?;
            }
        }
        Ok(())
    }
}

impl<F> fmt::Debug for AccessCollector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessCollector").finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectedTo {
    connection: &'static str,
    node: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Moved {
    connection: &'static str,
    reason: &'static str,
}

struct BrokerConnections<F>(F);

impl<F: Fn() -> Vec<BrokerConnection> + Send + Sync + 'static> Collector for BrokerConnections<F> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let connections = (self.0)();
        let help = "1 for each connection to the broker, with the node that it uses";
        let mut family =
            encoder.encode_descriptor("papo_broker_connection", help, None, MetricType::Gauge)?;
        for BrokerConnection { purpose, node, .. } in &connections {
            let Some(node) = node.clone() else { continue };
            let labels = ConnectedTo {
                connection: purpose,
                node,
            };
            family.encode_family(&labels)?.encode_gauge(&1_i64)?;
        }
        let help = "Moves of a connection to another node of the broker, by reason";
        let mut family =
            encoder.encode_descriptor("papo_broker_moves", help, None, MetricType::Counter)?;
        for connection in &connections {
            for (reason, moves) in &connection.moves {
                let labels = Moved {
                    connection: connection.purpose,
                    reason,
                };
                let mut counter = family.encode_family(&labels)?;
                counter.encode_counter::<NoLabelSet, _, u64>(moves, None)?;
            }
        }
        Ok(())
    }
}

impl<F> fmt::Debug for BrokerConnections<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerConnections").finish_non_exhaustive()
    }
}

struct ClientMemory<F>(F);

impl<F: Fn() -> usize + Send + Sync + 'static> Collector for ClientMemory<F> {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let help = "Memory kept for clients that do not read, or do not send the rest of a message";
        let bytes = i64::try_from((self.0)()).unwrap_or(i64::MAX);
        let encoder = encoder.encode_descriptor(
            "papo_client_memory",
            help,
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        ConstGauge::new(bytes).encode(encoder)
    }
}

impl<F> fmt::Debug for ClientMemory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientMemory").finish_non_exhaustive()
    }
}
