//! The public HTTP router: the page, and Socket.IO beside it. A browser loads nothing from anywhere else.

mod access;
mod below;
mod cors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod host;
mod hsts;
mod origin;
mod page;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware,
    response::Response,
    routing::get,
};
use papo_protocol::{Launch, ports::SOCKET_IO_PATH};
use tower_http::services::ServeDir;

use crate::{
    broker::Broker,
    socket::{SocketServer, admit, poll, upgrade},
};
use below::below;
use host::known_host;
use hsts::{Hsts, with_hsts};
use origin::same_origin;
use page::Page;

pub(crate) use cors::{preflight, share};
pub(crate) use origin::readers;

/// The page runs no inline code, loads nothing from other hosts and cannot be framed. A WebSocket to its own host is `'self'`
/// (CSP level 3). The page may also ask the issuer at which it signs people in. No text becomes code or markup: the page has no Trusted Types policy, which could make an exception.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'ISSUER; \
     manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";
/// What the page may not use, so that no script that got into it could: it uses none of the browser's devices.
const PERMISSIONS_POLICY: &str = "accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), fullscreen=(), \
     geolocation=(), gyroscope=(), hid=(), idle-detection=(), magnetometer=(), microphone=(), midi=(), payment=(), \
     picture-in-picture=(), publickey-credentials-get=(), screen-wake-lock=(), serial=(), usb=(), xr-spatial-tracking=()";

/// The page from `--web-root`, or the one built in, and Socket.IO: below `--base-path`.
pub(crate) fn router<B: Broker>(sockets: &Arc<SocketServer<B>>, launch: &Launch) -> Router {
    let socket_io = Router::new()
        .fallback(poll::<B>)
        .with_state(sockets.clone())
        .layer(middleware::from_fn_with_state(
            sockets.clone(),
            upgrade::<B>,
        ))
        .layer(middleware::from_fn_with_state(sockets.clone(), admit::<B>))
        .layer(middleware::from_fn_with_state(
            sockets.clone(),
            same_origin::<B>,
        ));
    let page = match &launch.web_root {
        Some(folder) => Router::new().fallback_service(ServeDir::new(folder)),
        None => Router::new()
            .route("/", get(index))
            .route("/{*path}", get(file))
            .with_state(Arc::new(Page::built_in())),
    };
    let page = page.merge(access::route(sockets));
    let page = page.layer(middleware::map_response_with_state(
        sockets.clone(),
        with_security_headers::<B>,
    ));
    let router = Router::new()
        .route(SOCKET_IO_PATH, socket_io_route(&socket_io))
        .route(&format!("{SOCKET_IO_PATH}/"), socket_io_route(&socket_io))
        .merge(page);
    let router = below(&launch.base_path, router).layer(middleware::from_fn_with_state(
        sockets.clone(),
        known_host::<B>,
    ));
    match Hsts::new(launch) {
        Some(header) => router.layer(middleware::from_fn_with_state(Arc::new(header), with_hsts)),
        None => router,
    }
}

fn socket_io_route(service: &Router) -> axum::routing::MethodRouter {
    axum::routing::any_service(service.clone())
}

async fn index(State(page): State<Arc<Page>>, headers: HeaderMap) -> Response {
    page.response("index.html", &headers)
}

async fn file(
    State(page): State<Arc<Page>>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    page.response(&path, &headers)
}

async fn with_security_headers<B: Broker>(
    State(sockets): State<Arc<SocketServer<B>>>,
    mut response: Response,
) -> Response {
    let policy = access::content_policy(sockets.access());
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, policy);
    let headers: [(HeaderName, &'static str); 4] = [
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            PERMISSIONS_POLICY,
        ),
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
