//! Who may enter a room, as its spec and the chart's defaults say it. `papo_protocol::access` has the bounds.

use kube::KubeSchema;
use papo_protocol::access::{AUDIENCES_MAX, DENIED_MAX, ISSUER_LENGTH_MAX, ISSUERS_MAX, NAME_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// Scopes that a page may ask for.
const SCOPES_MAX: usize = 32;
/// A text whose only braces stand for the room's namespace or name.
const NAMES_THE_ROOM: &str = r"^([^{}]|\{namespace\}|\{name\})*$";
/// Length of a sender, in characters.
const SENDER_LENGTH: usize = 24;

/// Who may enter the room, and what they may do there. A field that is not given has the operator's default (`access` of the chart); a room for which
/// neither says anything is open: everybody may read and write.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.issuers) || self.issuers.all(one, self.issuers.exists_one(other, other.issuer == one.issuer))")
        .message("an issuer may be named once"),
    validation = Rule::new("!has(self.guests) || self.guests != 'None' || !has(self.issuers) || size(self.issuers) > 0")
        .message("nobody may enter: name an issuer, or let guests read or write"),
    validation = Rule::new("!has(self.signIn) || !has(self.signIn.issuer) || !has(self.issuers) || self.issuers.exists(one, one.issuer == self.signIn.issuer && !has(one.keySecretName))")
        .message("signIn.issuer must be one of issuers, and not one with keySecretName"),
)]
pub struct Access {
    /// What people who are not signed in may do: `Write` (and read), `Read`, or `None`, which asks them to sign in. `None` if neither the room nor the
    /// operator's default says it, but one of them says something else of access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests: Option<Guests>,
    /// The issuers whose access tokens are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ISSUERS_MAX))]
    pub issuers: Option<Vec<Issuer>>,
    /// Who of those signed in may read: `*` for everybody, `group:NAME`, or `subject:SUB`. `*` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grants")]
    pub read: Option<Vec<String>>,
    /// Who of those signed in may write, and so read too. `*` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grants")]
    pub write: Option<Vec<String>>,
    /// Who of those signed in may moderate, and so read and write too. Nobody if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::grants")]
    pub moderate: Option<Vec<String>>,
    /// Who may not enter, whatever else says so. Those whom the operator's default denies are denied too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// How the page signs people in. It does not offer it if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignIn>,
}

/// What people who are not signed in may do.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guests {
    /// Read and write.
    Write,
    /// Read.
    Read,
    /// Nothing: they are asked to sign in.
    None,
}

/// An OpenID Connect issuer, or another one that signs JSON Web Tokens.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.keySecretName) || !has(self.jwksUri)")
        .message("an issuer has keySecretName or jwksUri, not both: the servers ask nobody for keys if they are given one")
)]
pub struct Issuer {
    /// Its URL, exactly as in the claim `iss` of its tokens.
    #[schemars(schema_with = "schema::issuer_url")]
    pub issuer: String,
    /// A token must be for one of these (claim `aud`). `{namespace}` and `{name}` stand for those of the room.
    #[schemars(
        length(min = 1, max = AUDIENCES_MAX),
        inner(length(min = 1, max = NAME_MAX), regex(pattern = NAMES_THE_ROOM))
    )]
    pub audiences: Vec<String>,
    /// Where its keys are (RFC 7517). The servers find out by OpenID Connect Discovery if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::issuer_url")]
    pub jwks_uri: Option<String>,
    /// The claims of a token that hold what a room needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Claims>,
    /// Secret in the room's namespace with the certificate authority of the issuer (PEM) in the key `ca.crt`, if the system does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_name")]
    pub ca_secret_name: Option<String>,
    /// Secret in the room's namespace with at least 32 bytes in the key `key`, for an issuer that signs with HS256, HS384 or HS512. The servers
    /// accept no other algorithm then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::secret_name")]
    pub key_secret_name: Option<String>,
}

/// The claims of a token that hold what a room needs. A claim is a name, or a JSON Pointer (RFC 6901) if it begins with `/`, as in
/// `/realm_access/roles`.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Claims {
    /// The display name; `name` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub name: Option<String>,
    /// The groups, a list of texts or one text; `groups` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = NAME_MAX))]
    pub groups: Option<String>,
}

/// Who may not enter. Whoever is connected already is put out.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Denied {
    /// People, as the claim `sub` of their tokens names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = DENIED_MAX), inner(length(min = 1, max = NAME_MAX)))]
    pub subjects: Option<Vec<String>>,
    /// Single tokens, by their claim `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = DENIED_MAX), inner(length(min = 1, max = NAME_MAX)))]
    pub token_ids: Option<Vec<String>>,
    /// Senders, as messages show them: guests too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = DENIED_MAX),
        inner(length(max = SENDER_LENGTH), regex(pattern = r"^[0-9a-f]{24}$"))
    )]
    pub senders: Option<Vec<String>>,
}

/// How the page signs people in: OpenID Connect's Authorization Code Flow with PKCE (RFC 7636), as a public client.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignIn {
    /// Which of the issuers; the first if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::issuer_url")]
    pub issuer: Option<String>,
    /// The id that the issuer has given to the page. `{namespace}` and `{name}` stand for those of the room.
    #[schemars(length(min = 1, max = NAME_MAX), regex(pattern = NAMES_THE_ROOM))]
    pub client_id: String,
    /// The scopes to ask for; `openid` and `profile` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = SCOPES_MAX), inner(length(min = 1, max = NAME_MAX)))]
    pub scopes: Option<Vec<String>>,
    /// Which of the issuer's tokens the page sends to the servers; `Access` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SignInToken>,
    /// The protected resource that the access token is for (RFC 8707), for issuers that ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = ISSUER_LENGTH_MAX))]
    pub resource: Option<String>,
}

/// One of the tokens that an issuer returns.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignInToken {
    /// The access token, which must be a JSON Web Token (RFC 9068).
    Access,
    /// The ID token, for issuers whose access tokens are opaque. Its audience is the client id.
    Id,
}
