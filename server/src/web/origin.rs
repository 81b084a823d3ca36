//! Which other sites may connect: browsers do not keep a page from opening a WebSocket elsewhere, so the server must check
//! `Origin` itself (RFC 6455, 10.2). A client that is no browser sends none and passes.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{HOST, ORIGIN},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Rejects a request from an origin that is neither the page's own nor allowed.
pub(super) async fn same_origin(
    State(allowed): State<Arc<Vec<String>>>,
    request: Request,
    next: Next,
) -> Response {
    match rejected_origin(request.headers(), &allowed) {
        Some(origin) => {
            let message = format!(
                "origin {origin} may not connect here; allow it with --allow-origin {origin}\n"
            );
            (StatusCode::FORBIDDEN, message).into_response()
        }
        None => next.run(request).await,
    }
}

pub(super) fn rejected_origin(headers: &HeaderMap, allowed: &[String]) -> Option<String> {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let origin = text(ORIGIN)?;
    (!is_allowed(origin, text(HOST).unwrap_or_default(), allowed)).then(|| origin.to_owned())
}

fn is_allowed(origin: &str, host: &str, allowed: &[String]) -> bool {
    let own = origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    own || allowed
        .iter()
        .any(|one| one == "*" || one.trim_end_matches('/') == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_and_allowed_origins_may_connect() {
        let allowed = ["https://b.example/".to_owned()];
        assert!(is_allowed("http://a.example:5000", "a.example:5000", &[]));
        assert!(is_allowed("https://b.example", "a.example", &allowed));
        assert!(is_allowed(
            "https://c.example",
            "a.example",
            &["*".to_owned()]
        ));
        assert!(!is_allowed("https://c.example", "a.example", &allowed));
        assert!(!is_allowed("http://a.example:5001", "a.example:5000", &[]));
        assert!(!is_allowed("null", "a.example", &[]));
    }
}
