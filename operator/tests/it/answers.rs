//! The operator's decisions about answers of the API server, each with the answer as a real one gives it, through the real client.

use axum::http::{Request, Response};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, client::Body};
use papo_operator::answer::{self, Answer};

use crate::fake::recorded::RECORDED;

/// The error that the client makes of an answer.
async fn error_of(code: u16, body: &'static str) -> kube::Error {
    let service = tower::service_fn(move |_: Request<Body>| async move {
        let response = Response::builder().status(code);
        Ok::<_, kube::Error>(
            response
                .body(axum::body::Body::from(body))
                .expect("a response"),
        )
    });
    let leases: Api<Lease> = Api::namespaced(Client::new(service, "papo"), "papo");
    leases.get("here").await.expect_err("no success")
}

fn meaning(name: &str) -> Answer {
    match name {
        "missing-group" | "missing-kind" => Answer::KindMissing,
        "missing-object" | "missing-namespace" => Answer::NotFound,
        "forbidden" => Answer::Forbidden,
        "exists" | "conflict" => Answer::Conflict,
        "invalid" => Answer::Invalid,
        "too-many-requests" => Answer::TooManyRequests,
        "expired" => Answer::Expired,
        "unavailable" | "malformed" => Answer::Unavailable,
        _ => panic!("{name} has no meaning"),
    }
}

#[tokio::test]
async fn recorded_answers_have_their_meaning() {
    for (name, code, body) in RECORDED {
        let error = error_of(code, body).await;
        assert_eq!(Answer::of(&error), meaning(name), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn plain_text_answers_are_judged_by_their_code() {
    for (code, expected) in [
        (400, Answer::Invalid),
        (401, Answer::Forbidden),
        (403, Answer::Forbidden),
        (404, Answer::KindMissing),
        (409, Answer::Conflict),
        (410, Answer::Expired),
        (422, Answer::Invalid),
        (429, Answer::TooManyRequests),
        (500, Answer::Unavailable),
        (502, Answer::Unavailable),
        (503, Answer::Unavailable),
        (504, Answer::Unavailable),
    ] {
        let error = error_of(code, "<html>words of a proxy</html>").await;
        assert_eq!(Answer::of(&error), expected, "{code}");
    }
}

#[tokio::test]
async fn optional_is_none_for_missing_objects_and_kinds() {
    for (name, code, body) in RECORDED {
        let answer = answer::optional::<()>(Err(error_of(code, body).await));
        match (name.starts_with("missing"), answer) {
            (true, Ok(None)) | (false, Err(_)) => {}
            (_, answer) => panic!("{name}: {answer:?}"),
        }
    }
}

#[tokio::test]
async fn optional_object_is_none_only_for_a_named_object() {
    for (name, code, body) in RECORDED {
        let answer = answer::optional_object::<()>(Err(error_of(code, body).await));
        let is_none = matches!(answer, Ok(None));
        let expected = ["missing-object", "missing-namespace"].contains(&name);
        assert_eq!(is_none, expected, "{name}: {answer:?}");
    }
    let proxy = answer::optional_object::<()>(Err(error_of(404, "<html>not found</html>").await));
    assert!(proxy.is_err(), "{proxy:?}");
}
