//! Who may enter a room, and what they may do there: the content of `--access FILE`, which the operator writes and the server reads.
//!
//! It is JSON with the field names of `spec.access`. A field that is not known is an error, because a rule with a typing error would
//! otherwise be no rule.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::SenderId;

/// Issuers that a room may have.
pub const ISSUERS_MAX: usize = 8;
/// Longest URL of an issuer, in bytes.
pub const ISSUER_LENGTH_MAX: usize = 512;
/// Audiences that an issuer may have.
pub const AUDIENCES_MAX: usize = 16;
/// Entries of each list of people.
pub const GRANTS_MAX: usize = 256;
/// Entries of each list of those who are denied, in a room's spec and in the defaults of all rooms.
pub const DENIED_MAX: usize = 1_024;
/// Entries of each such list in an access file, which unites both: a room's full list must not keep out those whom the defaults deny.
pub const DENIED_UNITED_MAX: usize = 2 * DENIED_MAX;
/// Longest name of a group, a subject, an audience, a claim, a scope or a token id, in characters. A subject has at most 255 (OpenID Connect
/// Core 1.0, section 2).
pub const NAME_MAX: usize = 255;
/// Longest access token, in bytes.
pub const TOKEN_MAX: usize = 16 * 1024;

/// Who may enter a room, and what they may do there.
///
/// Without `--access` everybody may read and write: see [`Access::open`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Access {
    /// What people who are not signed in may do.
    pub guests: Guests,
    /// The issuers whose access tokens are accepted.
    pub issuers: Vec<Issuer>,
    /// Who of those signed in may read.
    pub read: Grants,
    /// Who of those signed in may write, and so read too.
    pub write: Grants,
    /// Who of those signed in may moderate, and so read and write too. Nobody if not given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moderate: Vec<Grant>,
    /// Who may not enter, whatever else says so.
    #[serde(skip_serializing_if = "Denied::is_empty")]
    pub denied: Denied,
    /// How the page signs people in. It does not offer it if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignIn>,
}

/// What people who are not signed in may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guests {
    /// Read and write.
    Write,
    /// Read.
    Read,
    /// Nothing: they are asked to sign in.
    #[default]
    None,
}

/// A list of people. Everybody who is signed in if not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(pub Vec<Grant>);

impl Default for Grants {
    fn default() -> Self {
        Self(vec![Grant::Everybody])
    }
}

/// Some of those who are signed in: `*`, `group:NAME` or `subject:SUB`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Grant {
    /// Everybody who is signed in.
    Everybody,
    /// The members of a group, as the token's claim of groups names it.
    Group(String),
    /// One person, as the token's `sub` names them.
    Subject(String),
}

/// Why a text is not a [`Grant`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} names nobody: it must be \"*\", \"group:NAME\" or \"subject:SUB\", with 1 to {NAME_MAX} characters after the colon"
)]
pub struct InvalidGrant(String);

/// An OpenID Connect issuer, or another one that signs JSON Web Tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// Its URL, exactly as in the claim `iss` of its tokens.
    pub issuer: IssuerUrl,
    /// A token must be for one of these (claim `aud`).
    pub audiences: Vec<String>,
    /// Where its keys are (RFC 7517). If not given, the server finds out by OpenID Connect Discovery: `ISSUER/.well-known/openid-configuration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_uri: Option<IssuerUrl>,
    /// The claims that hold what a room needs.
    #[serde(default)]
    pub claims: Claims,
    /// PEM file with the certificate authority of the issuer, if the system does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File with a secret of at least 32 bytes, for an issuer that signs with HS256, HS384 or HS512. The server then asks nobody for keys, and
    /// accepts no other algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// A URL of an issuer: `https`, or `http` on this machine (`localhost`, names below it, and loopback addresses). No user, query or fragment
/// (OpenID Connect Core 1.0, section 2).
///
/// It is kept as it was written: issuers are compared character by character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerUrl {
    text: String,
    url: Url,
}

/// Why a text is not an [`IssuerUrl`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not the URL of an issuer: it must be https:// (http:// only for localhost), without user, query and fragment, of at most {ISSUER_LENGTH_MAX} characters"
)]
pub struct InvalidIssuerUrl(String);

/// The claims of a token that hold what a room needs. A claim is a name, or a JSON Pointer (RFC 6901) if it begins with `/`, as in
/// `/realm_access/roles`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Claims {
    /// The display name.
    pub name: String,
    /// The groups: a list of texts, or one text.
    pub groups: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            name: "name".to_owned(),
            groups: "groups".to_owned(),
        }
    }
}

/// Who may not enter. Whoever is connected already is put out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Denied {
    /// People, as the token's `sub` names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Single tokens, by their claim `jti`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_ids: Vec<String>,
    /// Senders, as messages show them: guests too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub senders: Vec<SenderId>,
}

impl Denied {
    /// Whether nobody is denied.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether each list has at most `max` entries.
    pub fn check_counts(&self, max: usize) -> Result<(), InvalidAccess> {
        check_counts([
            ("denied.subjects", self.subjects.len(), max),
            ("denied.tokenIds", self.token_ids.len(), max),
            ("denied.senders", self.senders.len(), max),
        ])
    }
}

/// How the page signs people in: OpenID Connect's Authorization Code Flow with PKCE (RFC 7636), as a public client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignIn {
    /// Which of the issuers; the first if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerUrl>,
    /// The id that the issuer has given to the page.
    pub client_id: String,
    /// The scopes to ask for; `openid` and `profile` if not given.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// Which of the issuer's tokens the page sends to the server.
    #[serde(default)]
    pub token: SignInToken,
    /// The protected resource that the access token is for (RFC 8707), for issuers that ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// One of the tokens that an issuer returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInToken {
    /// The access token, which must be a JSON Web Token (RFC 9068).
    #[default]
    Access,
    /// The ID token, for issuers whose access tokens are opaque. Its audience is the client id.
    Id,
}

/// The scopes that the page asks for if none are given.
pub fn default_scopes() -> Vec<String> {
    ["openid", "profile"].map(str::to_owned).to_vec()
}

/// Why the content of an access file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAccess {
    /// Nobody could enter.
    #[error("nobody may enter: name an issuer, or let guests read or write")]
    Nobody,
    /// Two of the same URL.
    #[error("issuer {0} is named twice")]
    IssuerTwice(IssuerUrl),
    /// More than allowed.
    #[error("{field} has {len} entries, and may have {max}")]
    TooMany {
        /// The field.
        field: &'static str,
        /// Its entries.
        len: usize,
        /// Most entries.
        max: usize,
    },
    /// Every token must be for somebody.
    #[error(
        "issuer {0} has no audience: a token that was made for another program would be accepted"
    )]
    NoAudience(IssuerUrl),
    /// A text that is empty or too long.
    #[error("{field} has a text of {len} characters, and may have 1 to {NAME_MAX}")]
    Length {
        /// The field.
        field: &'static str,
        /// The characters.
        len: usize,
    },
    /// Both a file with a key and a place for keys.
    #[error("issuer {0} has keyFile and jwksUri: it can have one of them")]
    TwoKeys(IssuerUrl),
    /// `signIn` without an issuer to sign in at.
    #[error("signIn needs an issuer, one of issuers and not one with keyFile")]
    SignInIssuer,
}

impl Access {
    /// The rules of a room that has none: everybody may read and write, and nobody is signed in.
    pub fn open() -> Self {
        Self {
            guests: Guests::Write,
            ..Self::default()
        }
    }

    /// Whether it can be used.
    pub fn check(&self) -> Result<(), InvalidAccess> {
        let Self {
            guests,
            issuers,
            read,
            write,
            moderate,
            denied,
            sign_in,
        } = self;
        if issuers.is_empty() && *guests == Guests::None {
            return Err(InvalidAccess::Nobody);
        }
        check_counts([
            ("issuers", issuers.len(), ISSUERS_MAX),
            ("read", read.0.len(), GRANTS_MAX),
            ("write", write.0.len(), GRANTS_MAX),
            ("moderate", moderate.len(), GRANTS_MAX),
        ])?;
        denied.check_counts(DENIED_UNITED_MAX)?;
        for (at, issuer) in issuers.iter().enumerate() {
            if issuers[..at]
                .iter()
                .any(|other| other.issuer == issuer.issuer)
            {
                return Err(InvalidAccess::IssuerTwice(issuer.issuer.clone()));
            }
            issuer.check()?;
        }
        check_lengths("denied.subjects", &denied.subjects)?;
        check_lengths("denied.tokenIds", &denied.token_ids)?;
        match sign_in {
            Some(sign_in) => self.check_sign_in(sign_in),
            None => Ok(()),
        }
    }

    fn check_sign_in(&self, sign_in: &SignIn) -> Result<(), InvalidAccess> {
        check_lengths("signIn.clientId", std::slice::from_ref(&sign_in.client_id))?;
        check_lengths("signIn.scopes", &sign_in.scopes)?;
        let has_keys = |issuer: &Issuer| issuer.key_file.is_none();
        match self.sign_in_issuer() {
            Some(issuer) if has_keys(issuer) => Ok(()),
            _ => Err(InvalidAccess::SignInIssuer),
        }
    }

    /// The issuer at which the page signs people in.
    pub fn sign_in_issuer(&self) -> Option<&Issuer> {
        match &self.sign_in.as_ref()?.issuer {
            Some(url) => self.issuers.iter().find(|issuer| issuer.issuer == *url),
            None => self.issuers.first(),
        }
    }
}

impl Issuer {
    fn check(&self) -> Result<(), InvalidAccess> {
        if self.audiences.is_empty() {
            return Err(InvalidAccess::NoAudience(self.issuer.clone()));
        }
        if self.audiences.len() > AUDIENCES_MAX {
            return Err(InvalidAccess::TooMany {
                field: "audiences",
                len: self.audiences.len(),
                max: AUDIENCES_MAX,
            });
        }
        if self.key_file.is_some() && self.jwks_uri.is_some() {
            return Err(InvalidAccess::TwoKeys(self.issuer.clone()));
        }
        check_lengths("audiences", &self.audiences)?;
        let Claims { name, groups } = &self.claims;
        check_lengths("claims", &[name.clone(), groups.clone()])
    }
}

fn check_counts<const N: usize>(
    counts: [(&'static str, usize, usize); N],
) -> Result<(), InvalidAccess> {
    let mut counts = counts.into_iter();
    match counts.find(|(_, len, max)| len > max) {
        Some((field, len, max)) => Err(InvalidAccess::TooMany { field, len, max }),
        None => Ok(()),
    }
}

fn check_lengths(field: &'static str, texts: &[String]) -> Result<(), InvalidAccess> {
    let lengths = texts.iter().map(|text| text.chars().count());
    for len in lengths {
        if !(1..=NAME_MAX).contains(&len) {
            return Err(InvalidAccess::Length { field, len });
        }
    }
    Ok(())
}

impl IssuerUrl {
    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Whether a URL is of this machine: `localhost`, a name below it (RFC 6761, 6.3), or a loopback address.
pub fn is_on_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(host)) => host == "localhost" || host.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl FromStr for IssuerUrl {
    type Err = InvalidIssuerUrl;

    fn from_str(text: &str) -> Result<Self, InvalidIssuerUrl> {
        let invalid = || InvalidIssuerUrl(text.chars().take(100).collect());
        if text.len() > ISSUER_LENGTH_MAX {
            return Err(invalid());
        }
        let url = Url::parse(text).map_err(|_| invalid())?;
        let is_safe = url.scheme() == "https" || url.scheme() == "http" && is_on_this_machine(&url);
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if is_safe && is_plain && url.host().is_some() {
            let text = text.to_owned();
            Ok(Self { text, url })
        } else {
            Err(invalid())
        }
    }
}

impl TryFrom<String> for IssuerUrl {
    type Error = InvalidIssuerUrl;

    fn try_from(text: String) -> Result<Self, InvalidIssuerUrl> {
        text.parse()
    }
}

impl From<IssuerUrl> for String {
    fn from(url: IssuerUrl) -> Self {
        url.text
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Grant {
    type Err = InvalidGrant;

    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        let name = |name: &str| {
            let is_name = (1..=NAME_MAX).contains(&name.chars().count());
            is_name.then(|| name.to_owned())
        };
        let grant = match text.split_once(':') {
            None if text == "*" => Some(Self::Everybody),
            Some(("group", group)) => name(group).map(Self::Group),
            Some(("subject", subject)) => name(subject).map(Self::Subject),
            _ => None,
        };
        grant.ok_or_else(|| InvalidGrant(text.chars().take(100).collect()))
    }
}

impl TryFrom<String> for Grant {
    type Error = InvalidGrant;

    fn try_from(text: String) -> Result<Self, InvalidGrant> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Group(group) => write!(f, "group:{group}"),
            Self::Subject(subject) => write!(f, "subject:{subject}"),
        }
    }
}
