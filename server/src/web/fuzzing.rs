//! Fuzz target of what the server itself reads in the head of a request. hyper parses the rest.

use std::{net::IpAddr, str};

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Request,
    header::{HOST, IF_NONE_MATCH, ORIGIN, UPGRADE},
};
use papo_protocol::{HostPattern, Origin, TrustedProxies};

use super::{host, origin, page};
use crate::{address::Address, fuzzing::SEPARATOR, socket::has_session};

/// A peer's address, a query, and lines of a head: `Host`, `Origin`, `X-Forwarded-For` and others.
pub fn head(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == SEPARATOR);
    let mut text = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let peer = text().parse().unwrap_or(IpAddr::from([192, 0, 2, 1]));
    let query = text();
    let mut headers = HeaderMap::new();
    for line in parts {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next());
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.unwrap_or_default()),
        ) else {
            continue;
        };
        headers.append(name, value);
    }
    client(peer, &headers);
    hosts(&headers);
    let _ = page::is_known(&headers, &page::entity_tag("digest"));
    session(query);
}

/// Only a trusted peer can name another address, and only one that stands in the header.
fn client(peer: IpAddr, headers: &HeaderMap) {
    let none: TrustedProxies = "none".parse().expect("valid");
    let of_client = |trusted| Address::of_client(peer, headers, trusted);
    assert_eq!(of_client(&none), Address::from(peer));
    let private = TrustedProxies::private();
    let client = of_client(&private);
    if !private.contains(peer) {
        assert_eq!(client, Address::from(peer));
    }
    if client != Address::from(peer) {
        let values = headers.get_all("x-forwarded-for").into_iter();
        let mut named = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        let is_named = |part: &str| {
            let address = part.trim().trim_start_matches('[');
            let ends = address.match_indices([']', ':']).map(|(end, _)| end);
            ends.chain([address.len()])
                .filter_map(|end| address[..end].parse::<IpAddr>().ok())
                .any(|address| Address::from(address) == client)
        };
        assert!(named.any(is_named), "{client} is invented");
    }
}

/// A host or an origin that passes is one of those that are allowed.
fn hosts(headers: &HeaderMap) {
    let allowed: [HostPattern; 2] = ["chat.example", "*.sala.example"].map(|host| {
        let host: Result<HostPattern, _> = host.parse();
        host.expect("valid")
    });
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if host::rejection(None, headers, &allowed).is_none() {
        let host = text(HOST).expect("a host that was read").to_lowercase();
        // Behind user information, and without port and brackets.
        let host = host.rsplit_once('@').map_or(&*host, |(_, host)| host);
        let is_address = host.starts_with('[')
            || host
                .split(':')
                .next()
                .is_some_and(|host| host.parse::<IpAddr>().is_ok());
        let name = host.split(':').next().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_listed = name == "chat.example" || name.ends_with(".sala.example");
        assert!(is_address || name == "localhost" || is_listed, "{host:?}");
    }
    if headers.contains_key(ORIGIN) && origin::readers(None, headers, &[]).is_ok() {
        let text = |name: HeaderName| {
            let value = headers.get(name).map(HeaderValue::as_bytes);
            str::from_utf8(value.unwrap_or_default()).unwrap_or_default()
        };
        let parsed = |text: &str| text.parse::<Origin>().expect("an origin that was accepted");
        let origin = parsed(text(ORIGIN));
        let of_host = ["http", "https"].map(|scheme| parsed(&format!("{scheme}://{}", text(HOST))));
        assert!(of_host.contains(&origin), "{origin} {of_host:?}");
        assert_eq!(parsed(&origin.to_string()), origin);
    }
}

/// A request that opens a session names none.
fn session(query: &str) {
    let request = Request::get(format!("/socket.io/?{query}"))
        .header(UPGRADE, "websocket")
        .header(IF_NONE_MATCH, "*")
        .body(axum::body::Body::empty());
    if let Ok(request) = request {
        assert!(!(papo_engineio::is_session_request(&request) && has_session(&request)));
    }
}
