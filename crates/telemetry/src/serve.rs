//! Serving HTTP until told to stop, and being told to stop.

use std::{future::Future, io};

use axum::{Router, serve::ListenerExt};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// Serves `router` until `shutdown` is cancelled and the requests under way are answered.
///
/// Connections that were upgraded (WebSocket) are no longer requests: whoever holds them ends them.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    // Small packets that must leave now are the rule here; a socket that refuses the option only serves more slowly.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// Resolves at the first SIGTERM or SIGINT, which from this call on no longer end the process by themselves.
///
/// Call it again after the first signal to let a second one cut a graceful shutdown short.
pub fn shutdown_signal() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "asked to stop");
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::Notify,
        time::timeout,
    };

    use super::*;

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
        let serving = tokio::spawn(serve(listener, router, shutdown.clone()));

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
        served.expect("no panic").expect("no error");
    }
}
