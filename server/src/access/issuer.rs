//! An issuer of the room, and its keys as the server has fetched them last.
//!
//! - One task of each issuer fetches its keys: at once, every quarter of an hour, and for a token whose key is not known. The last happens at most
//!   [`DEMANDS`] times in half a minute, and once for each key, so that whoever invents keys does not have the issuer asked for each.
//! - Keys are kept while they cannot be fetched. A token whose key is known needs no issuer.
//! - A key set that was fetched replaces the former, even if no key in it can be used. Members whose key is gone are put out.
//! - New rules take the keys of the former ones over if they come from the same place.

use std::{sync::Arc, time::Duration};

use papo_protocol::access;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{
    Changes,
    fetch::{self, FetchError, fetch},
    file::Source,
    keys::{self, Key, KeySet},
    token::{Proof, TokenError, Unverified},
};
use crate::backoff::Backoff;

/// How long fetched keys are used, at most, before they are fetched again.
const REFRESH: Duration = Duration::from_mins(15);
/// How soon keys are fetched again after a failure: at first, and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often tokens whose key is not known may have the keys fetched: so often in this time.
const DEMANDS: usize = 3;
const DEMAND: Duration = Duration::from_secs(30);
/// How long a client waits for keys that are being fetched.
const WAIT: Duration = Duration::from_secs(5);

/// An issuer of the room.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// Its URL, which all its people share.
    pub(super) url: Arc<str>,
    pub(super) settings: access::Issuer,
    cache: Arc<Cache>,
}

/// The state of an issuer, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssuerStatus {
    pub(crate) issuer: Arc<str>,
    pub(crate) keys: usize,
    /// How long ago its keys were fetched.
    pub(crate) age: Option<Duration>,
    /// Why its keys could not be fetched the last time, or what is wrong with them.
    pub(crate) problem: Option<String>,
}

/// The keys of an issuer.
#[derive(Debug)]
struct Cache {
    shared: Arc<Shared>,
    /// Ends with the last rules that name the issuer.
    _task: Option<AbortOnDropHandle<()>>,
}

struct Shared {
    source: Source,
    state: Mutex<State>,
    /// A token needs keys.
    wanted: Notify,
    /// Whether the keys were fetched the last time. Each attempt sends it.
    attempts: watch::Sender<bool>,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<[Key]>>,
    fetched: Option<Instant>,
    problem: Option<String>,
    is_fetching: bool,
    /// When tokens have had the keys fetched, and for which key.
    demands: Vec<(Instant, Box<str>)>,
}

impl Issuer {
    /// An issuer, with the keys of the former rules' if it is the same.
    pub(super) fn new(
        settings: &access::Issuer,
        source: Source,
        former: Option<&Self>,
        changes: &Arc<Changes>,
    ) -> Arc<Self> {
        let same = former.filter(|former| former.cache.shared.source == source);
        let cache = same.map(|former| former.cache.clone());
        let cache = cache.unwrap_or_else(|| Cache::start(source, changes.clone()));
        Arc::new(Self {
            url: settings.issuer.as_str().into(),
            settings: settings.clone(),
            cache,
        })
    }

    /// The claims of a token that this issuer has signed, and what has verified them.
    pub(super) async fn verified(
        &self,
        token: &Unverified<'_>,
    ) -> Result<(Map<String, Value>, Proof), TokenError> {
        let shared = &self.cache.shared;
        match self.verify(token) {
            Err(error) if may_need_keys(token, error) => {
                if shared.refresh(token.wanted_key()).await? {
                    self.verify(token)
                } else {
                    Err(error)
                }
            }
            verified => verified,
        }
    }

    /// Whether a token that was verified would be again. Nobody knows while the keys of the issuer were never fetched: then it would.
    pub(super) fn accepts(&self, proof: &Proof) -> bool {
        let keys = self.cache.shared.state.lock().keys.clone();
        let has_key = keys.is_none_or(|keys| {
            let is_it =
                |key: &Key| key.digest == proof.key && key.algorithms.contains(&proof.algorithm);
            keys.iter().any(is_it)
        });
        let mut audiences = self.settings.audiences.iter();
        has_key && audiences.any(|audience| **audience == *proof.audience)
    }

    fn verify(&self, token: &Unverified<'_>) -> Result<(Map<String, Value>, Proof), TokenError> {
        let keys = self.cache.shared.state.lock().keys.clone();
        let keys = keys.ok_or(TokenError::KeysUnavailable)?;
        let key = keys::find(&keys, token)?;
        token.verify(key, &self.settings.audiences)
    }

    /// For people.
    pub(super) fn status(&self) -> IssuerStatus {
        let state = self.cache.shared.state.lock();
        IssuerStatus {
            issuer: self.url.clone(),
            keys: state.keys.as_ref().map_or(0, |keys| keys.len()),
            age: state.fetched.map(|at| at.elapsed()),
            problem: state.problem.clone(),
        }
    }

    #[cfg(test)]
    pub(super) fn without_keys(settings: &access::Issuer) -> Arc<Self> {
        Self::with_keys(settings, None)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn with_keys(settings: &access::Issuer, keys: Option<Vec<Key>>) -> Arc<Self> {
        let source = Source {
            issuer: settings.issuer.clone(),
            jwks_uri: None,
            authority: None,
            // Nothing fetches for it.
            secret: Some(Ok(Vec::new())),
        };
        let shared = Shared::new(source, Arc::default());
        shared.state.lock().keys = keys.map(Into::into);
        Arc::new(Self {
            url: settings.issuer.as_str().into(),
            settings: settings.clone(),
            cache: Arc::new(Cache {
                shared,
                _task: None,
            }),
        })
    }
}

/// Whether newer keys could be those of the token. One that names no key may have been signed with a newer one.
fn may_need_keys(token: &Unverified<'_>, error: TokenError) -> bool {
    match error {
        TokenError::UnknownKey | TokenError::KeysUnavailable => true,
        TokenError::Signature => token.key_id.is_none(),
        _ => false,
    }
}

impl Cache {
    fn start(source: Source, changes: Arc<Changes>) -> Arc<Self> {
        let shared = Shared::new(source, changes);
        let task = if let Some(secret) = &shared.source.secret {
            shared.take(fetch::of_secret(secret));
            None
        } else {
            shared.state.lock().is_fetching = true;
            let task = tokio::spawn(shared.clone().run());
            Some(AbortOnDropHandle::new(task))
        };
        Arc::new(Self {
            shared,
            _task: task,
        })
    }
}

impl Shared {
    fn new(source: Source, changes: Arc<Changes>) -> Arc<Self> {
        Arc::new(Self {
            source,
            state: Mutex::default(),
            wanted: Notify::new(),
            attempts: watch::Sender::default(),
            changes,
        })
    }

    /// Fetches the keys, again and again.
    async fn run(self: Arc<Self>) {
        let mut backoff = Backoff::new(RETRY, RETRY_MAX);
        loop {
            self.state.lock().is_fetching = true;
            let fetched = fetch(&self.source).await;
            let wait = if fetched.is_ok() {
                backoff.reset();
                // Servers of a room do not fetch at the same time.
                REFRESH.mul_f64(1.0 - 0.2 * rand::random::<f64>())
            } else {
                backoff.delay()
            };
            self.take(fetched);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    fn take(&self, fetched: Result<KeySet, FetchError>) {
        let issuer = self.source.issuer.as_str();
        let is_fetched = fetched.is_ok();
        let mut state = self.state.lock();
        state.is_fetching = false;
        let (has_changed, problem) = match fetched {
            Ok(KeySet { keys, problem }) => {
                if state.fetched.is_none() || state.problem.is_some() {
                    info!(
                        issuer,
                        keys = keys.len(),
                        "the keys of an issuer were fetched"
                    );
                }
                let former = state.keys.replace(keys.into());
                state.fetched = Some(Instant::now());
                let of = |keys: Option<&Arc<[Key]>>| -> Option<Vec<_>> {
                    let keys = keys?.iter();
                    let keys = keys.map(|key| (key.digest, key.algorithms.clone()));
                    Some(keys.collect())
                };
                let has_changed = of(former.as_ref()) != of(state.keys.as_ref());
                (has_changed, problem.map(|problem| problem.to_string()))
            }
            Err(error) => (false, Some(error.to_string())),
        };
        if let Some(problem) = problem.as_ref().filter(|_| state.problem != problem) {
            let keys = state.keys.as_ref().map_or(0, |keys| keys.len());
            if is_fetched {
                warn!(
                    issuer,
                    problem, keys, "the key set of an issuer is in force with a problem"
                );
            } else {
                warn!(
                    issuer,
                    problem,
                    keys,
                    "the keys of an issuer cannot be fetched; those that are known are used on"
                );
            }
        }
        state.problem = problem;
        drop(state);
        if has_changed {
            self.changes.raise();
        }
        self.attempts.send_replace(is_fetched);
    }

    /// Has the keys fetched, and waits for it. False if there are no newer ones for the token; an error if nobody knows.
    async fn refresh(&self, wanted_key: &str) -> Result<bool, TokenError> {
        if self.source.secret.is_some() {
            return Ok(false);
        }
        let mut attempts = self.attempts.subscribe();
        {
            let mut state = self.state.lock();
            if !state.is_fetching {
                if !state.demand(wanted_key)? {
                    return Ok(false);
                }
                state.is_fetching = true;
                self.wanted.notify_one();
            }
        }
        match timeout(WAIT, attempts.changed()).await {
            Ok(Ok(())) if *attempts.borrow() => Ok(true),
            _ => Err(TokenError::KeysUnavailable),
        }
    }
}

impl State {
    /// Whether keys are to be fetched for a token: not if they were for the same key a short while ago. An error if it was done too often.
    fn demand(&mut self, wanted_key: &str) -> Result<bool, TokenError> {
        self.demands.retain(|(at, _)| at.elapsed() < DEMAND);
        let fetched = self.fetched;
        let is_known = |(at, key): &(Instant, Box<str>)| {
            **key == *wanted_key && fetched.is_some_and(|fetched| fetched >= *at)
        };
        if self.demands.iter().any(is_known) {
            return Ok(false);
        }
        if self.demands.len() == DEMANDS {
            return Err(TokenError::KeysUnavailable);
        }
        self.demands.push((Instant::now(), wanted_key.into()));
        Ok(true)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("issuer", &self.source.issuer)
            .finish_non_exhaustive()
    }
}
