//! Who may enter a room: what its spec says, and the operator's defaults for what it leaves out.

use std::{
    collections::{BTreeSet, HashSet},
    hash::Hash,
    path::{Path, PathBuf},
};

use papo_protocol::{
    Access as Rules, RoomName, SenderId,
    access::{
        self, Claims, DENIED_MAX, Denied, Grant, Grants, Guests, Issuer, IssuerUrl, SignIn,
        SignInToken, default_scopes,
    },
};

use crate::crd;

/// Most that the rules of a room may take as JSON without those whom the defaults deny, and most that the defaults may, in bytes. A Secret holds
/// 1 MiB, and has both and the servers' credentials.
const JSON_MAX: usize = 500_000;
/// Stands for the room's namespace in audiences and client ids.
const NAMESPACE: &str = "{namespace}";
/// Stands for the room's name in audiences and client ids.
const NAME: &str = "{name}";

/// Who may enter a room, and what they may do there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The rules.
    pub rules: Rules,
    /// The same as JSON: the content of the file that the servers read.
    pub json: String,
    /// The other files that the rules name, which come from Secrets in the room's namespace.
    pub issuer_files: BTreeSet<IssuerFile>,
}

/// A key of a Secret that the servers read as a file, because an issuer needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IssuerFile {
    /// The Secret.
    pub secret: String,
    /// The key in it.
    pub key: &'static str,
}

impl IssuerFile {
    /// Where the servers have these files.
    pub const DIRECTORY: &str = "/etc/papo/issuers";
    const CA: &str = "ca.crt";
    const KEY: &str = "key";

    /// Its path below the directory. It has the Secret's name, not a number: servers that have the Secrets of former rules mounted must not take
    /// the file of one issuer for that of another.
    pub fn path(&self) -> String {
        format!("{}/{}", self.secret, self.key)
    }
}

/// Why rules cannot be used: the field, and what is wrong with it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidAccess(String);

impl InvalidAccess {
    fn of(field: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Self(format!("{field}: {problem}"))
    }
}

impl From<access::InvalidAccess> for InvalidAccess {
    fn from(invalid: access::InvalidAccess) -> Self {
        // A spec names a Secret where the servers' file names a file.
        Self(invalid.to_string().replace("keyFile", "keySecretName"))
    }
}

/// The rules of a room with this spec. It is open if neither the spec nor the defaults say anything of access.
pub(super) fn access(
    room: &RoomName,
    own: Option<&crd::Access>,
    defaults: &crd::Access,
) -> Result<Access, InvalidAccess> {
    let is_open = own.is_none() && *defaults == crd::Access::default();
    let (mut rules, issuer_files) = if is_open {
        (Rules::open(), BTreeSet::new())
    } else {
        let spec = inherit(own.cloned().unwrap_or_default(), defaults.clone());
        let files = spec.issuers.iter().flatten().flat_map(files).collect();
        (rules(room, spec)?, files)
    };
    // Before those whom the defaults deny are added: nothing that a room says may keep them out.
    check(&rules)?;
    let denied = denied_of(defaults.denied.clone().unwrap_or_default())?;
    rules.denied = unite(rules.denied, denied);
    Ok(Access {
        json: json(&rules)?,
        rules,
        issuer_files,
    })
}

/// Checks defaults before any room has them. Rooms may complete them: with an issuer, without which nobody could enter, or sign in.
pub fn check_default_access(defaults: &crd::Access) -> Result<(), InvalidAccess> {
    let room =
        RoomName::new("namespace", "name").map_err(|error| InvalidAccess(error.to_string()))?;
    let mut rules = rules(&room, defaults.clone())?;
    if rules.issuers.is_empty() {
        rules.guests = Guests::Read;
        rules.sign_in = None;
    }
    check(&rules)
}

/// Whether the rules that a spec says can be used.
fn check(rules: &Rules) -> Result<(), InvalidAccess> {
    rules.check()?;
    rules.denied.check_counts(DENIED_MAX)?;
    let size = json(rules)?.len();
    if size > JSON_MAX {
        return Err(InvalidAccess(format!(
            "it takes {size} bytes as JSON, and may take {JSON_MAX}"
        )));
    }
    Ok(())
}

fn json(rules: &Rules) -> Result<String, InvalidAccess> {
    serde_json::to_string(rules).map_err(|error| InvalidAccess(error.to_string()))
}

/// Each field of the room's own, or else of the defaults. Those whom the defaults deny are not in it.
fn inherit(own: crd::Access, defaults: crd::Access) -> crd::Access {
    let crd::Access {
        guests,
        issuers,
        read,
        write,
        moderate,
        denied,
        sign_in,
    } = own;
    // A room that takes no tokens would have no use for the default way to get one.
    let default_sign_in = match issuers.as_deref() {
        Some([]) => None,
        _ => defaults.sign_in,
    };
    crd::Access {
        guests: guests.or(defaults.guests),
        issuers: issuers.or(defaults.issuers),
        read: read.or(defaults.read),
        write: write.or(defaults.write),
        moderate: moderate.or(defaults.moderate),
        denied,
        sign_in: sign_in.or(default_sign_in),
    }
}

/// Who is denied by the room, and who is by default: no room lets in whom the operator's administrator keeps out.
fn unite(own: Denied, defaults: Denied) -> Denied {
    fn both<T: Eq + Hash>(mut own: Vec<T>, mut defaults: Vec<T>) -> Vec<T> {
        let known: HashSet<&T> = defaults.iter().collect();
        own.retain(|one| !known.contains(one));
        defaults.append(&mut own);
        defaults
    }
    Denied {
        subjects: both(own.subjects, defaults.subjects),
        token_ids: both(own.token_ids, defaults.token_ids),
        senders: both(own.senders, defaults.senders),
    }
}

/// The files that an issuer needs.
fn files(issuer: &crd::Issuer) -> impl Iterator<Item = IssuerFile> {
    let file = |secret: &Option<String>, key| {
        let secret = secret.clone()?;
        Some(IssuerFile { secret, key })
    };
    let ca = file(&issuer.ca_secret_name, IssuerFile::CA);
    let key = file(&issuer.key_secret_name, IssuerFile::KEY);
    ca.into_iter().chain(key)
}

fn rules(room: &RoomName, spec: crd::Access) -> Result<Rules, InvalidAccess> {
    let crd::Access {
        guests,
        issuers,
        read,
        write,
        moderate,
        denied,
        sign_in,
    } = spec;
    let issuers = issuers.into_iter().flatten().enumerate();
    Ok(Rules {
        guests: match guests {
            Some(crd::Guests::Write) => Guests::Write,
            Some(crd::Guests::Read) => Guests::Read,
            Some(crd::Guests::None) | None => Guests::None,
        },
        issuers: issuers
            .map(|(at, spec)| issuer(room, &format!("issuers[{at}]"), spec))
            .collect::<Result<_, _>>()?,
        read: grants("read", read)?.map(Grants).unwrap_or_default(),
        write: grants("write", write)?.map(Grants).unwrap_or_default(),
        moderate: grants("moderate", moderate)?.unwrap_or_default(),
        denied: denied_of(denied.unwrap_or_default())?,
        sign_in: sign_in.map(|spec| sign_in_of(room, spec)).transpose()?,
    })
}

fn issuer(room: &RoomName, field: &str, spec: crd::Issuer) -> Result<Issuer, InvalidAccess> {
    let crd::Issuer {
        issuer,
        audiences,
        jwks_uri,
        claims,
        ca_secret_name,
        key_secret_name,
    } = spec;
    let default = Claims::default();
    let claims = claims.unwrap_or_default();
    let file = |name: &str, secret: Option<String>, key| {
        let path = |secret| path_of(&format!("{field}.{name}"), &IssuerFile { secret, key });
        secret.map(path).transpose()
    };
    Ok(Issuer {
        issuer: url(&format!("{field}.issuer"), &issuer)?,
        audiences: audiences
            .iter()
            .map(|text| expand(room, &format!("{field}.audiences"), text))
            .collect::<Result<_, _>>()?,
        jwks_uri: jwks_uri
            .map(|text| url(&format!("{field}.jwksUri"), &text))
            .transpose()?,
        claims: Claims {
            name: claims.name.unwrap_or(default.name),
            groups: claims.groups.unwrap_or(default.groups),
        },
        ca_file: file("caSecretName", ca_secret_name, IssuerFile::CA)?,
        key_file: file("keySecretName", key_secret_name, IssuerFile::KEY)?,
    })
}

/// The text with the room's namespace and name in the places that stand for them: defaults are those of many rooms, and a token for one room must
/// not be valid in those of others (RFC 8725, 3.9).
fn expand(room: &RoomName, field: &str, text: &str) -> Result<String, InvalidAccess> {
    let rest = text.replace(NAMESPACE, "").replace(NAME, "");
    if rest.contains(['{', '}']) {
        let problem = format!("{text:?} has braces that are not {NAMESPACE} or {NAME}");
        return Err(InvalidAccess::of(field, problem));
    }
    Ok(text
        .replace(NAMESPACE, room.namespace())
        .replace(NAME, room.name()))
}

/// Where the servers have a file. The name of the Secret is a part of it.
fn path_of(field: &str, file: &IssuerFile) -> Result<PathBuf, InvalidAccess> {
    if !is_secret_name(&file.secret) {
        let problem = format!("{:?} is not the name of a Secret", file.secret);
        return Err(InvalidAccess::of(field, problem));
    }
    Ok(Path::new(IssuerFile::DIRECTORY).join(file.path()))
}

/// Whether a text is a DNS subdomain (RFC 1123), as the names of Secrets are.
fn is_secret_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut ends = label.bytes().next().into_iter().chain(label.bytes().last());
        !label.is_empty()
            && ends.all(is_letter)
            && label.bytes().all(|byte| is_letter(byte) || byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn url(field: &str, text: &str) -> Result<IssuerUrl, InvalidAccess> {
    text.parse()
        .map_err(|problem| InvalidAccess::of(field, problem))
}

fn grants(field: &str, texts: Option<Vec<String>>) -> Result<Option<Vec<Grant>>, InvalidAccess> {
    let grant = |text: String| {
        text.parse()
            .map_err(|problem| InvalidAccess::of(field, problem))
    };
    let grants = texts.map(|texts| texts.into_iter().map(grant).collect());
    grants.transpose()
}

fn denied_of(spec: crd::Denied) -> Result<Denied, InvalidAccess> {
    let sender = |text: String| {
        text.parse::<SenderId>()
            .map_err(|problem| InvalidAccess::of("denied.senders", problem))
    };
    let senders = spec.senders.into_iter().flatten().map(sender);
    Ok(Denied {
        subjects: spec.subjects.unwrap_or_default(),
        token_ids: spec.token_ids.unwrap_or_default(),
        senders: senders.collect::<Result<_, _>>()?,
    })
}

fn sign_in_of(room: &RoomName, spec: crd::SignIn) -> Result<SignIn, InvalidAccess> {
    let crd::SignIn {
        issuer,
        client_id,
        scopes,
        token,
        resource,
    } = spec;
    Ok(SignIn {
        issuer: issuer.map(|text| url("signIn.issuer", &text)).transpose()?,
        client_id: expand(room, "signIn.clientId", &client_id)?,
        scopes: scopes.unwrap_or_else(default_scopes),
        token: match token {
            Some(crd::SignInToken::Id) => SignInToken::Id,
            Some(crd::SignInToken::Access) | None => SignInToken::Access,
        },
        resource,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const STAFF: &str = "https://id.example/realms/staff";

    fn spec(json: Value) -> crd::Access {
        serde_json::from_value(json).expect("a spec")
    }

    fn room() -> RoomName {
        RoomName::new("team-a", "geral").expect("valid")
    }

    /// The rules of a room with this spec under these defaults, as the servers read them.
    fn resolved(own: Option<Value>, defaults: Value) -> Result<Value, String> {
        let own = own.map(spec);
        let access = access(&room(), own.as_ref(), &spec(defaults));
        let access = access.map_err(|error| error.to_string())?;
        let parsed: Rules = serde_json::from_str(&access.json).expect("the servers can read it");
        assert_eq!(parsed, access.rules);
        Ok(serde_json::from_str(&access.json).expect("JSON"))
    }

    fn staff() -> Value {
        json!([{"issuer": STAFF, "audiences": ["papo"]}])
    }

    #[test]
    fn room_without_any_access_is_open() {
        let open = resolved(None, json!({})).expect("valid");
        assert_eq!(open, serde_json::to_value(Rules::open()).expect("JSON"));
        assert_eq!(open["guests"], "Write");
    }

    #[test]
    fn access_without_guests_lets_no_guest_in() {
        let rules = resolved(Some(json!({"issuers": staff()})), json!({})).expect("valid");
        assert_eq!(rules["guests"], "None");
        for nobody in [
            json!({}),
            json!({"denied": {"subjects": ["mallory"]}}),
            json!({"guests": "None"}),
        ] {
            let invalid = resolved(Some(nobody), json!({})).expect_err("nobody may enter");
            assert!(invalid.starts_with("nobody may enter"), "{invalid}");
        }
    }

    #[test]
    fn fields_of_the_room_win_over_the_defaults_one_by_one() {
        let defaults = json!({
            "guests": "Read", "issuers": staff(), "read": ["group:a"], "write": ["group:b"], "moderate": ["group:c"],
            "signIn": {"clientId": "papo"},
        });
        let rules = resolved(None, defaults.clone()).expect("valid");
        assert_eq!(rules["issuers"][0]["issuer"], STAFF);
        for (field, value) in [
            ("guests", json!("None")),
            (
                "issuers",
                json!([{"issuer": "https://other.example", "audiences": ["a"], "claims": {"name": "nick", "groups": "/roles"}}]),
            ),
            ("read", json!(["*"])),
            ("write", json!(["subject:ana"])),
            ("moderate", json!(["subject:rui"])),
            (
                "signIn",
                json!({"clientId": "other", "scopes": ["openid"], "token": "Id"}),
            ),
        ] {
            let own = resolved(Some(json!({ (field): value })), defaults.clone()).expect("valid");
            assert_eq!(own[field], value, "{field}");
            for (other, inherited) in rules.as_object().expect("an object") {
                assert!(
                    other == field || own[other] == *inherited,
                    "{field} has changed {other}"
                );
            }
        }
    }

    #[test]
    fn whoever_is_denied_by_default_is_denied_everywhere() {
        let defaults = json!({
            "guests": "Write",
            "denied": {"subjects": ["a", "b"], "senders": ["000000000000000000000001"]},
        });
        let own = json!({"denied": {"subjects": ["b", "c"], "tokenIds": ["t"]}});
        let rules = resolved(Some(own), defaults.clone()).expect("valid");
        let expected = json!({
            "subjects": ["a", "b", "c"], "tokenIds": ["t"], "senders": ["000000000000000000000001"],
        });
        assert_eq!(rules["denied"], expected);
        let rules = resolved(Some(json!({"denied": {}})), defaults).expect("valid");
        assert_eq!(rules["denied"]["subjects"], json!(["a", "b"]));
    }

    #[test]
    fn full_lists_of_a_room_leave_a_place_for_the_defaults() {
        let subjects = |kind: &str| -> Vec<String> {
            let numbers = 0..DENIED_MAX;
            numbers.map(|number| format!("{kind}-{number}")).collect()
        };
        let denied =
            |subjects: Vec<String>| json!({"guests": "Read", "denied": {"subjects": subjects}});
        let (own, defaults) = (denied(subjects("own")), denied(subjects("default")));
        let rules = resolved(Some(own), defaults.clone()).expect("valid");
        let united = rules["denied"]["subjects"].as_array().expect("a list");
        assert_eq!(united.len(), 2 * DENIED_MAX);
        assert_eq!(united[0], "default-0");
        let mut more = subjects("own");
        more.push("one more".to_owned());
        for (own, defaults) in [
            (denied(more.clone()), json!({})),
            (denied(more.clone()), defaults),
        ] {
            let invalid = resolved(Some(own), defaults).expect_err("too many");
            assert_eq!(
                invalid,
                "denied.subjects has 1025 entries, and may have 1024"
            );
        }
        assert!(check_default_access(&spec(denied(more))).is_err());
    }

    #[test]
    fn large_lists_of_a_room_leave_a_place_for_the_defaults() {
        // As long as the rules may be, so that those of one more are too long.
        let denied = |first: char| {
            let subjects =
                (0..485).map(|number| format!("{first}{number:03}{}", "\u{1f980}".repeat(251)));
            json!({"guests": "Read", "denied": {"subjects": subjects.collect::<Vec<_>>()}})
        };
        let rules = resolved(Some(denied('a')), denied('b')).expect("valid");
        let united = rules["denied"]["subjects"].as_array().expect("a list");
        assert_eq!(united.len(), 970);
        assert!(rules.to_string().len() > JSON_MAX);
    }

    #[test]
    fn audiences_and_clients_can_name_the_room() {
        let access = |audience: &str, client: &str| {
            json!({
                "issuers": [{"issuer": STAFF, "audiences": [audience]}],
                "signIn": {"clientId": client},
            })
        };
        for (text, expected) in [
            ("papo-{namespace}", "papo-team-a"),
            ("papo:{namespace}:{name}", "papo:team-a:geral"),
            ("{name}", "geral"),
            ("papo", "papo"),
        ] {
            let text = access(text, text);
            for (own, defaults) in [
                (Some(text.clone()), json!({})),
                (None, text.clone()),
                (Some(json!({"guests": "Read"})), text.clone()),
            ] {
                let rules = resolved(own, defaults).expect("valid");
                assert_eq!(rules["issuers"][0]["audiences"], json!([expected]));
                assert_eq!(rules["signIn"]["clientId"], expected);
            }
            assert_eq!(check_default_access(&spec(text)), Ok(()));
        }
        for text in [
            "papo-{room}",
            "{Namespace}",
            "{{namespace}}",
            "{na{name}me}",
            "{",
            "}",
            "{}",
        ] {
            for (access, field) in [
                (access(text, "papo"), "issuers[0].audiences: "),
                (access("papo", text), "signIn.clientId: "),
            ] {
                let invalid = resolved(Some(access.clone()), json!({})).expect_err(text);
                assert!(invalid.starts_with(field), "{invalid}");
                assert!(check_default_access(&spec(access)).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn room_without_issuers_offers_no_default_sign_in() {
        let defaults = json!({"issuers": staff(), "signIn": {"clientId": "papo"}});
        let own = json!({"issuers": [], "guests": "Write"});
        let rules = resolved(Some(own), defaults.clone()).expect("valid");
        assert_eq!(rules.get("signIn"), None);
        let own = json!({"issuers": [], "guests": "Write", "signIn": {"clientId": "papo"}});
        let invalid = resolved(Some(own), defaults).expect_err("no issuer to sign in at");
        assert!(
            invalid.starts_with("signIn needs an issuer") && invalid.contains("keySecretName"),
            "{invalid}"
        );
    }

    #[test]
    fn files_of_issuers_are_named_after_their_secrets() {
        let issuers = json!([
            {"issuer": "https://b.example", "audiences": ["a"], "caSecretName": "b-ca"},
            {"issuer": "https://a.example", "audiences": ["a"], "keySecretName": "a-key"},
        ]);
        let access = access(
            &room(),
            Some(&spec(json!({ "issuers": issuers }))),
            &crd::Access::default(),
        );
        let access = access.expect("valid");
        let paths: Vec<String> = access.issuer_files.iter().map(IssuerFile::path).collect();
        assert_eq!(paths, ["a-key/key", "b-ca/ca.crt"]);
        let [b, a] = access.rules.issuers.as_slice() else {
            panic!("two issuers");
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(b.ca_file, path("/etc/papo/issuers/b-ca/ca.crt"));
        assert_eq!(a.key_file, path("/etc/papo/issuers/a-key/key"));
    }

    #[test]
    fn mistakes_are_named_with_their_fields() {
        let issuer = |more: Value| {
            let mut issuer = json!({"issuer": STAFF, "audiences": ["papo"]});
            issuer
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("an object").clone());
            json!({ "issuers": [issuer] })
        };
        for (mistake, words) in [
            (
                issuer(json!({"issuer": "http://id.example"})),
                "issuers[0].issuer: \"http://id.example\" is not the URL of an issuer",
            ),
            (
                issuer(json!({"jwksUri": "ftp://id.example"})),
                "issuers[0].jwksUri: ",
            ),
            (issuer(json!({"audiences": []})), "has no audience"),
            (
                issuer(json!({"keySecretName": "k", "jwksUri": "https://id.example/keys"})),
                "has keySecretName and jwksUri",
            ),
            (
                issuer(json!({"caSecretName": "../broker"})),
                "issuers[0].caSecretName: \"../broker\" is not the name of a Secret",
            ),
            (
                json!({"issuers": [staff()[0], staff()[0]]}),
                "is named twice",
            ),
            (
                json!({"guests": "Read", "write": ["staff"]}),
                "write: \"staff\" names nobody",
            ),
            (
                json!({"guests": "Read", "moderate": ["group:"]}),
                "moderate: \"group:\" names nobody",
            ),
            (
                json!({"guests": "Read", "denied": {"senders": ["a b"]}}),
                "denied.senders: ",
            ),
            (
                json!({"issuers": staff(), "signIn": {"clientId": "papo", "issuer": "https://other.example"}}),
                "signIn needs an issuer, one of issuers",
            ),
            (
                json!({"guests": "Read", "denied": {"subjects": vec!["\u{1f980}".repeat(255); 1_000]}}),
                "bytes as JSON",
            ),
        ] {
            let invalid = resolved(Some(mistake), json!({})).expect_err(words);
            assert!(invalid.contains(words), "{invalid}");
        }
    }

    #[test]
    fn secrets_have_names_of_dns() {
        for name in ["a", "id-ca", "id.ca.0"] {
            assert!(is_secret_name(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in ["", "..", "a..b", "a/b", "-a", "a-", "A", "a_b", &long] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn defaults_may_leave_issuers_to_the_rooms() {
        for defaults in [
            json!({}),
            json!({"guests": "None"}),
            json!({"denied": {"subjects": ["mallory"]}}),
            json!({"signIn": {"clientId": "papo"}}),
            json!({"issuers": staff()}),
        ] {
            let checked = check_default_access(&spec(defaults.clone()));
            assert_eq!(checked, Ok(()), "{defaults}");
        }
        for defaults in [
            json!({"write": ["staff"]}),
            json!({"issuers": [{"issuer": STAFF, "audiences": []}]}),
            json!({"issuers": staff(), "signIn": {"clientId": "papo", "issuer": "https://other.example"}}),
        ] {
            assert!(
                check_default_access(&spec(defaults.clone())).is_err(),
                "{defaults}"
            );
        }
    }
}
