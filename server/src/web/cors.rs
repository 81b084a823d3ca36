//! The answers to browsers on other sites (the Fetch standard, 3.2: CORS). A WebSocket needs none of this; long-polling does.

use axum::{
    extract::Request,
    http::{
        HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
            ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
            ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
        },
    },
    response::{IntoResponse, Response},
};

/// How long a browser may keep the answer to a preflight, in seconds. Chromium keeps none longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// The methods of long-polling.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// Headers that scripts may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Which scripts may read an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Those of the page's own origin, which need no header.
    Own,
    /// Those of every origin, but not for requests with credentials.
    Any,
    /// Those of this origin too, in the words of its request. It may send the cookie of a load balancer with sticky sessions.
    Origin(HeaderValue),
}

/// The answer to a preflight request of an origin that is allowed; `None` for other requests.
pub(crate) fn preflight(request: &Request, readers: &Readers) -> Option<Response> {
    let headers = request.headers();
    let is_preflight = request.method() == Method::OPTIONS
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && *readers != Readers::Own;
    if !is_preflight {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // No header that a script may set means anything to the server.
    for requested in headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.append(ACCESS_CONTROL_ALLOW_HEADERS, requested.clone());
    }
    answer.append(VARY, HeaderValue::from(ACCESS_CONTROL_REQUEST_HEADERS));
    share(&mut response, readers);
    Some(response)
}

/// Says who may read an answer, and that this depends on the request's `Origin`.
pub(crate) fn share(response: &mut Response, readers: &Readers) {
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from(ORIGIN));
    let origin = match readers {
        Readers::Own => return,
        Readers::Any => HeaderValue::from_static("*"),
        Readers::Origin(origin) => {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            origin.clone()
        }
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::HeaderMap};

    use super::*;

    fn asked(method: Method, headers: &[(&'static str, &'static str)]) -> Request {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("valid")
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[test]
    fn preflight_of_an_allowed_origin_is_answered() {
        let request = asked(
            Method::OPTIONS,
            &[
                ("origin", "https://a.example"),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "x-a, x-b"),
            ],
        );
        let origin = HeaderValue::from_static("https://a.example");
        let answer = preflight(&request, &Readers::Origin(origin)).expect("a preflight");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let headers = answer.headers();
        for (name, expected) in [
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-allow-headers", "x-a, x-b"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "7200"),
        ] {
            assert_eq!(text(headers, name), Some(expected), "{name}");
        }
        let vary: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["access-control-request-headers", "origin"]);
        assert!(preflight(&request, &Readers::Own).is_none());
    }

    #[test]
    fn other_requests_are_no_preflight() {
        let is_preflight = |request| preflight(&request, &Readers::Any).is_some();
        assert!(!is_preflight(asked(Method::OPTIONS, &[])));
        let wanted = [("access-control-request-method", "GET")];
        assert!(!is_preflight(asked(Method::GET, &wanted)));
        assert!(is_preflight(asked(Method::OPTIONS, &wanted)));
    }

    #[test]
    fn answer_to_any_origin_allows_no_credentials() {
        let mut response = Response::default();
        share(&mut response, &Readers::Any);
        let headers = response.headers();
        assert_eq!(text(headers, "access-control-allow-origin"), Some("*"));
        assert_eq!(text(headers, "access-control-allow-credentials"), None);
        let mut own = Response::default();
        share(&mut own, &Readers::Own);
        assert_eq!(text(own.headers(), "access-control-allow-origin"), None);
        assert_eq!(text(own.headers(), "vary"), Some("origin"));
    }
}
