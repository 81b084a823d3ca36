//! Which other sites may connect: browsers do not keep a page from opening a WebSocket elsewhere, so the server must check
//! `Origin` itself (RFC 6455, 10.2). A client that is no browser sends none and passes.

use std::{str, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use papo_protocol::{AllowedOrigin, Origin, event::Code};

use super::cors::{Readers, preflight, share};
use crate::{broker::Broker, socket::SocketServer};

/// Rejects a request from an origin that is neither the page's own nor allowed, and lets browsers of allowed ones read the answer.
pub(super) async fn same_origin<B: Broker>(
    State(server): State<Arc<SocketServer<B>>>,
    request: Request,
    next: Next,
) -> Response {
    let (authority, allowed) = (request.uri().authority(), &server.launch().allow_origin);
    let readers = match readers(authority, request.headers(), allowed) {
        Ok(readers) => readers,
        Err(origin) => {
            let message = format!(
                "origin {origin} may not connect here; allow it with --allow-origin {origin}"
            );
            server.reject_request(Code::ForbiddenOrigin, &request, &message);
            let mut response = (StatusCode::FORBIDDEN, message + "\n").into_response();
            share(&mut response, &Readers::Own);
            return response;
        }
    };
    if let Some(response) = preflight(&request, &readers) {
        return response;
    }
    let mut response = next.run(request).await;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        share(&mut response, &readers);
    }
    response
}

/// Who may read the answer, or the origin that may not connect. The authority of an absolute URI replaces `Host` (RFC 9112, 3.2.2).
pub(crate) fn readers(
    authority: Option<&Authority>,
    headers: &HeaderMap,
    allowed: &[AllowedOrigin],
) -> Result<Readers, String> {
    let mut values = headers.get_all(ORIGIN).iter();
    let Some(value) = values.next() else {
        return Ok(Readers::Own);
    };
    // Programs that are no browser may send a host that is not in ASCII.
    let text = String::from_utf8_lossy(value.as_bytes());
    let origin = text.parse::<Origin>().ok();
    let origin = origin.filter(|_| values.next().is_none());
    let is_listed = |origin: &Origin| allowed.contains(&AllowedOrigin::One(origin.clone()));
    let is_own =
        |origin: &Origin| own_host(authority, headers).is_some_and(|host| origin.is_of_host(host));
    match origin {
        Some(origin) if is_listed(&origin) => Ok(Readers::Origin(value.clone())),
        _ if allowed.contains(&AllowedOrigin::Any) => Ok(Readers::Any),
        Some(origin) if is_own(&origin) => Ok(Readers::Own),
        Some(_) | None => Err(text.into_owned()),
    }
}

/// The host, and the port if one is given, by which the client reaches the server.
fn own_host<'a>(authority: Option<&'a Authority>, headers: &'a HeaderMap) -> Option<&'a str> {
    let header = || str::from_utf8(headers.get(HOST).map(HeaderValue::as_bytes)?).ok();
    authority.map(Authority::as_str).or_else(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers_of(origins: &[&[u8]], host: &str, allowed: &[&str]) -> Result<Readers, String> {
        let allowed = allowed.iter().map(|one| one.parse().expect("valid"));
        let allowed: Vec<AllowedOrigin> = allowed.collect();
        let mut headers = HeaderMap::new();
        headers.insert(
            HOST,
            HeaderValue::from_bytes(host.as_bytes()).expect("valid"),
        );
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_bytes(origin).expect("valid"));
        }
        readers(None, &headers, &allowed)
    }

    #[test]
    fn only_own_and_allowed_origins_may_connect() {
        let listed = |origin: &'static str| Ok(Readers::Origin(HeaderValue::from_static(origin)));
        assert_eq!(readers_of(&[], "a.example", &[]), Ok(Readers::Own));
        for origin in ["http://a.example:5000", "ws://A.example.:5000"] {
            let readers = readers_of(&[origin.as_bytes()], "a.example:5000", &[]);
            assert_eq!(readers, Ok(Readers::Own), "{origin}");
        }
        let own = readers_of(&[b"wss://chat.example"], "chat.example:443", &[]);
        assert_eq!(own, Ok(Readers::Own));
        for (origin, allowed) in [
            ("https://b.example", "HTTPS://B.example:443/"),
            ("https://xn--caf-dma.example", "https://café.example"),
            ("file://", "file://"),
            ("null", "null"),
        ] {
            let readers = readers_of(&[origin.as_bytes()], "a.example", &[allowed]);
            assert_eq!(readers, listed(origin), "{origin}");
        }
        let allowed = ["https://b.example"];
        for origin in [
            "https://c.example",
            "http://b.example",
            "http://a.example:5001",
            "https://b.example.evil.example",
            "null",
            "file://",
            "",
            "b.example",
        ] {
            let readers = readers_of(&[origin.as_bytes()], "a.example:5000", &allowed);
            assert_eq!(readers, Err(origin.to_owned()), "{origin}");
        }
    }

    #[test]
    fn host_that_is_not_ascii_is_the_same_host() {
        let origin = "https://café.example".as_bytes();
        for host in ["café.example", "CAFÉ.example", "xn--caf-dma.example:443"] {
            assert_eq!(readers_of(&[origin], host, &[]), Ok(Readers::Own), "{host}");
        }
    }

    #[test]
    fn star_allows_also_what_is_no_origin() {
        for origin in ["https://c.example", "null", "x"] {
            let readers = readers_of(&[origin.as_bytes()], "a.example", &["*"]);
            assert_eq!(readers, Ok(Readers::Any), "{origin}");
        }
    }

    #[test]
    fn two_origins_are_rejected() {
        let two: [&[u8]; 2] = [b"https://a.example", b"https://evil.example"];
        assert!(readers_of(&two, "a.example", &[]).is_err());
        assert!(readers_of(&two, "x.example", &["https://a.example"]).is_err());
    }

    #[test]
    fn authority_of_the_request_line_replaces_the_header() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("evil.example"));
        headers.insert(ORIGIN, HeaderValue::from_static("https://evil.example"));
        let authority = Authority::from_static("a.example");
        assert!(readers(Some(&authority), &headers, &[]).is_err());
        assert!(readers(None, &headers, &[]).is_ok());
    }
}
