//! The accept loop.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        StatusCode,
        header::{CONNECTION, HeaderValue},
    },
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    answer_timer::AnswerTimer,
    head_timer::{HeadTimer, IDLE_TIMEOUT},
    peer::{Peer, Peers},
};

/// The largest request head, in bytes.
pub const HEAD_SIZE: usize = 16 * 1024;
/// How long a request may take, its body included. Longer than a long-polling request waits.
pub const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Sockets of an admin listener.
const ADMIN_SOCKETS: usize = 96;
/// Sockets of an admin listener that one peer may have: one that takes all of its own does not keep the kubelet's probes out.
const ADMIN_SOCKETS_OF_PEER: usize = 24;
/// Sockets beyond the limit that are told so at once; further ones are closed without a word.
const REJECTIONS: usize = 32;
/// How long a client may take to read that there is no place for it.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// How soon to try again after a failure to accept.
const RETRY: Duration = Duration::from_millis(50);
/// What a client gets beyond the limit of sockets.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Type: text/plain\r\nContent-Length: 53\r\n\r\nserver_full: this server has no room; try again later";

/// The bounds of a listener.
pub struct Settings {
    /// Sockets that may be open at once.
    pub sockets: usize,
    /// Called with each accepted socket, to set its options.
    pub prepare: Box<dyn Fn(&TcpStream) + Send + Sync>,
    /// Sockets that this peer may have open at once.
    pub sockets_of: Box<dyn Fn(SocketAddr) -> usize + Send + Sync>,
    /// Called with 1 for each socket that gets a place, and with -1 when it no longer has one.
    pub on_count: Arc<dyn Fn(i64) + Send + Sync>,
    /// Called for each socket, or request, that exceeds a bound.
    pub on_exceeded: Box<dyn Fn(SocketAddr, Exceeded) + Send + Sync>,
}

/// A bound of a listener that a peer has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// [`Settings::sockets`]: the socket gets no place.
    Sockets,
    /// [`Settings::sockets_of`]: the socket gets no place.
    SocketsOfPeer,
    /// [`HEAD_TIMEOUT`](crate::HEAD_TIMEOUT): the socket is closed.
    HeadTime,
    /// [`HEAD_SIZE`]: the request is rejected, and the socket is closed.
    HeadSize,
    /// [`REQUEST_TIMEOUT`]: the request is rejected, and the socket is closed.
    RequestTime,
    /// [`ANSWER_TIMEOUT`](crate::ANSWER_TIMEOUT): the socket is closed.
    AnswerTime,
}

impl Settings {
    /// The bounds of an admin listener: few sockets, of those that are reserved.
    pub fn admin() -> Self {
        Self {
            sockets: ADMIN_SOCKETS,
            prepare: Box::new(|stream| {
                // A socket that refuses the option only serves more slowly.
                let _ = stream.set_nodelay(true);
            }),
            sockets_of: Box::new(|_| ADMIN_SOCKETS_OF_PEER),
            on_count: Arc::new(|_| {}),
            on_exceeded: Box::new(|peer, bound| {
                tracing::debug!(%peer, ?bound, "a client of the admin port has exceeded a bound");
            }),
        }
    }
}

/// Serves `router` until `shutdown` is cancelled and the requests under way are answered.
///
/// The extensions of each request have an [`Arc<Peer>`](Peer). Connections that were upgraded (WebSocket) are no longer requests: whoever holds
/// them ends them.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(settings.sockets.min(Semaphore::MAX_PERMITS)));
    let rejections = Arc::new(Semaphore::new(REJECTIONS));
    let served = Arc::new(Served {
        router,
        settings,
        shutdown,
    });
    let Served {
        settings, shutdown, ..
    } = &*served;
    // Dropped with this future, which ends all connections.
    let mut connections = JoinSet::new();
    let peers = Peers::new(settings.on_count.clone());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_client(&error) => continue,
            Err(error) => {
                tracing::error!(%error, "cannot accept connections; trying again");
                sleep(RETRY).await;
                continue;
            }
        };
        let permit = permits.clone().try_acquire_owned().ok();
        let bound = if permit.is_some() {
            Exceeded::SocketsOfPeer
        } else {
            Exceeded::Sockets
        };
        let peer = permit.and_then(|permit| {
            let most = (settings.sockets_of)(address);
            peers.add(address, most, permit)
        });
        let Some(peer) = peer else {
            (settings.on_exceeded)(address, bound);
            if let Ok(permit) = rejections.clone().try_acquire_owned() {
                connections.spawn(reject(stream, permit));
            }
            continue;
        };
        (settings.prepare)(&stream);
        connections.spawn(connection(stream, peer.into(), served.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Tells a client that there is no place for it. Its request is read and dropped: a reset would take the answer away before it is read.
async fn reject(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let rejected = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        let mut request = [0; 1_024];
        while stream.read(&mut request).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that does not read, or sends for ever, is closed all the same.
    let _ = timeout(REJECTION_TIMEOUT, rejected).await;
}

/// Whether the client went away between its SYN and `accept`.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// What all connections of a listener share.
struct Served {
    router: Router,
    settings: Settings,
    shutdown: CancellationToken,
}

/// Serves the requests of one connection.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Arc<Peer>,
    served: Arc<Served>,
) {
    let address = peer.address();
    let answers = AnswerTimer::new();
    let had_request = Arc::new(AtomicBool::new(false));
    let (of_service, requests, timer) = (served.clone(), had_request.clone(), answers.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (peer, served, timer) = (peer.clone(), of_service.clone(), timer.clone());
        requests.store(true, Ordering::Relaxed);
        timer.stop();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let answer = served.answer(address, request).await;
            timer.start();
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let serving = http1::Builder::new()
        .timer(HeadTimer::default())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_header_size(HEAD_SIZE)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = answers.elapsed() => {
            (served.settings.on_exceeded)(address, Exceeded::AnswerTime);
            return tracing::debug!("a client does not read its answer");
        }
        () = served.shutdown.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended with an error");
        // After a request the time-out only ends an idle connection.
        let is_first = !had_request.load(Ordering::Relaxed);
        if error.is_parse_too_large() {
            (served.settings.on_exceeded)(address, Exceeded::HeadSize);
        } else if error.is_timeout() && is_first {
            (served.settings.on_exceeded)(address, Exceeded::HeadTime);
        }
    }
}

impl Served {
    async fn answer(&self, address: SocketAddr, request: Request) -> Response {
        match timeout(REQUEST_TIMEOUT, self.router.clone().oneshot(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(infallible)) => match infallible {},
            Err(_) => {
                (self.settings.on_exceeded)(address, Exceeded::RequestTime);
                let mut response =
                    (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response();
                // What is left of the request's body is not read.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, atomic::AtomicI64},
        time::Duration,
    };

    use axum::{Extension, routing::get};
    use tokio::{sync::Notify, time::timeout};

    use super::*;
    use crate::answer_timer::ANSWER_TIMEOUT;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn request_under_way_is_answered_before_serving_ends() {
        let arrived: &'static Notify = Box::leak(Box::default());
        let answer: &'static Notify = Box::leak(Box::default());
        let router = Router::new().route(
            "/",
            get(async || {
                arrived.notify_one();
                answer.notified().await;
                "late"
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router, Settings::admin(), shutdown.clone()));

        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        timeout(LIMIT, arrived.notified())
            .await
            .expect("the request arrives");
        shutdown.cancel();
        answer.notify_one();

        let mut response = String::new();
        let read = stream.read_to_string(&mut response);
        timeout(LIMIT, read)
            .await
            .expect("in time")
            .expect("an answer");
        assert!(response.ends_with("late"), "{response}");
        let served = timeout(LIMIT, serving).await.expect("serving ends");
        served.expect("no panic");
    }

    /// How long a client that reads one byte a second keeps its connection.
    async fn dripping(body: impl Fn() -> Body + Clone + Send + Sync + 'static) -> Duration {
        let router = Router::new().route("/", get(async move || body()));
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let address = ([127, 0, 0, 1], 1).into();
        let peers = Peers::new(Arc::new(|_| {}));
        let peer = peers.add(address, 1, permit.expect("one"));
        let (mut client, server) = tokio::io::duplex(64);
        let began = tokio::time::Instant::now();
        let serving = connection(
            server,
            peer.expect("a place").into(),
            Arc::new(Served {
                router,
                settings: Settings::admin(),
                shutdown: CancellationToken::new(),
            }),
        );
        let reading = async {
            let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
            client.write_all(request).await.expect("sent");
            while client.read_u8().await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = serving => {}
            () = reading => {}
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn client_has_so_long_to_read_an_answer() {
        let chunk = || Ok::<_, io::Error>(vec![0; 65_536]);
        let endless = move || Body::from_stream(futures::stream::repeat_with(chunk));
        let kept = timeout(2 * ANSWER_TIMEOUT, dripping(endless)).await;
        assert!(kept.expect("in time") >= ANSWER_TIMEOUT);
        let one_piece = || Body::from(vec![0; 1 << 20]);
        let kept = timeout(2 * ANSWER_TIMEOUT, dripping(one_piece)).await;
        assert!(kept.expect("in time") >= IDLE_TIMEOUT);
    }

    #[test]
    fn answer_to_a_socket_too_many_is_http() {
        let text = std::str::from_utf8(FULL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
    }

    #[tokio::test]
    async fn socket_counts_while_somebody_holds_its_peer() {
        let (peers, mut held) = tokio::sync::mpsc::unbounded_channel();
        let router = Router::new().route(
            "/",
            get(async move |Extension(peer): Extension<Arc<Peer>>| {
                peers.send(peer).expect("the test runs");
                "held"
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (open, exceeded) = (
            Arc::new(AtomicI64::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (count, note) = (open.clone(), exceeded.clone());
        let settings = Settings {
            sockets: 1,
            on_count: Arc::new(move |change| {
                count.fetch_add(change, Ordering::Relaxed);
            }),
            on_exceeded: Box::new(move |_, bound| note.lock().expect("no panic").push(bound)),
            ..Settings::admin()
        };
        let serving = tokio::spawn(serve(listener, router, settings, CancellationToken::new()));
        assert!(request(address).await.ends_with("held"));
        assert_eq!(open.load(Ordering::Relaxed), 1);
        assert!(request(address).await.starts_with("HTTP/1.1 503"));
        assert_eq!(
            exceeded.lock().expect("no panic").first(),
            Some(&Exceeded::Sockets)
        );
        drop(held.recv().await.expect("a peer"));
        let again = async { while !request(address).await.ends_with("held") {} };
        timeout(LIMIT, again).await.expect("a place is free");
        assert_eq!(open.load(Ordering::Relaxed), 1);
        serving.abort();
    }

    #[tokio::test]
    async fn head_above_the_bound_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (exceeded, mut noted) = tokio::sync::mpsc::unbounded_channel();
        let settings = Settings {
            on_exceeded: Box::new(move |_, bound| exceeded.send(bound).expect("the test runs")),
            ..Settings::admin()
        };
        let serving = tokio::spawn(serve(
            listener,
            Router::new(),
            settings,
            CancellationToken::new(),
        ));
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let head = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nx: {}",
            "x".repeat(3 * HEAD_SIZE)
        );
        // The server may close the socket before it has read everything.
        let _ = stream.write_all(head.as_bytes()).await;
        let bound = timeout(LIMIT, noted.recv()).await.expect("in time");
        assert_eq!(bound, Some(Exceeded::HeadSize));
        serving.abort();
    }

    async fn request(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let _ = stream.write_all(request).await;
        let mut response = String::new();
        // The server may close the socket before it has read the request.
        let _ = timeout(LIMIT, stream.read_to_string(&mut response))
            .await
            .expect("in time");
        response
    }
}
