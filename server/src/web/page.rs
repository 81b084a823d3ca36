//! The page's files as they are built into the program.
//!
//! - A file is compressed when the program is built (`build.rs`), and only if that makes it smaller.
//! - Every representation has a strong entity tag of its own (RFC 9110, 8.8.3), made from its content. A browser asks each
//!   time and gets 304 for what it has, so a new server's page is never mixed with an old one's script.

use std::collections::HashMap;

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
            VARY,
        },
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;

/// A file that `build.rs` has built in.
struct BuiltIn {
    path: &'static str,
    /// Of the content.
    digest: &'static str,
    plain: &'static [u8],
    gzip: Option<&'static [u8]>,
}

static FILES: &[BuiltIn] = &include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// All files of the page, by path.
pub(super) struct Page(HashMap<&'static str, File>);

struct File {
    content_type: HeaderValue,
    plain: Representation,
    gzip: Option<Representation>,
}

/// A file's content in one encoding.
struct Representation {
    content: Bytes,
    entity_tag: HeaderValue,
    encoding: Option<&'static str>,
}

impl Page {
    /// The page that is built in.
    pub(super) fn built_in() -> Self {
        let files = FILES.iter().map(|file| (file.path, File::new(file)));
        Self(files.collect())
    }

    /// The response to a request for a path without its leading slash.
    pub(super) fn response(&self, path: &str, request: &HeaderMap) -> Response {
        match self.0.get(path) {
            Some(file) => file.response(request),
            None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
        }
    }
}

impl File {
    fn new(file: &BuiltIn) -> Self {
        let digest = file.digest;
        Self {
            content_type: content_type(file.path),
            gzip: file.gzip.map(|compressed| Representation {
                content: Bytes::from_static(compressed),
                entity_tag: entity_tag(&format!("{digest}-gzip")),
                encoding: Some("gzip"),
            }),
            plain: Representation {
                content: Bytes::from_static(file.plain),
                entity_tag: entity_tag(digest),
                encoding: None,
            },
        }
    }

    fn response(&self, request: &HeaderMap) -> Response {
        let chosen = match &self.gzip {
            Some(gzip) if accepts_gzip(request) => gzip,
            _ => &self.plain,
        };
        let mut response = if is_known(request, &chosen.entity_tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let mut response = Response::new(Body::from(chosen.content.clone()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, self.content_type.clone());
            if let Some(encoding) = chosen.encoding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            response
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, chosen.entity_tag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        response
    }
}

/// Whether `If-None-Match` names the entity tag: by weak comparison, in a list, or as `*` (RFC 9110, 13.1.2). The tags of the page have
/// no commas; those of others may have any bytes beyond ASCII (8.8.3).
pub(super) fn is_known(request: &HeaderMap, entity_tag: &HeaderValue) -> bool {
    let lines = request.get_all(IF_NONE_MATCH).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == entity_tag.as_bytes())
}

/// Whether `Accept-Encoding` takes gzip, by its name or by `*`, with a weight above zero and not below that of the plain content (RFC 9110,
/// 12.5.3).
fn accepts_gzip(request: &HeaderMap) -> bool {
    let lines = request.get_all(ACCEPT_ENCODING).into_iter();
    let codings = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|coding| {
            let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
            (name.trim().to_ascii_lowercase(), weight_of(weight))
        });
    let weights: HashMap<String, f32> = codings.collect();
    let weight = |name: &str| weights.get(name).copied();
    let gzip = ["gzip", "x-gzip", "*"].into_iter().find_map(weight);
    let plain = weight("identity").unwrap_or(0.0);
    gzip.is_some_and(|gzip| gzip > 0.0 && gzip >= plain)
}

/// The weight of a coding, `q=` and a number; 1 if there is none, or none that can be read.
fn weight_of(parameter: &str) -> f32 {
    let parameter = parameter.trim();
    let number = parameter
        .strip_prefix("q=")
        .or_else(|| parameter.strip_prefix("Q="));
    let weight = number.and_then(|number| number.trim().parse().ok());
    weight.unwrap_or(1.0)
}

fn content_type(path: &str) -> HeaderValue {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let essence = kind.essence_str();
    let value = if essence.starts_with("text/") {
        format!("{essence}; charset=utf-8")
    } else {
        essence.to_owned()
    };
    value.parse().expect("a media type is ASCII")
}

pub(super) fn entity_tag(digest: &str) -> HeaderValue {
    let quoted = format!("\"{digest}\"").parse();
    quoted.expect("hexadecimal digits in quotes")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SCRIPT: &str = "static/js/chat.js";

    fn request(headers: &[(axum::http::HeaderName, &str)]) -> HeaderMap {
        let pairs = headers.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.parse().expect("valid")))
            .collect()
    }

    fn get(headers: &[(axum::http::HeaderName, &str)]) -> Response {
        Page::built_in().response(SCRIPT, &request(headers))
    }

    fn entity_tag_of(response: &Response) -> String {
        let tag = response.headers()[ETAG].to_str().expect("ASCII");
        tag.to_owned()
    }

    #[test]
    fn needed_files_are_built_in() {
        let page = Page::built_in();
        for path in ["index.html", SCRIPT, "static/style.css"] {
            assert!(page.0.contains_key(path), "{path}");
        }
    }

    #[test]
    fn unknown_path_is_not_found() {
        let response = Page::built_in().response("no-such-file", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn each_encoding_has_a_strong_entity_tag_of_its_own() {
        let (plain, gzip) = (get(&[]), get(&[(ACCEPT_ENCODING, "br, gzip")]));
        assert_eq!(plain.headers().get(CONTENT_ENCODING), None);
        assert_eq!(gzip.headers()[CONTENT_ENCODING], "gzip");
        assert_ne!(entity_tag_of(&plain), entity_tag_of(&gzip));
        for response in [plain, gzip] {
            assert!(entity_tag_of(&response).starts_with('"'));
            assert_eq!(response.headers()[VARY], "accept-encoding");
            assert_eq!(
                response.headers()[CONTENT_TYPE],
                "text/javascript; charset=utf-8"
            );
        }
    }

    #[test]
    fn compressed_content_is_the_file() {
        let page = Page::built_in();
        let file = &page.0[SCRIPT];
        let gzip = file.gzip.as_ref().expect("compressible");
        let mut decoded = Vec::new();
        flate2::read::GzDecoder::new(&*gzip.content)
            .read_to_end(&mut decoded)
            .expect("gzip");
        assert!(decoded == file.plain.content && gzip.content.len() < decoded.len());
    }

    #[test]
    fn known_entity_tag_gets_304_without_content() {
        let tag = entity_tag_of(&get(&[]));
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"other\", {tag}"),
            "*".to_owned(),
            format!("\"with a space\",{tag}"),
            format!("\"café\" , W/{tag}"),
        ] {
            let response = get(&[(IF_NONE_MATCH, &known)]);
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(entity_tag_of(&response), tag);
            assert_eq!(response.headers().get(CONTENT_TYPE), None);
        }
        let gzip = [(IF_NONE_MATCH, tag.as_str()), (ACCEPT_ENCODING, "gzip")];
        for headers in [&[(IF_NONE_MATCH, "\"other\"")][..], &gzip] {
            assert_eq!(get(headers).status(), StatusCode::OK, "{headers:?}");
        }
    }

    #[test]
    fn gzip_is_sent_only_to_clients_that_accept_it() {
        for (accepted, expected) in [
            ("gzip", true),
            ("GZIP;q=0.5", true),
            ("br;q=1.0, *;q=0.1", true),
            ("x-gzip", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*;q=0", false),
            ("gzipped", false),
            ("gzip;q=0.5, identity", false),
            ("gzip, identity;q=0.5", true),
            ("identity, *", true),
        ] {
            let request = request(&[(ACCEPT_ENCODING, accepted)]);
            assert_eq!(accepts_gzip(&request), expected, "{accepted}");
        }
    }
}
