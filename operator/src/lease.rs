//! Leader election: of several operators, the one that holds the Lease reconciles rooms.
//!
//! Every write carries the `resourceVersion` that was read, so that of two operators that claim the Lease at once the API server accepts
//! one. A leader that cannot renew in time must stop working before others may begin: [`Leadership::lost`] resolves after two thirds of the
//! Lease's duration without a renewal.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};

use crate::answer::{self, Answer};

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are.
    pub identity: String,
    /// How long a silent leader keeps others waiting.
    pub duration: Duration,
}

/// A Lease that is held.
pub struct Leadership {
    api: Api<Lease>,
    election: Election,
    held: Lease,
    renewed: Instant,
}

/// Why a Lease is not held any more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Somebody else has it.
    #[error("the lease was taken by another operator")]
    Taken,
    /// Somebody has deleted it.
    #[error("the lease was deleted")]
    Deleted,
    /// It could not be renewed in time.
    #[error("the lease could not be renewed in time")]
    Late(#[source] kube::Error),
}

/// Waits until the Lease is ours.
pub async fn acquire(client: Client, election: Election) -> Leadership {
    let api = Api::namespaced(client, &election.namespace);
    // A leader's clock may differ from ours: what counts is how long its Lease has not changed.
    let mut observed: Option<(Option<String>, Instant)> = None;
    let mut logged = None;
    loop {
        match attempt(&api, &election, &mut observed).await {
            Ok(Ok(held)) => {
                tracing::info!(identity = election.identity, "leading");
                return Leadership {
                    api,
                    election,
                    held,
                    renewed: Instant::now(),
                };
            }
            Ok(Err(holder)) => {
                if logged.as_ref() != Some(&holder) {
                    tracing::info!(holder, "another operator leads; standing by");
                    logged = Some(holder);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot acquire the lease"),
        }
        tokio::time::sleep(election.retry()).await;
    }
}

/// Takes the Lease if it is free; otherwise returns its holder.
async fn attempt(
    api: &Api<Lease>,
    election: &Election,
    observed: &mut Option<(Option<String>, Instant)>,
) -> Result<Result<Lease, String>, kube::Error> {
    let Some(found) = answer::optional_object(api.get(&election.name).await)? else {
        let new = Lease {
            metadata: ObjectMeta {
                name: Some(election.name.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(election.claim(None)),
        };
        return written_or_conflict(api.create(&PostParams::default(), &new).await);
    };
    let spec = found.spec.clone().unwrap_or_default();
    let holder = spec
        .holder_identity
        .clone()
        .filter(|holder| !holder.is_empty());
    if let Some(holder) = holder
        && holder != election.identity
    {
        let version = found.metadata.resource_version.clone();
        let unchanged = match observed {
            Some((known, since)) if *known == version => since.elapsed(),
            _ => {
                *observed = Some((version, Instant::now()));
                Duration::ZERO
            }
        };
        let duration = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(election.duration, Duration::from_secs);
        if unchanged < duration {
            return Ok(Err(holder));
        }
    }
    let claimed = Lease {
        spec: Some(election.claim(Some(&spec))),
        ..found
    };
    written_or_conflict(
        api.replace(&election.name, &PostParams::default(), &claimed)
            .await,
    )
}

/// A conflict is no error: another operator was faster.
fn written_or_conflict(
    written: Result<Lease, kube::Error>,
) -> Result<Result<Lease, String>, kube::Error> {
    match written {
        Ok(lease) => Ok(Ok(lease)),
        Err(error) if Answer::of(&error) == Answer::Conflict => {
            Ok(Err("another operator was faster".to_owned()))
        }
        Err(error) => Err(error),
    }
}

impl Election {
    fn retry(&self) -> Duration {
        self.duration / 6
    }

    fn claim(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let transitions = before.and_then(|before| before.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs()).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions.unwrap_or(0) + 1),
            ..LeaseSpec::default()
        }
    }
}

impl Leadership {
    /// Renews the Lease for as long as that works, and returns why it no longer does.
    pub async fn lost(&mut self) -> Lost {
        loop {
            tokio::time::sleep(self.election.retry()).await;
            let renewed = tokio::time::timeout(self.left(), self.renew()).await;
            match renewed {
                Ok(Ok(())) => {}
                Ok(Err(error)) if Answer::of(&error) == Answer::Conflict => return Lost::Taken,
                Ok(Err(error)) if Answer::of(&error) == Answer::NotFound => return Lost::Deleted,
                Ok(Err(error)) if self.left().is_zero() => return Lost::Late(error),
                Ok(Err(error)) => tracing::warn!(%error, "the lease was not renewed; trying again"),
                Err(_) => {
                    return Lost::Late(kube::Error::Service(
                        "the API server did not answer".into(),
                    ));
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), kube::Error> {
        let began = Instant::now();
        let renewed = LeaseSpec {
            renew_time: Some(MicroTime(Timestamp::now())),
            ..self.held.spec.clone().unwrap_or_default()
        };
        self.write(renewed).await?;
        self.renewed = began;
        Ok(())
    }

    /// How long the leader may go on without a renewal.
    pub fn left(&self) -> Duration {
        let deadline = self.election.duration * 2 / 3;
        deadline.saturating_sub(self.renewed.elapsed())
    }

    /// Gives the Lease back, so that the next operator need not wait.
    pub async fn release(mut self) {
        let free = LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            ..self.held.spec.clone().unwrap_or_default()
        };
        let limit = self.left().max(self.election.retry());
        let error = match tokio::time::timeout(limit, self.write(free)).await {
            Ok(Ok(())) => return tracing::info!("released the lease"),
            Ok(Err(error)) => answer::message(&error),
            Err(_) => "the API server did not answer".to_owned(),
        };
        tracing::warn!(%error, "the lease could not be released; others wait until it expires");
    }

    /// Writes the Lease. It may have changed although nobody else wrote it: by an earlier write of ours whose answer was lost or not waited
    /// for.
    async fn write(&mut self, spec: LeaseSpec) -> Result<(), kube::Error> {
        // An operator that acquires it writes another time, even if it has our name.
        let acquired = spec.acquire_time.clone();
        self.held.spec = Some(spec);
        let name = &self.election.name;
        loop {
            let written = self
                .api
                .replace(name, &PostParams::default(), &self.held)
                .await;
            let conflict = match written {
                Err(error) if Answer::of(&error) == Answer::Conflict => error,
                written => return written.map(|lease| self.held = lease),
            };
            let found = self.api.get(name).await?;
            let is_ours = found.spec.as_ref().is_some_and(|spec| {
                let is_held = spec.holder_identity.as_ref() == Some(&self.election.identity);
                is_held && spec.acquire_time == acquired
            });
            if !is_ours {
                return Err(conflict);
            }
            self.held.metadata = found.metadata;
        }
    }
}
