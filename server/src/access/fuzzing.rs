//! Fuzz target of access tokens and key sets.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use papo_protocol::{
    Access,
    access::{Claims, NAME_MAX},
};
use serde_json::json;

use super::{
    issuer::Issuer,
    keys::{self, Key},
    person::{Person, display_name},
    rules::Rules,
    token::Unverified,
};
use crate::fuzzing::SEPARATOR;

/// The secret with which the seeds are signed.
const SECRET: &[u8] = b"a secret of the fuzz target, 32 bytes and more";
/// The issuer of the seeds.
const ISSUER: &str = "https://id.example";

/// An access token, and behind a separator a key set.
pub fn access_token(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == SEPARATOR);
    let token = parts.next().unwrap_or_default();
    let of_set = parts.next().and_then(|set| keys::of_set(set).ok());
    let of_set = of_set.map(|set| set.keys);
    for key in of_set.iter().flatten() {
        let is_symmetric = |name: &String| name.starts_with("HS");
        let mut names = key
            .algorithms
            .iter()
            .map(|algorithm| format!("{algorithm:?}"));
        assert!(!key.algorithms.is_empty() && !names.any(|name| is_symmetric(&name)));
    }
    let Ok(token) = std::str::from_utf8(token) else {
        return;
    };
    let secret = keys::of_secret(SECRET).expect("long enough");
    verify(token, vec![secret]);
    if let Some(keys) = of_set {
        verify(token, keys);
    }
}

fn verify(token: &str, keys: Vec<Key>) {
    let access = json!({ "issuers": [{ "issuer": ISSUER, "audiences": ["papo"] }] });
    let access: Access = serde_json::from_value(access).expect("valid");
    let issuer = Issuer::with_keys(&access.issuers[0], Some(keys));
    let rules = Rules::new(access, vec![issuer.clone()]);
    let Ok(unverified) = Unverified::read(token) else {
        return;
    };
    assert_eq!(token.matches('.').count(), 2);
    if rules.issuer(&unverified.issuer).is_none() {
        return;
    }
    // No key has to be fetched, so nothing is waited for.
    let verified = futures::executor::block_on(issuer.verified(&unverified));
    let Ok((claims, proof)) = verified else {
        return;
    };
    assert_eq!(claims["iss"], ISSUER);
    let names = Claims::default();
    let Ok(person) = Person::read(&issuer.url, &names, (&claims, proof), &rules, 0) else {
        return;
    };
    assert!((1..=NAME_MAX).contains(&person.subject.chars().count()));
    assert!(person.groups().all(|group| !group.contains('\0')));
    let sender = person.sender(&"geral".parse().expect("valid"));
    assert_eq!(sender.as_str().len(), 24);
    let name = display_name(&Claims::default(), &claims, &sender, 40);
    assert!((1..=40).contains(&name.as_str().chars().count()));
    assert!(rules.person(&sender, &person).is_ok());
}
