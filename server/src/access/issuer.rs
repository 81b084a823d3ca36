//! An issuer of the room, and its keys as the server has fetched them last.
//!
//! - One task of each issuer fetches its keys: at once, every quarter of an hour, and for a token whose key is not known. The last happens at most
//!   once in half a minute, so that whoever invents keys does not have the issuer asked for each.
//! - Keys are kept while they cannot be fetched. A token whose key is known needs no issuer.
//! - New rules take the keys of the former ones over.

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
    fetch::{FetchError, fetch},
    file::Source,
    keys::{self, Key},
    token::{TokenError, Unverified},
};
use crate::backoff::Backoff;

/// How long fetched keys are used, at most, before they are fetched again.
const REFRESH: Duration = Duration::from_mins(15);
/// How soon keys are fetched again after a failure: at first, and at most.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often tokens whose key is not known may have the keys fetched.
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
    /// Why its keys could not be fetched the last time.
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
    /// How often the keys were fetched, or were not.
    attempts: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<[Key]>>,
    fetched: Option<Instant>,
    problem: Option<String>,
    is_fetching: bool,
    /// When a token last had the keys fetched.
    demanded: Option<Instant>,
}

impl Issuer {
    /// An issuer, with the keys of the former rules' if it is the same.
    pub(super) fn new(
        settings: &access::Issuer,
        source: Source,
        former: Option<&Self>,
    ) -> Arc<Self> {
        let cache = match former {
            Some(former) if former.cache.shared.source == source => former.cache.clone(),
            Some(former) => Cache::start(source, former.cache.keys_for_next()),
            None => Cache::start(source, None),
        };
        Arc::new(Self {
            url: settings.issuer.as_str().into(),
            settings: settings.clone(),
            cache,
        })
    }

    /// The claims of a token that this issuer has signed.
    pub(super) async fn claims(
        &self,
        token: &Unverified<'_>,
    ) -> Result<Map<String, Value>, TokenError> {
        match self.verify(token) {
            Err(error) if may_need_keys(token, error) && self.cache.shared.refresh().await => {
                self.verify(token)
            }
            verified => verified,
        }
    }

    fn verify(&self, token: &Unverified<'_>) -> Result<Map<String, Value>, TokenError> {
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
            secret: None,
        };
        let shared = Shared::new(source, keys.map(Into::into));
        // Nothing fetches for it.
        shared.state.lock().demanded = Some(Instant::now());
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
    fn start(source: Source, keys: Option<Arc<[Key]>>) -> Arc<Self> {
        let shared = Shared::new(source, keys);
        shared.state.lock().is_fetching = true;
        let task = tokio::spawn(shared.clone().run());
        Arc::new(Self {
            shared,
            _task: Some(AbortOnDropHandle::new(task)),
        })
    }

    /// What is used until the keys of a changed source are there. A secret is not used any longer.
    fn keys_for_next(&self) -> Option<Arc<[Key]>> {
        let Shared { source, state, .. } = &*self.shared;
        let keys = state.lock().keys.clone();
        keys.filter(|_| source.secret.is_none())
    }
}

impl Shared {
    fn new(source: Source, keys: Option<Arc<[Key]>>) -> Arc<Self> {
        let state = State {
            keys: keys.filter(|_| source.secret.is_none()),
            ..State::default()
        };
        Arc::new(Self {
            source,
            state: Mutex::new(state),
            wanted: Notify::new(),
            attempts: watch::Sender::new(0),
        })
    }

    /// Fetches the keys, again and again. A secret is read with the access file, and taken once.
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
            if self.source.secret.is_some() {
                return;
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    fn take(&self, fetched: Result<Vec<Key>, FetchError>) {
        let issuer = self.source.issuer.as_str();
        let mut state = self.state.lock();
        state.is_fetching = false;
        match fetched {
            Ok(keys) => {
                if state.fetched.is_none() || state.problem.is_some() {
                    info!(
                        issuer,
                        keys = keys.len(),
                        "the keys of an issuer were fetched"
                    );
                }
                state.keys = Some(keys.into());
                state.fetched = Some(Instant::now());
                state.problem = None;
            }
            Err(error) => {
                let problem = error.to_string();
                if state.problem.as_ref() != Some(&problem) {
                    let known = state.keys.as_ref().map_or(0, |keys| keys.len());
                    warn!(
                        issuer,
                        problem,
                        known,
                        "the keys of an issuer cannot be fetched; those that are known are used on"
                    );
                }
                state.problem = Some(problem);
            }
        }
        drop(state);
        self.attempts.send_modify(|attempts| *attempts += 1);
    }

    /// Has the keys fetched, and waits for it. False if that was done a short while ago, or takes too long.
    async fn refresh(&self) -> bool {
        let mut attempts = self.attempts.subscribe();
        {
            let mut state = self.state.lock();
            if !state.is_fetching {
                if state.demanded.is_some_and(|at| at.elapsed() < DEMAND) {
                    return false;
                }
                state.demanded = Some(Instant::now());
                state.is_fetching = true;
                self.wanted.notify_one();
            }
        }
        matches!(timeout(WAIT, attempts.changed()).await, Ok(Ok(())))
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("issuer", &self.source.issuer)
            .finish_non_exhaustive()
    }
}
