//! `papo-server say`: sends one message to a room and prints its acknowledgement, as a client of the room's public URL.

use std::{future::Future, time::Duration};

use axum::http::Uri;
use backon::{ExponentialBuilder, Retryable};
use clap::Args;
use papo_protocol::event::Code;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    causes::with_causes,
    socket::client::{Acknowledgement, Client, SendError},
};

/// The first wait before another try, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// What to say, and where.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Say {
    /// The room's address: what a browser opens, such as `http://chat-geral` in the cluster
    #[arg(long, value_name = "URL", value_parser = parse_url)]
    url: Uri,
    /// Display name of the sender
    #[arg(long, value_name = "NAME", default_value = "papo")]
    name: String,
    /// How long to try, in seconds: a server that cannot be reached or is busy is tried again
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    timeout: u32,
    /// The message
    #[arg(value_name = "TEXT")]
    text: String,
}

/// Why nothing was said.
#[derive(Debug, thiserror::Error)]
enum SayError {
    /// The server said no.
    #[error("{0}; change the name or the text, or ask whoever runs the room")]
    Rejected(String),
    /// The server was there, but is no room.
    #[error("{0}; check that --url is the address of a room's page")]
    NoRoom(String),
    /// It did not succeed in time.
    #[error(
        "no acknowledgement from {url} within {seconds} s: {last}; check that the room is ready and --url its address, or try longer with --timeout"
    )]
    Timeout {
        /// The room.
        url: Uri,
        /// How long it was tried.
        seconds: u32,
        /// Why the last try failed.
        last: String,
    },
}

/// Sends the message. Every try carries the same id, so that the room shows the message once.
pub async fn say(say: &Say) -> anyhow::Result<()> {
    let id = Uuid::new_v4().to_string();
    let deadline = Instant::now() + Duration::from_secs(say.timeout.into());
    let Acknowledgement { id, offset, epoch } = within(deadline, say, || send(say, &id)).await?;
    println!("the room said: {}", say.text);
    println!("acknowledged: offset {offset} of epoch {epoch}, id {id}");
    Ok(())
}

async fn send(say: &Say, id: &str) -> Result<Acknowledgement, SendError> {
    let mut client = Client::connect(&say.url).await?;
    client.enter(&say.name).await?;
    client.say(id, &say.text).await
}

/// Tries until the deadline, as long as another try may succeed.
async fn within<F>(
    deadline: Instant,
    say: &Say,
    attempt: impl FnMut() -> F,
) -> Result<Acknowledgement, SayError>
where
    F: Future<Output = Result<Acknowledgement, SendError>>,
{
    let mut last = "the server does not answer".to_owned();
    let policy = ExponentialBuilder::new()
        .with_min_delay(RETRY.0)
        .with_max_delay(RETRY.1)
        .without_max_times();
    let retrying = attempt
        .retry(policy)
        .when(may_succeed_later)
        .notify(|error, _| {
            let error = with_causes(error);
            if error != last {
                eprintln!("papo-server: {error}; trying again");
                last = error;
            }
        });
    match timeout_at(deadline, retrying).await {
        Ok(Ok(acknowledgement)) => Ok(acknowledgement),
        Ok(Err(error @ SendError::Rejected { .. })) => Err(SayError::Rejected(with_causes(&error))),
        Ok(Err(error)) => Err(SayError::NoRoom(with_causes(&error))),
        Err(_) => Err(SayError::Timeout {
            url: say.url.clone(),
            seconds: say.timeout,
            last,
        }),
    }
}

/// Whether another try may succeed: the server is starting, busy or going away.
fn may_succeed_later(error: &SendError) -> bool {
    let passing = [
        Code::Draining,
        Code::RateLimited,
        Code::ServerFull,
        Code::Timeout,
        Code::Unavailable,
    ];
    match error {
        SendError::Connect { .. } | SendError::Ended => true,
        SendError::Rejected { code, .. } => passing.iter().any(|passing| passing.as_str() == code),
        SendError::Protocol(_) => false,
    }
}

fn parse_url(text: &str) -> Result<Uri, String> {
    let wrong = "a room's URL is http:// or https:// with a host, as in http://localhost:5000";
    let url: Uri = text.parse().map_err(|_| wrong.to_owned())?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    if is_http && url.host().is_some_and(|host| !host.is_empty()) {
        Ok(url)
    } else {
        Err(wrong.to_owned())
    }
}
