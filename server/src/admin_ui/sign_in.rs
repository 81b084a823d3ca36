//! Signing in to the Admin UI: by user and password, or by the id of a session that was given for them.
//!
//! - The files are read at each sign-in: who has changed them need not restart the server, and sessions of the credentials before are void.
//! - Comparing takes the same time whatever is given. Each attempt with a password counts, by network address.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use papo_protocol::Launch;
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tracing::error;

use crate::{address::Address, socket::Rates};

/// Attempts that an address may make each second on average, and at once.
const ATTEMPTS_PER_SECOND: u32 = 1;
const ATTEMPT_BURST: u32 = 10;
/// Sessions that are kept. A new one replaces the oldest.
const SESSIONS: usize = 64;
/// How long a session is kept.
const SESSION_LIFETIME: Duration = Duration::from_hours(12);
/// Longest user or password, in bytes.
const LONGEST: u64 = 1_024;

type Hash = [u8; 32];

/// What a client says of itself.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Auth {
    username: Option<String>,
    password: Option<String>,
    session_id: Option<String>,
}

/// Why a client is not signed in. The page knows the words of the first one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Rejected {
    #[error("invalid credentials")]
    Credentials,
    #[error("too many attempts, try again in {0} s")]
    Attempts(u64),
    #[error("the server cannot read its credentials")]
    Files,
}

/// Who may sign in.
pub(super) struct SignIn {
    user: PathBuf,
    password: PathBuf,
    attempts: Rates<Address>,
    sessions: Mutex<Vec<Session>>,
}

/// A session. Its id is not kept.
struct Session {
    id: Hash,
    /// The credentials that it was given for.
    credentials: Hash,
    since: Instant,
}

impl SignIn {
    /// `None` if the Admin UI is off.
    pub(super) fn new(launch: &Launch) -> anyhow::Result<Option<Self>> {
        let (Some(user), Some(password)) = (&launch.admin_ui_user, &launch.admin_ui_password)
        else {
            return Ok(None);
        };
        for (file, flag) in [(user, "--admin-ui-user"), (password, "--admin-ui-password")] {
            let content = std::fs::read(file);
            let content =
                content.with_context(|| format!("cannot use {flag} {}", file.display()))?;
            anyhow::ensure!(
                is_usable(trimmed(&content)),
                "cannot use {flag} {}: it must have 1 to {LONGEST} bytes",
                file.display()
            );
        }
        Ok(Some(Self {
            user: user.clone(),
            password: password.clone(),
            attempts: Rates::new(ATTEMPTS_PER_SECOND, ATTEMPT_BURST),
            sessions: Mutex::default(),
        }))
    }

    /// Whether a client may sign in.
    pub(super) async fn check(&self, auth: &Auth, address: Address) -> Result<(), Rejected> {
        if !self.has_session(auth) {
            let attempt = self.attempts.take(&address, 1, Instant::now());
            attempt.map_err(|wait| Rejected::Attempts(wait.as_secs() + 1))?;
        }
        let expected = self.credentials().await.map_err(|error| {
            error!(%error, "cannot read the user or the password of the Admin UI");
            Rejected::Files
        })?;
        self.forget(&expected);
        if self.has_session(auth) {
            return Ok(());
        }
        let (Some(user), Some(password)) = (&auth.username, &auth.password) else {
            return Err(Rejected::Credentials);
        };
        let given = hash(user.as_bytes(), password.as_bytes());
        verify_slices_are_equal(&given, &expected).map_err(|_| Rejected::Credentials)
    }

    /// The id of a new session for a client that has signed in by its password; `None` for one that has a session.
    pub(super) fn session(&self, auth: &Auth) -> Option<String> {
        let (Some(user), Some(password), false) =
            (&auth.username, &auth.password, self.has_session(auth))
        else {
            return None;
        };
        let id = hex::encode(rand::random::<[u8; 32]>());
        let mut sessions = self.sessions.lock();
        if sessions.len() >= SESSIONS {
            sessions.remove(0);
        }
        sessions.push(Session {
            id: Sha256::digest(&id).into(),
            credentials: hash(user.as_bytes(), password.as_bytes()),
            since: Instant::now(),
        });
        Some(id)
    }

    fn has_session(&self, auth: &Auth) -> bool {
        let Some(id) = &auth.session_id else {
            return false;
        };
        // Which hash it is compared with says nothing about an id.
        let id: Hash = Sha256::digest(id).into();
        self.sessions.lock().iter().any(|session| session.id == id)
    }

    /// Forgets sessions that are old, or were given for other credentials.
    fn forget(&self, credentials: &Hash) {
        self.sessions.lock().retain(|session| {
            session.credentials == *credentials && session.since.elapsed() < SESSION_LIFETIME
        });
    }

    async fn credentials(&self) -> io::Result<Hash> {
        let (user, password) = (read(&self.user).await?, read(&self.password).await?);
        let (user, password) = (trimmed(&user), trimmed(&password));
        if !is_usable(user) || !is_usable(password) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("each file must have 1 to {LONGEST} bytes"),
            ));
        }
        Ok(hash(user, password))
    }
}

async fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = tokio::fs::File::open(file).await?;
    // With the end of the line that editors add.
    file.take(LONGEST + 2).read_to_end(&mut content).await?;
    Ok(content)
}

/// Without the end of the line that editors and `echo` add.
fn trimmed(content: &[u8]) -> &[u8] {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    content.strip_suffix(b"\r").unwrap_or(content)
}

fn is_usable(content: &[u8]) -> bool {
    (1..=LONGEST).contains(&(content.len() as u64))
}

/// Of both, so that comparing does not tell which one is wrong, nor how long either is.
fn hash(user: &[u8], password: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update((user.len() as u64).to_be_bytes());
    hasher.update(user);
    hasher.update(password);
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use clap::Parser;

    use super::*;

    struct Fixture {
        sign_in: SignIn,
        folder: PathBuf,
    }

    impl Fixture {
        fn new() -> Self {
            let name = format!("papo-admin-ui-{:016x}", rand::random::<u64>());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir(&folder).expect("created");
            write(&folder, "ana\n", "s3cr3t");
            let sign_in = SignIn::new(&launch(&folder)).expect("readable");
            let sign_in = sign_in.expect("on");
            Self { sign_in, folder }
        }

        async fn check(&self, auth: &Auth) -> Result<(), Rejected> {
            self.sign_in.check(auth, address(1)).await
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn launch(folder: &Path) -> Launch {
        let flag = |name: &str| format!("--admin-ui-{name}={}", folder.join(name).display());
        Launch::parse_from(["papo-server".to_owned(), flag("user"), flag("password")])
    }

    fn write(folder: &Path, user: &str, password: &str) {
        std::fs::write(folder.join("user"), user).expect("written");
        std::fs::write(folder.join("password"), password).expect("written");
    }

    fn address(last: u8) -> Address {
        IpAddr::from(Ipv4Addr::new(192, 0, 2, last)).into()
    }

    fn auth(user: &str, password: &str) -> Auth {
        Auth {
            username: Some(user.to_owned()),
            password: Some(password.to_owned()),
            session_id: None,
        }
    }

    fn again(id: String) -> Auth {
        Auth {
            session_id: Some(id),
            ..Auth::default()
        }
    }

    #[tokio::test]
    async fn only_both_right_sign_in() {
        let fixture = Fixture::new();
        assert_eq!(fixture.check(&auth("ana", "s3cr3t")).await, Ok(()));
        for wrong in [
            auth("ana", "s3cr3"),
            auth("bia", "s3cr3t"),
            auth("anas", "3cr3t"),
            auth("", ""),
            again(String::new()),
            Auth::default(),
        ] {
            let answer = fixture.check(&wrong).await;
            assert_eq!(answer, Err(Rejected::Credentials));
        }
    }

    #[tokio::test]
    async fn attempts_of_an_address_are_bounded() {
        let fixture = Fixture::new();
        let wrong = [auth("ana", "wrong"), Auth::default()];
        for wrong in wrong.iter().cycle().take(ATTEMPT_BURST as usize) {
            let answer = fixture.check(wrong).await;
            assert_eq!(answer, Err(Rejected::Credentials));
        }
        let right = auth("ana", "s3cr3t");
        let answer = fixture.check(&right).await;
        assert!(matches!(answer, Err(Rejected::Attempts(_))), "{answer:?}");
        let other = fixture.sign_in.check(&right, address(2)).await;
        assert_eq!(other, Ok(()));
        let id = fixture.sign_in.session(&right).expect("a session");
        assert_eq!(fixture.check(&again(id)).await, Ok(()), "no attempt");
    }

    #[tokio::test]
    async fn session_ends_with_its_credentials() {
        let fixture = Fixture::new();
        let right = auth("ana", "s3cr3t");
        let id = fixture.sign_in.session(&right).expect("a session");
        assert_eq!(fixture.check(&again(id.clone())).await, Ok(()));
        assert!(fixture.sign_in.session(&again(id.clone())).is_none());
        write(&fixture.folder, "ana", "another");
        let answer = fixture.check(&again(id)).await;
        assert_eq!(answer, Err(Rejected::Credentials));
        assert_eq!(fixture.check(&auth("ana", "another")).await, Ok(()));
    }

    #[tokio::test]
    async fn sessions_are_bounded() {
        let fixture = Fixture::new();
        let right = auth("ana", "s3cr3t");
        let ids: Vec<_> = (0..=SESSIONS)
            .filter_map(|_| fixture.sign_in.session(&right))
            .collect();
        assert_eq!(fixture.sign_in.sessions.lock().len(), SESSIONS);
        let [first, last] = [&ids[0], &ids[SESSIONS]].map(|id| again(id.clone()));
        assert_eq!(fixture.check(&first).await, Err(Rejected::Credentials));
        assert_eq!(fixture.check(&last).await, Ok(()));
    }

    #[tokio::test]
    async fn files_without_content_let_nobody_in() {
        let fixture = Fixture::new();
        write(&fixture.folder, "ana", "\n");
        assert_eq!(fixture.check(&auth("ana", "")).await, Err(Rejected::Files));
        assert!(SignIn::new(&launch(&fixture.folder)).is_err());
        std::fs::remove_file(fixture.folder.join("user")).expect("removed");
        assert_eq!(fixture.check(&auth("", "")).await, Err(Rejected::Files));
        assert!(SignIn::new(&launch(&fixture.folder)).is_err());
    }

    #[test]
    fn sign_in_is_off_without_files() {
        assert!(SignIn::new(&Launch::default()).expect("valid").is_none());
    }
}
