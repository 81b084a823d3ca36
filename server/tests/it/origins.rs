//! Browsers on other sites: which may connect, and what they may read (RFC 6454; the Fetch standard).

use reqwest::{Method, RequestBuilder, StatusCode};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, client::IntoClientRequest},
};

use crate::fixture::{Server, in_time};

/// The status of a WebSocket handshake with these headers.
async fn handshake(server: &Server, headers: &[(&'static str, &str)]) -> u16 {
    let url = format!(
        "ws://{}/socket.io/?EIO=4&transport=websocket",
        server.address
    );
    let mut request = url.into_client_request().expect("valid");
    for (name, value) in headers {
        let value = value.parse().expect("a header");
        request.headers_mut().insert(*name, value);
    }
    match in_time(Box::pin(connect_async(request))).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{headers:?}: {error}"),
    }
}

#[tokio::test]
async fn own_origin_is_the_same_in_every_form() {
    let server = Server::start(&[], &[]).await;
    for (host, origin, status) in [
        ("chat.example:443", "wss://chat.example", 101),
        ("chat.example", "https://chat.example:443", 101),
        ("chat.example:80", "http://chat.example", 101),
        ("Chat.Example", "https://chat.example.", 101),
        ("XN--caf-dma.example", "https://xn--caf-dma.example", 101),
        ("chat.example", "https://evil.example", 403),
        ("chat.example", "https://chat.example:8443", 403),
        ("chat.example", "null", 403),
    ] {
        let headers = [("host", host), ("origin", origin)];
        assert_eq!(handshake(&server, &headers).await, status, "{headers:?}");
    }
}

#[tokio::test]
async fn allowed_origins_are_the_same_in_every_form() {
    let allowed = "--allow-origin=HTTPS://A.example:443,file://,https://café.example";
    let server = Server::start(&[allowed], &[]).await;
    for (origin, status) in [
        ("https://a.example", 101),
        ("file://", 101),
        ("https://xn--caf-dma.example", 101),
        ("http://a.example", 403),
        ("null", 403),
    ] {
        let headers = [("origin", origin)];
        assert_eq!(handshake(&server, &headers).await, status, "{origin}");
    }
}

#[tokio::test]
async fn rejected_origins_and_hosts_are_counted() {
    let server = Server::start(&["--allow-host=chat.example"], &[]).await;
    for (header, status) in [
        (("origin", "https://evil.example"), 403),
        (("host", "evil.example"), 421),
    ] {
        assert_eq!(handshake(&server, &[header]).await, status);
    }
    let (_, metrics) = server.get("/metrics").await.expect("an answer");
    for reason in ["forbidden_origin", "unknown_host"] {
        let counted = format!("papo_rejections_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

/// A request for long-polling; `session` is empty, or `&sid=` and a session.
fn poll(server: &Server, method: Method, session: &str, origin: &str) -> RequestBuilder {
    let url = format!(
        "http://{}/socket.io/?EIO=4&transport=polling{session}",
        server.address
    );
    let request = reqwest::Client::new().request(method, url);
    request.header("origin", origin)
}

/// The status of an answer, and some of its headers.
async fn answer<const N: usize>(
    request: RequestBuilder,
    names: [&str; N],
) -> (StatusCode, [Option<String>; N]) {
    let answer = in_time(request.send()).await.expect("an answer");
    let value = |name: &str| answer.headers().get(name)?.to_str().ok().map(str::to_owned);
    (answer.status(), names.map(value))
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const CREDENTIALS: &str = "access-control-allow-credentials";

#[tokio::test]
async fn allowed_origin_may_read_the_answers_of_long_polling() {
    let flags = ["--long-polling", "--allow-origin=https://a.example"];
    let server = Server::start(&flags, &[]).await;
    let request = poll(&server, Method::GET, "", "https://a.example");
    let (status, headers) = answer(request, [ALLOW_ORIGIN, CREDENTIALS, "vary"]).await;
    assert_eq!(status, StatusCode::OK);
    let expected = ["https://a.example", "true", "origin"].map(|value| Some(value.to_owned()));
    assert_eq!(headers, expected);
    // A session that does not exist: the client must be able to read that.
    let request = poll(&server, Method::GET, "&sid=x", "https://a.example");
    let (status, headers) = answer(request, [ALLOW_ORIGIN]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(headers, [Some("https://a.example".to_owned())]);
    let request = poll(&server, Method::GET, "", "https://evil.example");
    let (status, headers) = answer(request, [ALLOW_ORIGIN, "vary"]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(headers, [None, Some("origin".to_owned())]);
}

#[tokio::test]
async fn preflight_requests_are_answered() {
    let flags = ["--long-polling", "--allow-origin=https://a.example"];
    let server = Server::start(&flags, &[]).await;
    let preflight = |origin| {
        let request = poll(&server, Method::OPTIONS, "", origin);
        request
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "x-custom")
    };
    let names = [
        ALLOW_ORIGIN,
        "access-control-allow-methods",
        "access-control-allow-headers",
    ];
    let (status, headers) = answer(preflight("https://a.example"), names).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let expected =
        ["https://a.example", "GET, POST", "x-custom"].map(|value| Some(value.to_owned()));
    assert_eq!(headers, expected);
    let (status, headers) = answer(preflight("https://evil.example"), names).await;
    assert_eq!(
        (status, headers),
        (StatusCode::FORBIDDEN, [None, None, None])
    );
}

#[tokio::test]
async fn any_origin_may_read_without_credentials() {
    let server = Server::start(&["--long-polling", "--allow-origin=*"], &[]).await;
    let request = poll(&server, Method::GET, "", "https://c.example");
    let (status, headers) = answer(request, [ALLOW_ORIGIN, CREDENTIALS]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers, [Some("*".to_owned()), None]);
}
