//! Tests of tokens that are accepted, and of all the ways in which one is not.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use papo_protocol::access::TOKEN_MAX;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::{
    testing::{SigningKey, claims},
    *,
};
use crate::{
    access::keys::{self, Key, KeysError},
    clock::unix_now,
};

const ISSUER: &str = "https://id.example";
const OTHER: &str = "https://other.example";

/// The usable keys of a set.
fn set_of(set: &Json) -> Vec<Key> {
    let set = keys::of_set(set.to_string().as_bytes());
    set.expect("a set").keys
}

/// A room with two issuers, each with these keys.
fn control(own: &[&SigningKey], of_other: &[&SigningKey]) -> AccessControl {
    let set = |keys: &[&SigningKey]| {
        let keys: Vec<Json> = keys.iter().map(|key| key.jwk()).collect();
        Some(set_of(&json!({ "keys": keys })))
    };
    with_keys(set(own), set(of_other))
}

fn with_keys(own: Option<Vec<Key>>, of_other: Option<Vec<Key>>) -> AccessControl {
    let access = json!({ "issuers": [
        { "issuer": ISSUER, "audiences": ["papo", "chat"] },
        { "issuer": OTHER, "audiences": ["papo"] },
    ]});
    let access: Access = serde_json::from_value(access).expect("valid");
    let issuers = vec![
        Issuer::with_keys(&access.issuers[0], own),
        Issuer::with_keys(&access.issuers[1], of_other),
    ];
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let control = AccessControl::new(&Launch::default(), metrics);
    *control.rules.write() = Arc::new(Rules::new(access, issuers));
    control
}

async fn sign_in(
    control: &AccessControl,
    token: impl Into<Box<str>>,
) -> Result<SignedIn, TokenError> {
    control.sign_in(&AccessToken::new(token)).await
}

/// Why a token is not accepted.
async fn error_of(control: &AccessControl, token: impl Into<Box<str>>) -> TokenError {
    sign_in(control, token).await.expect_err("not accepted")
}

fn es256() -> SigningKey {
    SigningKey::new(Algorithm::ES256)
}

#[tokio::test]
async fn tokens_of_each_algorithm_are_accepted() {
    for algorithm in [
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
    ] {
        let key = SigningKey::new(algorithm);
        let control = control(&[&key], &[]);
        let token = key.sign(&claims(ISSUER, &json!({})));
        let SignedIn { member, may, .. } = sign_in(&control, token).await.expect("accepted");
        assert_eq!(
            (member.user.as_str(), may),
            ("Ana", May::WRITE),
            "{algorithm:?}"
        );
        assert!(member.verified);
    }
}

#[tokio::test]
async fn key_without_an_algorithm_is_for_all_of_its_type() {
    let mut key = SigningKey::new(Algorithm::RS256);
    let mut jwk = key.jwk();
    jwk.as_object_mut().expect("an object").remove("alg");
    let control = with_keys(Some(set_of(&json!({ "keys": [jwk] }))), None);
    for algorithm in [Algorithm::RS256, Algorithm::PS512] {
        key.algorithm = algorithm;
        let token = key.sign(&claims(ISSUER, &json!({})));
        assert!(sign_in(&control, token).await.is_ok(), "{algorithm:?}");
    }
}

#[tokio::test]
async fn key_with_an_algorithm_is_for_no_other() {
    let mut key = SigningKey::new(Algorithm::RS256);
    let control = control(&[&key], &[]);
    key.algorithm = Algorithm::RS512;
    let token = key.sign(&claims(ISSUER, &json!({})));
    assert_eq!(error_of(&control, token).await, TokenError::Algorithm);
}

#[tokio::test]
async fn token_without_an_algorithm_is_not_accepted() {
    let key = es256();
    let control = control(&[&key], &[]);
    let claims = URL_SAFE_NO_PAD.encode(claims(ISSUER, &json!({})).to_string());
    for algorithm in ["none", "None", "NONE", "ES512", "", "HS1"] {
        let head = json!({ "alg": algorithm, "kid": key.id }).to_string();
        let head = URL_SAFE_NO_PAD.encode(head);
        for signature in ["", "AAAA"] {
            let token = format!("{head}.{claims}.{signature}");
            assert_eq!(
                error_of(&control, token).await,
                TokenError::Algorithm,
                "{algorithm:?}"
            );
        }
    }
}

#[tokio::test]
async fn public_key_is_no_secret() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let key = SigningKey::new(algorithm);
        let jwk = key.jwk();
        let control = control(&[&key], &[]);
        let part = |name: &str| jwk[name].as_str().unwrap_or_default().to_owned();
        let raw = |name: &str| URL_SAFE_NO_PAD.decode(part(name)).expect("base64url");
        let coordinates = [&[4][..], &raw("x"), &raw("y")].concat();
        let pem = |der: &[u8]| {
            let base64 = STANDARD.encode(der);
            format!("-----BEGIN PUBLIC KEY-----\n{base64}\n-----END PUBLIC KEY-----\n").into_bytes()
        };
        let forms = [
            raw("n"),
            part("n").into_bytes(),
            pem(&raw("n")),
            coordinates.clone(),
            pem(&coordinates),
            raw("x"),
            jwk.to_string().into_bytes(),
        ];
        for secret in forms {
            for forged in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let mut header = Header::new(forged);
                header.kid = Some(key.id.clone());
                let secret = EncodingKey::from_secret(&secret);
                let token = encode(&header, &claims(ISSUER, &json!({})), &secret).expect("signed");
                assert_eq!(error_of(&control, token).await, TokenError::Algorithm);
            }
        }
    }
}

#[tokio::test]
async fn key_of_another_issuer_with_the_same_id_is_another() {
    let (own, mut of_other) = (es256(), es256());
    of_other.id.clone_from(&own.id);
    let control = control(&[&own], &[&of_other]);
    let token = of_other.sign(&claims(ISSUER, &json!({})));
    assert_eq!(error_of(&control, token).await, TokenError::Signature);
    let token = of_other.sign(&claims(OTHER, &json!({})));
    let of_other = sign_in(&control, token).await.expect("accepted").member;
    let token = own.sign(&claims(ISSUER, &json!({})));
    let own = sign_in(&control, token).await.expect("accepted").member;
    assert_ne!(own.sender, of_other.sender, "the same subject");
}

#[tokio::test]
async fn claims_are_checked() {
    let key = es256();
    let control = control(&[&key], &[]);
    let now = unix_now().as_secs();
    for (others, expected) in [
        (json!({ "aud": "other" }), TokenError::Audience),
        (json!({ "aud": ["other", "another"] }), TokenError::Audience),
        (json!({ "aud": null }), TokenError::Claims("aud")),
        (json!({ "aud": [] }), TokenError::Audience),
        (json!({ "aud": 7 }), TokenError::Claims("aud")),
        (json!({ "exp": now - 61 }), TokenError::Expired),
        (json!({ "exp": 0 }), TokenError::Expired),
        (json!({ "exp": null }), TokenError::Claims("exp")),
        (json!({ "exp": "soon" }), TokenError::Claims("exp")),
        (json!({ "exp": -1 }), TokenError::Claims("exp")),
        (json!({ "nbf": now + 120 }), TokenError::NotYetValid),
        (json!({ "nbf": "now" }), TokenError::Claims("nbf")),
        (json!({ "iss": null }), TokenError::Claims("iss")),
        (json!({ "iss": [ISSUER] }), TokenError::Claims("iss")),
        (
            json!({ "iss": "https://id.example/" }),
            TokenError::UnknownIssuer,
        ),
        (json!({ "sub": null }), TokenError::Claims("sub")),
        (json!({ "sub": "" }), TokenError::Claims("sub")),
        (json!({ "sub": 7 }), TokenError::Claims("sub")),
        (json!({ "sub": "a".repeat(256) }), TokenError::Claims("sub")),
    ] {
        let token = key.sign(&claims(ISSUER, &others));
        assert_eq!(error_of(&control, token).await, expected, "{others}");
    }
    for others in [
        json!({ "aud": ["other", "chat"] }),
        json!({ "exp": now - 55 }),
        json!({ "exp": 1e11 }),
        json!({ "nbf": now + 55 }),
        json!({ "nbf": now - 55 }),
    ] {
        let token = key.sign(&claims(ISSUER, &others));
        assert!(sign_in(&control, token).await.is_ok(), "{others}");
    }
}

#[tokio::test]
async fn claim_that_is_there_twice_is_not_accepted() {
    let key = es256();
    let control = control(&[&key], &[]);
    let claims = claims(ISSUER, &json!({})).to_string();
    let claims = claims.replacen('{', r#"{"exp":99999999999,"#, 1);
    let claims = serde_json::value::RawValue::from_string(claims).expect("JSON");
    let mut header = Header::new(key.algorithm);
    header.kid = Some(key.id.clone());
    let token = encode(&header, &claims, &key.key).expect("signed");
    assert_eq!(error_of(&control, token).await, TokenError::Malformed);
}

#[tokio::test]
async fn changed_and_cut_tokens_are_not_accepted() {
    let key = es256();
    let control = control(&[&key], &[]);
    let token = key.sign(&claims(ISSUER, &json!({})));
    for length in 0..token.len() {
        let error = error_of(&control, &token[..length]).await;
        let is_expected = matches!(error, TokenError::Malformed | TokenError::Signature);
        assert!(is_expected, "{length}: {error:?}");
    }
    let other = key.sign(&claims(ISSUER, &json!({ "sub": "rui" })));
    let mut parts: Vec<&str> = token.split('.').collect();
    parts[1] = other.split('.').nth(1).expect("claims");
    let error = error_of(&control, parts.join(".")).await;
    assert_eq!(error, TokenError::Signature);
    for more in [
        format!("{token}.x"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
    ] {
        assert_eq!(error_of(&control, more).await, TokenError::Malformed);
    }
}

#[tokio::test]
async fn long_token_is_not_read() {
    let key = es256();
    let control = control(&[&key], &[]);
    let token = key.sign(&claims(ISSUER, &json!({ "padding": "x".repeat(15_000) })));
    assert!(token.len() > TOKEN_MAX);
    assert_eq!(error_of(&control, token).await, TokenError::TooLong);
    let token = key.sign(&claims(ISSUER, &json!({ "padding": "x".repeat(11_000) })));
    assert!(sign_in(&control, token).await.is_ok());
}

#[tokio::test]
async fn critical_extensions_and_other_kinds_are_not_accepted() {
    let key = es256();
    let control = control(&[&key], &[]);
    let head = |change: &dyn Fn(&mut Header)| {
        let mut header = Header::new(key.algorithm);
        header.kid = Some(key.id.clone());
        change(&mut header);
        key.sign_with(&header, &claims(ISSUER, &json!({})))
    };
    let critical = head(&|header| header.crit = Some(vec!["b64".to_owned()]));
    assert_eq!(error_of(&control, critical).await, TokenError::Kind);
    for kind in ["logout+jwt", "application/secevent+jwt", "DPOP+JWT"] {
        let token = head(&|header| header.typ = Some(kind.to_owned()));
        assert_eq!(error_of(&control, token).await, TokenError::Kind, "{kind}");
    }
    for kind in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        let token = head(&|header| header.typ = Some(kind.to_owned()));
        assert!(sign_in(&control, token).await.is_ok(), "{kind}");
    }
    let token = head(&|header| header.typ = None);
    assert!(sign_in(&control, token).await.is_ok());
}

#[tokio::test]
async fn token_names_its_key_or_there_is_one() {
    let (one, other) = (es256(), es256());
    let nameless = one.sign_with(&Header::new(one.algorithm), &claims(ISSUER, &json!({})));
    let alone = control(&[&one], &[]);
    assert!(sign_in(&alone, nameless.clone()).await.is_ok());
    let both = control(&[&one, &other], &[]);
    assert_eq!(error_of(&both, nameless).await, TokenError::UnknownKey);
    let stranger = es256().sign(&claims(ISSUER, &json!({})));
    assert_eq!(error_of(&both, stranger).await, TokenError::UnknownKey);
}

#[tokio::test]
async fn issuer_without_keys_is_unavailable() {
    let key = es256();
    let control = with_keys(None, None);
    let error = error_of(&control, key.sign(&claims(ISSUER, &json!({})))).await;
    assert_eq!(error, TokenError::KeysUnavailable);
    assert_eq!(error.rejection().code.as_str(), "unavailable");
}

#[tokio::test]
async fn secret_of_a_file_verifies_hmac_alone() {
    let secret = b"a secret that issuer and room share";
    let control = with_keys(keys::of_secret(secret).ok().map(|key| vec![key]), None);
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let secret = EncodingKey::from_secret(secret);
        let token = encode(
            &Header::new(algorithm),
            &claims(ISSUER, &json!({})),
            &secret,
        );
        let signed_in = sign_in(&control, token.expect("signed")).await;
        assert!(signed_in.is_ok(), "{algorithm:?}");
    }
    let token = es256().sign(&claims(ISSUER, &json!({})));
    assert_eq!(error_of(&control, token).await, TokenError::Algorithm);
    assert!(keys::of_secret(&secret[..31]).is_err());
}

#[test]
fn key_set_is_used_without_the_keys_that_are_not_usable() {
    let key = es256();
    let other = |change: Json| {
        let mut jwk = key.jwk();
        for (name, value) in change.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        jwk
    };
    let unusable = [
        json!({ "kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "alg": "HS256", "kid": "a" }),
        other(json!({ "use": "enc" })),
        other(json!({ "key_ops": ["sign"] })),
        other(json!({ "alg": "ES384" })),
        other(json!({ "alg": "HS256" })),
        other(json!({ "alg": "ECDH-ES" })),
        other(json!({ "crv": "P-384" })),
        other(json!({ "crv": "secp256k1" })),
        other(json!({ "x": "AAAA" })),
        other(json!({ "kty": "new" })),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "short" }),
        json!({ "kty": "OKP", "crv": "X25519", "x": "AAAA" }),
        json!(7),
    ];
    let read = |set: Json| {
        let set = keys::of_set(set.to_string().as_bytes()).expect("a set");
        (set.keys.len(), set.problem)
    };
    let nothing = (0, Some(KeysError::Unusable));
    for jwk in &unusable {
        assert_eq!(read(json!({ "keys": [jwk] })), nothing, "{jwk}");
    }
    assert_eq!(read(json!({ "keys": [] })), nothing);
    let mut all = unusable.to_vec();
    all.push(key.jwk());
    assert_eq!(read(json!({ "keys": all, "other": 1 })), (1, None));
    let many = json!({ "keys": vec![key.jwk(); 101] });
    assert_eq!(read(many), (100, Some(KeysError::TooMany(101))));
    for no_set in ["", "[]", "{}", r#"{"keys":7}"#] {
        assert!(keys::of_set(no_set.as_bytes()).is_err(), "{no_set}");
    }
}

#[tokio::test]
async fn key_of_exactly_the_named_id_is_preferred() {
    let (nameless, named) = (es256(), es256());
    let mut first = nameless.jwk();
    first.as_object_mut().expect("an object").remove("kid");
    let keys = set_of(&json!({ "keys": [first, named.jwk()] }));
    let control = with_keys(Some(keys), None);
    for key in [&named, &nameless] {
        let token = key.sign(&claims(ISSUER, &json!({})));
        assert!(sign_in(&control, token).await.is_ok(), "{}", key.id);
    }
}

#[tokio::test]
async fn tokens_for_another_use_are_not_accepted() {
    let key = es256();
    let control = control(&[&key], &[]);
    let event = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
    for others in [
        json!({ "events": event }),
        json!({ "cnf": { "jkt": "a digest" } }),
        json!({ "typ": "Refresh" }),
        json!({ "typ": "Offline" }),
        json!({ "typ": "Logout" }),
    ] {
        let token = key.sign(&claims(ISSUER, &others));
        assert_eq!(
            error_of(&control, token).await,
            TokenError::Kind,
            "{others}"
        );
    }
    let token = key.sign(&claims(ISSUER, &json!({ "typ": "Bearer" })));
    assert!(sign_in(&control, token).await.is_ok());
}

#[tokio::test]
async fn id_tokens_are_not_accepted_where_the_page_sends_access_tokens() {
    let key = es256();
    let control = control(&[&key], &[&key]);
    let id_token = |issuer: &str| key.sign(&claims(issuer, &json!({ "typ": "ID" })));
    assert!(
        sign_in(&control, id_token(ISSUER)).await.is_ok(),
        "no signIn"
    );
    for (token, expected) in [("Access", Some(TokenError::Kind)), ("Id", None)] {
        let rules = control.rules();
        let sign_in_rules = json!({ "clientId": "papo", "token": token });
        let access = Access {
            sign_in: serde_json::from_value(sign_in_rules).expect("valid"),
            ..rules.access.clone()
        };
        *control.rules.write() = Arc::new(Rules::new(access, rules.issuers.clone()));
        let given = sign_in(&control, id_token(ISSUER)).await.err();
        assert_eq!(given, expected, "{token}");
        assert!(sign_in(&control, id_token(OTHER)).await.is_ok(), "{token}");
    }
}

#[tokio::test]
async fn rules_decide_about_a_valid_token() {
    let key = es256();
    let control = control(&[&key], &[]);
    let rules = control.rules();
    let access = Access {
        read: papo_protocol::access::Grants(vec!["group:staff".parse().expect("valid")]),
        write: papo_protocol::access::Grants(Vec::new()),
        ..rules.access.clone()
    };
    *control.rules.write() = Arc::new(Rules::new(access, rules.issuers.clone()));
    let token = key.sign(&claims(ISSUER, &json!({ "groups": ["staff"] })));
    assert_eq!(
        sign_in(&control, token).await.expect("accepted").may,
        May::READ
    );
    let error = error_of(&control, key.sign(&claims(ISSUER, &json!({})))).await;
    assert_eq!(error, TokenError::NoEntry(NoEntry::NotAllowed));
    assert_eq!(error.rejection().code.as_str(), "forbidden");
}

#[tokio::test]
async fn errors_have_codes_and_say_nothing_of_the_token() {
    let key = es256();
    let control = control(&[&key], &[]);
    for (others, code) in [
        (json!({ "exp": 1 }), "token_expired"),
        (json!({ "aud": "a-secret-audience" }), "unauthenticated"),
        (json!({ "iss": "a-secret-issuer" }), "unauthenticated"),
    ] {
        let token = key.sign(&claims(ISSUER, &others));
        let rejection = error_of(&control, token).await.rejection();
        assert_eq!(rejection.code.as_str(), code);
        assert!(!rejection.message.contains("secret"), "{rejection:?}");
    }
}

#[tokio::test]
async fn server_without_issuers_accepts_no_tokens() {
    let metrics = Arc::new(Metrics::register(&mut Registry::default()));
    let control = AccessControl::new(&Launch::default(), metrics);
    let error = error_of(&control, "a.b.c").await;
    assert_eq!(error, TokenError::NotAccepted);
    assert!(!control.accepts_tokens());
}
