//! Answers to a client, which must not be lost.

use std::time::Duration;

use papo_engineio::{Batch, CloseCode, Frame, Kept, Push};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::connection::Connection;

/// How soon a push is tried again when there was no room.
const RETRY: Duration = Duration::from_millis(20);

/// Pushes a packet that the client cannot do without. If there is no room for it, the server closes the connection, and the client
/// asks again when it has reconnected.
pub(super) fn push_or_close(connection: &Connection, frame: &Frame) {
    if connection.push(frame) == Push::Full {
        debug!(sid = %connection.sid, "closing a connection that does not read its answers");
        connection.close(CloseCode::GoingAway);
    }
}

/// Pushes an answer to a client that sends faster than it reads: tries until there is room for it, and closes the connection when
/// that takes longer than `limit`.
pub(super) async fn push_in_time(connection: &Connection, frame: Frame, limit: Duration) {
    let pushed = async {
        while connection.push(&frame) == Push::Full {
            sleep(RETRY).await;
        }
    };
    if timeout(limit, pushed).await.is_err() {
        push_or_close(connection, &frame);
    }
}

/// Pushes a large answer when the client has taken what was pushed before: a client that does not read costs one such answer, not
/// each that it requests. Closes the connection when that takes longer than `limit`, or when the server keeps too much for the
/// clients of its address already.
pub(super) async fn push_when_taken(connection: &Connection, frame: Frame, limit: Duration) {
    let Some(_kept) = Kept::some(&connection.place.budget, frame.bytes().len()) else {
        debug!(sid = %connection.sid, "closing a connection: too much waits for clients of its address");
        return connection.close(CloseCode::TryAgainLater);
    };
    let batch = Batch::new([&frame].into_iter());
    let pushed = async {
        while let (0, Push::Taken | Push::Full) = connection.push_all(&batch) {
            sleep(RETRY).await;
        }
    };
    if timeout(limit, pushed).await.is_err() {
        debug!(sid = %connection.sid, "closing a connection that does not read its answers");
        connection.close(CloseCode::GoingAway);
    }
}
