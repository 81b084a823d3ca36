//! Who may enter the room, and what each may do there: rules from a file, and the access tokens of issuers.
//!
//! - The rules in force are one value, which is replaced as a whole. A number counts the changes of rules and of keys, so that a member can keep
//!   what it may do for as long as the number stays.
//! - A file that cannot be used changes nothing: the former rules stay in force, and the server says so.
//! - A token is verified when a client connects and when it sends a new one, never for a message. What has verified it is kept: when its issuer
//!   withdraws that key, or the room that audience, the token is no longer accepted.
//! - Nothing here knows a socket.

mod audit;
mod expiry;
mod fetch;
mod file;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod issuer;
mod keys;
mod person;
mod rules;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod token;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use papo_protocol::{
    Access, Launch, RoomName,
    access::{Guests, SignIn, SignInToken},
};
use papo_telemetry::Note;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value as Json, json};
use tokio::{sync::watch, time::sleep};
use tracing::{error, info};

use crate::{
    chat::{AccessToken, Member},
    clock::unix_millis,
    metrics::Metrics,
};
use file::Content;
use issuer::Issuer;
use person::display_name;
use token::{Unverified, is_for_another_use};

pub(crate) use audit::{Audit, Who};
pub(crate) use expiry::{Due, Expiry};
pub(crate) use issuer::IssuerStatus;
pub(crate) use person::Person;
pub(crate) use rules::{May, NoEntry, Rules};
pub(crate) use token::TokenError;

/// How often the access file is read.
const WATCH: Duration = Duration::from_secs(2);

/// Decides who may enter the room, and what each may do there.
pub(crate) struct AccessControl {
    file: Option<PathBuf>,
    room: RoomName,
    name_length: usize,
    rules: RwLock<Arc<Rules>>,
    changes: Arc<Changes>,
    /// What the file said last, or why it cannot be used. `None` without a file.
    content: Mutex<Option<Result<Arc<Content>, String>>>,
    metrics: Arc<Metrics>,
    pub(crate) audit: Audit,
}

/// Counts the changes of rules and of keys.
#[derive(Debug, Default)]
struct Changes {
    number: AtomicU64,
    sender: watch::Sender<u64>,
}

impl Changes {
    /// There was one. Returns its number.
    fn raise(&self) -> u64 {
        let mut raised = 0;
        self.sender.send_modify(|number| {
            *number += 1;
            raised = *number;
            self.number.store(raised, Ordering::Release);
        });
        raised
    }
}

/// Somebody whose access token was verified, and who may enter.
#[derive(Debug)]
pub(crate) struct SignedIn {
    pub(crate) member: Member,
    pub(crate) person: Person,
    pub(crate) may: May,
}

/// The state of access, for people.
#[derive(Debug)]
pub(crate) struct AccessStatus {
    /// Why the access file cannot be used.
    pub(crate) problem: Option<String>,
    pub(crate) guests: Guests,
    pub(crate) issuers: Vec<IssuerStatus>,
}

impl AccessControl {
    /// Reads the access file, if there is one, and begins to fetch the keys of its issuers.
    pub(crate) fn start(launch: &Launch, metrics: Arc<Metrics>) -> anyhow::Result<Arc<Self>> {
        let control = Self::new(launch, metrics);
        if let Some(file) = &control.file {
            let content = Content::read(file, None);
            let content =
                content.with_context(|| format!("cannot use --access {}", file.display()))?;
            control.put_in_force(&content);
            *control.content.lock() = Some(Ok(content.into()));
        }
        Ok(Arc::new(control))
    }

    fn new(launch: &Launch, metrics: Arc<Metrics>) -> Self {
        Self {
            file: launch.access.clone(),
            room: launch.room.clone(),
            name_length: launch.limits.name_length as usize,
            rules: RwLock::new(Arc::new(Rules::new(Access::open(), Vec::new()))),
            changes: Arc::default(),
            content: Mutex::default(),
            metrics,
            audit: Audit::new(&launch.room),
        }
    }

    /// Whether the rules can change: they are those of a file.
    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The rules in force.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    /// Whether anybody can sign in.
    pub(crate) fn accepts_tokens(&self) -> bool {
        self.has_file() && !self.rules().issuers.is_empty()
    }

    /// How many changes of rules and of keys there were.
    pub(crate) fn number(&self) -> u64 {
        self.changes.number.load(Ordering::Acquire)
    }

    /// Changes when the rules or the keys of an issuer do.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.sender.subscribe()
    }

    /// Verifies an access token: who its bearer is, and what it may do by the rules in force.
    pub(crate) async fn sign_in(&self, token: &AccessToken) -> Result<SignedIn, TokenError> {
        let (member, person) = self.verify(token).await?;
        let may = self.rules().person(&member.sender, &person);
        let may = may.map_err(|no_entry| self.rejected(TokenError::NoEntry(no_entry)))?;
        Ok(SignedIn {
            member,
            person,
            may,
        })
    }

    /// Verifies an access token: who its bearer is.
    pub(crate) async fn verify(&self, token: &AccessToken) -> Result<(Member, Person), TokenError> {
        let read = self.read(token).await;
        read.map_err(|error| self.rejected(error))
    }

    fn rejected(&self, error: TokenError) -> TokenError {
        self.metrics.token_rejected(error.reason());
        error
    }

    async fn read(&self, token: &AccessToken) -> Result<(Member, Person), TokenError> {
        let rules = self.rules();
        if rules.issuers.is_empty() {
            return Err(TokenError::NotAccepted);
        }
        let token = Unverified::read(token.expose())?;
        let issuer = rules
            .issuer(&token.issuer)
            .ok_or(TokenError::UnknownIssuer)?;
        let (claims, proof) = issuer.verified(&token).await?;
        if is_for_another_use(&claims, rules.accepts_id_tokens(issuer)) {
            return Err(TokenError::Kind);
        }
        let names = &issuer.settings.claims;
        let now = unix_millis().unsigned_abs();
        // The rules may have changed while the keys were fetched.
        let person = Person::read(&issuer.url, names, (&claims, proof), &self.rules(), now)?;
        let sender = person.sender(&self.room);
        let user = display_name(names, &claims, &sender, self.name_length);
        let member = Member {
            sender,
            user,
            verified: true,
        };
        Ok((member, person))
    }

    /// Reads the file again and again, puts its rules in force when they have changed, and says in the note what is wrong.
    pub(crate) async fn watch(self: Arc<Self>, note: Note) {
        let Some(file) = &self.file else {
            return std::future::pending().await;
        };
        loop {
            match self.status().problems() {
                problems if problems.is_empty() => note.clear(),
                problems => note.set(problems.join("; ")),
            }
            sleep(WATCH).await;
            let file = file.clone();
            let former = self.content.lock().clone().and_then(Result::ok);
            let content = tokio::task::spawn_blocking(move || {
                let content = Content::read(&file, former.as_deref());
                content.map(Arc::new).map_err(|error| error.to_string())
            });
            if let Ok(content) = content.await {
                self.take(content);
            }
        }
    }

    /// Takes what the file says now.
    fn take(&self, content: Result<Arc<Content>, String>) {
        if self.content.lock().as_ref() == Some(&content) {
            return;
        }
        match &content {
            Ok(content) => self.put_in_force(content),
            Err(problem) => error!(
                problem,
                "the access file cannot be used; the former rules stay in force"
            ),
        }
        *self.content.lock() = Some(content);
    }

    fn put_in_force(&self, content: &Content) {
        let Content {
            access, sources, ..
        } = content;
        let former = self.rules();
        let issuers = access.issuers.iter().zip(sources);
        let issuers = issuers.map(|(settings, source)| {
            let former = former.issuer(settings.issuer.as_str());
            let former = former.map(AsRef::as_ref);
            Issuer::new(settings, source.clone(), former, &self.changes)
        });
        let rules = Rules::new((**access).clone(), issuers.collect());
        let (guests, issuers) = (rules.access.guests, rules.issuers.len());
        *self.rules.write() = Arc::new(rules);
        let number = self.changes.raise();
        info!(
            number,
            ?guests,
            issuers,
            "the rules of the access file are in force"
        );
        self.audit.access_changed(number);
    }

    /// The state of access, for people.
    pub(crate) fn status(&self) -> AccessStatus {
        let rules = self.rules();
        AccessStatus {
            problem: match &*self.content.lock() {
                Some(Err(problem)) => Some(problem.clone()),
                Some(Ok(_)) | None => None,
            },
            guests: rules.access.guests,
            issuers: rules.issuers.iter().map(|issuer| issuer.status()).collect(),
        }
    }

    /// What the page needs to know: `access.json`.
    pub(crate) fn of_page(&self) -> Json {
        let rules = self.rules();
        let sign_in = rules.access.sign_in.as_ref();
        let sign_in = sign_in.zip(rules.access.sign_in_issuer()).map(|(sign_in, issuer)| {
            let SignIn {
                issuer: _,
                client_id,
                scopes,
                token,
                resource,
            } = sign_in;
            let token = match token {
                SignInToken::Access => "Access",
                SignInToken::Id => "Id",
            };
            let mut of_page = json!({
                "issuer": issuer.issuer.as_str(), "clientId": client_id, "scopes": scopes, "token": token,
            });
            if let Some(resource) = resource {
                of_page["resource"] = json!(resource);
            }
            of_page
        });
        json!({ "guests": rules.access.guests, "signIn": sign_in })
    }

    /// The origin of the issuer at which the page signs people in.
    pub(crate) fn sign_in_origin(&self) -> Option<String> {
        let rules = self.rules();
        let issuer = rules.access.sign_in_issuer()?;
        Some(issuer.issuer.url().origin().ascii_serialization())
    }
}

impl AccessStatus {
    /// What is wrong, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let of_file = self.problem.iter().map(|problem| {
            format!("the access file cannot be used, and the former rules stay in force: {problem}")
        });
        let of_issuers = self.issuers.iter().filter_map(|status| {
            let IssuerStatus {
                issuer, problem, ..
            } = status;
            Some(format!("issuer {issuer}: {}", problem.as_ref()?))
        });
        of_file.chain(of_issuers).collect()
    }

    /// For `/stats`.
    pub(crate) fn to_json(&self) -> Json {
        let issuers = self.issuers.iter().map(|status| {
            json!({
                "issuer": &*status.issuer,
                "keys": status.keys,
                "ageSeconds": status.age.map(|age| age.as_secs()),
                "problem": status.problem,
            })
        });
        json!({
            "valid": self.problem.is_none(),
            "problem": self.problem,
            "guests": self.guests,
            "issuers": issuers.collect::<Vec<_>>(),
        })
    }
}
