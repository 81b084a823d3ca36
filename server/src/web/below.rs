//! A room below a path: requests lose the path before anything else of the server sees them.

use std::{mem, sync::Arc};

use axum::{
    Router,
    extract::{OriginalUri, Request, State},
    http::{StatusCode, Uri, header::LOCATION},
    response::{IntoResponse, Response},
};
use papo_protocol::BasePath;
use tower::ServiceExt;

struct Below {
    base: BasePath,
    router: Router,
}

/// Serves a router below a path, and nothing else.
pub(super) fn below(base: &BasePath, router: Router) -> Router {
    if base.is_root() {
        return router;
    }
    let base = base.clone();
    Router::new()
        .fallback(serve)
        .with_state(Arc::new(Below { base, router }))
}

async fn serve(State(below): State<Arc<Below>>, mut request: Request) -> Response {
    let base = &below.base;
    if let Some(inner) = inner_uri(base, request.uri()) {
        // Another server, to which a request is forwarded, has the same path.
        let outer = mem::replace(request.uri_mut(), inner);
        request.extensions_mut().insert(OriginalUri(outer));
        let Ok(response) = below.router.clone().oneshot(request).await;
        return response;
    }
    if request.uri().path() == base.prefix() {
        let location = with_final_slash(base, request.uri().query());
        return (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response();
    }
    let message = format!("nothing here; the room is at {}\n", base.page());
    (StatusCode::NOT_FOUND, message).into_response()
}

/// The URI of a request as the router below the path sees it.
fn inner_uri(base: &BasePath, uri: &Uri) -> Option<Uri> {
    let path = base.below(uri.path())?;
    let path = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// A reference from the path without its final slash to that with it. It is relative, so that it also holds behind a proxy that has changed the
/// path. Without the slash, a browser would look for the page's files beside the path.
fn with_final_slash(base: &BasePath, query: Option<&str>) -> String {
    let last = base.prefix().rsplit('/').next().unwrap_or_default();
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("./{last}/{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BasePath {
        "/chat/geral".parse().expect("valid")
    }

    #[test]
    fn requests_below_the_path_lose_it() {
        for (uri, expected) in [
            ("/chat/geral/", Some("/")),
            ("/chat/geral/static/js/chat.js", Some("/static/js/chat.js")),
            ("/chat/geral/socket.io/?EIO=4", Some("/socket.io/?EIO=4")),
            (
                "http://a.example/chat/geral/?x",
                Some("http://a.example/?x"),
            ),
            ("/chat/geral", None),
            ("/chat/geralissimo/", None),
            ("/", None),
            ("/socket.io/?EIO=4", None),
            ("*", None),
        ] {
            let inner = inner_uri(&base(), &uri.parse().expect("a URI"));
            assert_eq!(
                inner.map(|uri| uri.to_string()).as_deref(),
                expected,
                "{uri}"
            );
        }
    }

    #[test]
    fn final_slash_is_added_relative_to_the_path() {
        assert_eq!(with_final_slash(&base(), None), "./geral/");
        assert_eq!(with_final_slash(&base(), Some("a=b")), "./geral/?a=b");
    }
}
