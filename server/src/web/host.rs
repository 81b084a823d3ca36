//! By which hosts the server may be reached: a page of another site whose name resolves to this server (DNS rebinding) has the same
//! origin as the server in the eyes of a browser, and only the `Host` header says that the name is not the server's.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header::HOST, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use papo_protocol::{HostPattern, event::Code};

use crate::{broker::Broker, socket::SocketServer};

/// Rejects a request for a host that is not allowed (RFC 9110, 15.5.20). An empty list allows every host.
pub(super) async fn known_host<B: Broker>(
    State(server): State<Arc<SocketServer<B>>>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().get_all(HOST).iter().count() > 1 {
        // RFC 9112, 3.2: two readers could take different ones.
        let message = "the request has more than one host\n";
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    let (authority, allowed) = (request.uri().authority(), &server.launch().allow_host);
    match rejection(authority, request.headers(), allowed) {
        Some(message) => {
            server.reject_request(Code::UnknownHost, &request, message.trim_end());
            (StatusCode::MISDIRECTED_REQUEST, message).into_response()
        }
        None => next.run(request).await,
    }
}

/// Why a request is rejected. The authority of an absolute URI replaces the header (RFC 9112, 3.2.2).
pub(super) fn rejection(
    authority: Option<&Authority>,
    headers: &HeaderMap,
    allowed: &[HostPattern],
) -> Option<String> {
    if allowed.is_empty() {
        return None;
    }
    let header = || -> Option<Authority> { headers.get(HOST)?.to_str().ok()?.parse().ok() };
    let Some(authority) = authority.cloned().or_else(header) else {
        return Some("the request names no host, and --allow-host is given\n".to_owned());
    };
    let host = authority.host();
    (!is_allowed(host, allowed)).then(|| {
        format!("this server is not reached as {host}; allow it with --allow-host {host}\n")
    })
}

/// An IP address and `localhost` always are: no other site can make a browser take them for its own.
fn is_allowed(host: &str, allowed: &[HostPattern]) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok()
        || allowed.iter().any(|pattern| pattern.matches(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(host: &str, allowed: &[&str]) -> Option<String> {
        let patterns = allowed.iter().map(|one| one.parse().expect("valid"));
        let allowed: Vec<HostPattern> = patterns.collect();
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("visible"));
        rejection(None, &headers, &allowed)
    }

    #[test]
    fn foreign_hosts_are_rejected() {
        let allowed = ["chat.example.com", "*.sala.example"];
        for host in [
            "chat.example.com",
            "Chat.Example.com:8443",
            "a.sala.example",
            "localhost:5000",
            "127.0.0.1:5000",
            "10.0.0.7",
            "[::1]:5000",
        ] {
            assert_eq!(rejected(host, &allowed), None, "{host}");
        }
        for (host, named) in [
            ("evil.example:5000", "evil.example"),
            ("sala.example", "sala.example"),
            ("localhost.evil.example", "localhost.evil.example"),
            ("127.0.0.1.evil.example", "127.0.0.1.evil.example"),
            ("no host", "no host"),
        ] {
            let message = rejected(host, &allowed).expect("rejected");
            assert!(
                message.contains(named) && message.contains("--allow-host"),
                "{message}"
            );
        }
        let none = rejection(None, &HeaderMap::new(), &["a".parse().expect("valid")]);
        assert!(none.is_some_and(|message| message.contains("no host")));
    }

    #[test]
    fn authority_of_the_request_line_replaces_the_header() {
        let allowed = ["a.example".parse().expect("valid")];
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "a.example".parse().expect("visible"));
        let authority = Authority::from_static("evil.example");
        assert!(rejection(Some(&authority), &headers, &allowed).is_some());
    }

    #[test]
    fn empty_list_allows_every_host() {
        assert_eq!(rejected("evil.example", &[]), None);
    }
}
