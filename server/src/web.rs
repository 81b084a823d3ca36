//! The public HTTP surface: the page, and Socket.IO beside it. Everything the browser may load comes from here.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
            ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use papo_protocol::ports::SOCKET_IO_PATH;
use rust_embed::{EmbeddedFile, RustEmbed};
use tower_http::services::ServeDir;

use crate::{
    broker::Broker,
    socket::{SocketServer, upgrade},
};

/// Nothing inline, nothing from elsewhere, no framing. A WebSocket to the page's own host is `'self'` (CSP level 3).
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "../web"]
struct Page;

/// The page from `web_root`, or the one built in, and Socket.IO.
pub(crate) fn router<B: Broker>(
    sockets: &Arc<SocketServer<B>>,
    web_root: Option<&PathBuf>,
    allow_origin: &[String],
) -> Router {
    let origins = Arc::new(allow_origin.to_vec());
    let socket_io = Router::new()
        .fallback_service(sockets.service())
        .layer(middleware::from_fn_with_state(sockets.clone(), upgrade::<B>))
        .layer(middleware::from_fn_with_state(origins, same_origin));
    let page = match web_root {
        Some(folder) => Router::new().fallback_service(ServeDir::new(folder)),
        None => Router::new()
            .route("/", get(index))
            .route("/{*path}", get(file)),
    };
    let page = page.layer(middleware::map_response(with_security_headers));
    // The engine looks at the whole path, so it is not nested.
    Router::new()
        .route(SOCKET_IO_PATH, socket_io_route(&socket_io))
        .route(&format!("{SOCKET_IO_PATH}/"), socket_io_route(&socket_io))
        .merge(page)
}

fn socket_io_route(service: &Router) -> axum::routing::MethodRouter {
    axum::routing::any_service(service.clone())
}

async fn index(headers: HeaderMap) -> Response {
    embedded("index.html", &headers)
}

async fn file(Path(path): Path<String>, headers: HeaderMap) -> Response {
    embedded(&path, &headers)
}

fn embedded(path: &str, request: &HeaderMap) -> Response {
    let Some(file) = Page::get(path) else {
        return (StatusCode::NOT_FOUND, "not found\n").into_response();
    };
    let tag = entity_tag(&file);
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    // Always asked again, and answered with 304: a new server's page is never mixed with an old one's script.
    let headers = [
        (ETAG, tag.clone()),
        (CACHE_CONTROL, "no-cache".to_owned()),
        (CONTENT_TYPE, content_type(kind.essence_str())),
    ];
    if request
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes())
    {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, file.data).into_response()
}

fn content_type(essence: &str) -> String {
    if essence.starts_with("text/") {
        format!("{essence}; charset=utf-8")
    } else {
        essence.to_owned()
    }
}

fn entity_tag(file: &EmbeddedFile) -> String {
    let digest = file.metadata.sha256_hash();
    format!(
        "\"{}\"",
        digest[..8]
            .iter()
            .fold(String::new(), |tag, byte| tag + &format!("{byte:02x}"))
    )
}

async fn with_security_headers(mut response: Response) -> Response {
    let headers: [(HeaderName, &'static str); 3] = [
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Browsers do not keep other sites from opening a WebSocket here; the server must look at `Origin` itself (RFC 6455, 10.2).
/// What is no browser sends none and passes.
async fn same_origin(
    State(allowed): State<Arc<Vec<String>>>,
    request: Request,
    next: Next,
) -> Response {
    match refused_origin(request.headers(), &allowed) {
        Some(origin) => {
            let message = format!(
                "origin {origin} may not connect here; allow it with --allow-origin {origin}\n"
            );
            (StatusCode::FORBIDDEN, message).into_response()
        }
        None => next.run(request).await,
    }
}

fn refused_origin(headers: &HeaderMap, allowed: &[String]) -> Option<String> {
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
    fn the_page_may_connect_to_its_own_host_and_others_when_allowed() {
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

    #[test]
    fn what_the_page_needs_is_built_in() {
        for path in ["index.html", "static/js/chat.js", "static/style.css"] {
            assert!(Page::get(path).is_some(), "{path}");
        }
    }
}
