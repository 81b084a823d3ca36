//! Events from members. A message gets its place in the sender's order here, before the server waits for anything.

use std::{sync::Arc, time::Duration};

use papo_engineio::{Kept, Push, socketio};
use papo_protocol::{
    Record,
    event::{self, Code},
};
use serde_json::{Value as Json, json};

use super::{
    Connection, SocketServer, packet,
    push::{push_in_time, push_or_close, push_when_taken},
    requester,
    session::Session,
};
use crate::{
    access::May,
    broker::Broker,
    chat::{AccessToken, MessageRequest, Rejection},
    clock, json,
    metrics::Bound,
};

/// Most messages in an answer to a `history` request.
const MOST_HISTORY: u64 = 500;
/// Memory of a request or an answer that waits, with its task.
const WAITING: usize = 1_024;

/// Handles one event: its name, then its arguments.
pub(super) fn handle<B: Broker>(
    server: &Arc<SocketServer<B>>,
    session: &Arc<Session>,
    arguments: &[Json],
    ack: Option<i64>,
    connection: &Arc<Connection>,
) {
    let Some((name, arguments)) = arguments.split_first() else {
        return;
    };
    let handled = match name.as_str().unwrap_or_default() {
        event::MESSAGE => message(server, session, arguments, ack, connection),
        event::HISTORY => history(server, session, arguments, ack, connection),
        event::TOKEN => token(server, session, arguments, ack, connection),
        event::TYPING => {
            typing(server, session, connection);
            Ok(())
        }
        event::CHECK => {
            answer(server, session, ack, &json!({ "ok": true }), connection);
            Ok(())
        }
        other => Err(Rejection::new(
            Code::UnknownEvent,
            format!(
                "unknown event {other:?}; this server handles message, history, typing, check and token"
            ),
        )),
    };
    if let Err(rejection) = handled {
        reject(server, session, &rejection, ack, connection);
    }
}

/// Rejects a request of somebody who may not make it by the rules in force now.
fn permit<B: Broker>(
    server: &SocketServer<B>,
    session: &Session,
    needed: May,
) -> Result<(), Rejection> {
    if session.standing.may(&server.access).includes(needed) {
        return Ok(());
    }
    let what = if needed == May::READ { "read" } else { "write" };
    let message = if session.standing.is_signed_in() {
        format!("you may not {what} in this room")
    } else {
        format!("guests may not {what} in this room; sign in")
    };
    Err(Rejection::new(Code::Forbidden, message))
}

/// Answers an event that the server does not accept.
pub(super) fn reject<B: Broker>(
    server: &Arc<SocketServer<B>>,
    session: &Arc<Session>,
    rejection: &Rejection,
    ack: Option<i64>,
    connection: &Arc<Connection>,
) {
    let address = connection.place.address;
    server
        .bounds
        .reject(rejection.code, address, &rejection.message);
    let body = packet::rejection(rejection);
    answer(server, session, ack, &body, connection);
}

fn message<B: Broker>(
    server: &Arc<SocketServer<B>>,
    session: &Arc<Session>,
    arguments: &[Json],
    ack: Option<i64>,
    connection: &Arc<Connection>,
) -> Result<(), Rejection> {
    server.metrics.received();
    let member = session.standing.member();
    let may_send = session.may_send();
    may_send.inspect_err(|_| server.metrics.exceeded(Bound::PendingRequests))?;
    let address = connection.place.address;
    let is_allowed = server.bounds.message(&member.sender, address);
    is_allowed.map_err(|too_fast| connection.slow_down(too_fast))?;
    // After the rates: a message that is forbidden costs its sender as much as another.
    permit(server, session, May::WRITE)?;
    let MessageRequest { id, text } = MessageRequest::parse(arguments, &server.launch.limits)?;
    let is_allowed = server.bounds.bytes(text.len(), address);
    is_allowed.map_err(|too_fast| connection.slow_down(too_fast))?;
    // The text, and its record as it is written to the broker.
    let memory = WAITING + 2 * text.len();
    let kept = Kept::some(&connection.place.budget, memory).ok_or_else(|| {
        Rejection::new(
            Code::Unavailable,
            "too many messages wait for the broker; try again in a few seconds",
        )
    })?;
    let record = Record {
        id: id.clone(),
        sender: member.sender.clone(),
        user: member.user.clone(),
        verified: member.verified,
        text,
        at: clock::unix_millis(),
        since: None,
    };
    // Called before the task is spawned: the order of these calls is the order of the sender's messages.
    let published = server.room.publish(record);
    session.begin_request();
    let (server, session, connection) = (server.clone(), session.clone(), connection.clone());
    server.tasks.clone().spawn(async move {
        let body = match published.await {
            Ok(receipt) => {
                json!({ "ok": true, "id": id, "offset": receipt.offset, "epoch": receipt.epoch })
            }
            Err(rejection) => packet::rejection(&rejection),
        };
        session.finish_request();
        drop(kept);
        answer(&server, &session, ack, &body, &connection);
    });
    Ok(())
}

fn history<B: Broker>(
    server: &Arc<SocketServer<B>>,
    session: &Arc<Session>,
    arguments: &[Json],
    ack: Option<i64>,
    connection: &Arc<Connection>,
) -> Result<(), Rejection> {
    let address = connection.place.address;
    server.bounds.history(&session.standing.sender(), address)?;
    permit(server, session, May::READ)?;
    let (before, limit) = history_request(arguments, u64::from(server.launch.history_page))?;
    let ack = ack.ok_or_else(|| {
        Rejection::new(
            Code::BadRequest,
            "a history request needs an acknowledgement to answer to",
        )
    })?;
    let (server, session, connection) = (server.clone(), session.clone(), connection.clone());
    server.tasks.clone().spawn(async move {
        let answered = answer_history(&server, &session, (before, limit), ack, &connection);
        // The read ends with the connection.
        connection.while_open(answered).await;
    });
    Ok(())
}

/// Answers a `history` request when those before it on the same connection are answered.
async fn answer_history<B: Broker>(
    server: &SocketServer<B>,
    session: &Session,
    (before, limit): (u64, u64),
    ack: i64,
    connection: &Connection,
) {
    let _one_at_a_time = session.history.lock().await;
    let requester = requester(connection.place.address);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let packet = match server.room.page(before, limit, requester).await {
        Ok(page) => packet::history_ack(
            ack,
            &page,
            &json!({ "ok": true, "epoch": server.room.stats().map(|stats| stats.epoch) }),
        ),
        Err(rejection) => {
            server.metrics.rejected(rejection.code);
            socketio::ack(ack, &packet::rejection(&rejection))
        }
    };
    let limit = Duration::from_secs(server.launch.slow_reader_timeout.into());
    push_when_taken(connection, packet, limit).await;
}

/// `{ before?, limit? }`: the newest page if neither is given.
pub(super) fn history_request(arguments: &[Json], page: u64) -> Result<(u64, u64), Rejection> {
    let wrong = || {
        Rejection::new(
            Code::BadRequest,
            "a history request is { before, limit }: an offset, and how many messages",
        )
    };
    let number =
        |name: &str, default: u64| match arguments.first().and_then(|request| request.get(name)) {
            None | Some(Json::Null) => Ok(default),
            Some(value) => json::offset(value).ok_or_else(wrong),
        };
    if !arguments
        .first()
        .is_none_or(|request| request.is_object() || request.is_null())
    {
        return Err(wrong());
    }
    Ok((
        number("before", u64::MAX)?,
        number("limit", page)?.clamp(1, MOST_HISTORY),
    ))
}

fn typing<B: Broker>(server: &Arc<SocketServer<B>>, session: &Session, connection: &Connection) {
    let may_write = session.standing.may(&server.access).includes(May::WRITE);
    let member = session.standing.member();
    let address = connection.place.address;
    if may_write && server.bounds.typing(&member.sender, address) {
        server.room.typing(&member);
    }
}

/// A new access token of somebody who is signed in. If it is not accepted, the former stays in force.
fn token<B: Broker>(
    server: &Arc<SocketServer<B>>,
    session: &Arc<Session>,
    arguments: &[Json],
    ack: Option<i64>,
    connection: &Arc<Connection>,
) -> Result<(), Rejection> {
    if !session.standing.is_signed_in() {
        return Err(Rejection::new(
            Code::Forbidden,
            "this is the connection of a guest; connect again with auth.accessToken to sign in",
        ));
    }
    server.bounds.token(&session.standing.sender())?;
    let Some(Json::String(token)) = arguments.first() else {
        return Err(Rejection::new(
            Code::BadRequest,
            "a token event has the new access token, a text",
        ));
    };
    let token = AccessToken::new(token.as_str());
    let (server, session, connection) = (server.clone(), session.clone(), connection.clone());
    server.tasks.clone().spawn(async move {
        let renewed = server.renew(&token, &session, &connection);
        // The keys of its issuer may have to be fetched, for this client only.
        match connection.while_open(renewed).await {
            Some(Ok(body)) => answer(&server, &session, ack, &body, &connection),
            Some(Err(rejection)) => reject(&server, &session, &rejection, ack, &connection),
            None => {}
        }
    });
    Ok(())
}

/// Answers a request. The answer waits, within bounds, for a client that sends faster than it reads; after that the server closes
/// the connection.
fn answer<B: Broker>(
    server: &Arc<SocketServer<B>>,
    session: &Arc<Session>,
    ack: Option<i64>,
    body: &Json,
    connection: &Arc<Connection>,
) {
    let Some(ack) = ack else { return };
    let packet = socketio::ack(ack, body);
    if connection.push(&packet) != Push::Full {
        return;
    }
    let kept = Kept::some(&connection.place.budget, WAITING);
    let (false, Some(kept)) = (session.is_busy(), kept) else {
        return push_or_close(connection, &packet);
    };
    let limit = Duration::from_secs(server.launch.slow_reader_timeout.into());
    session.begin_request();
    let (session, connection) = (session.clone(), connection.clone());
    server.tasks.spawn(async move {
        push_in_time(&connection, packet, limit).await;
        session.finish_request();
        drop(kept);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_request_has_defaults_and_bounds() {
        for (request, expected) in [
            (json!([]), Some((u64::MAX, 50))),
            (json!([null]), Some((u64::MAX, 50))),
            (json!([{}]), Some((u64::MAX, 50))),
            (json!([{ "before": 7, "limit": 3 }]), Some((7, 3))),
            (json!([{ "before": 7, "limit": 0 }]), Some((7, 1))),
            (
                json!([{ "before": 7, "limit": 999_999 }]),
                Some((7, MOST_HISTORY)),
            ),
            (json!([{ "before": -1 }]), None),
            (json!([{ "before": "7", "limit": "3" }]), Some((7, 3))),
            (json!([{ "before": "x" }]), None),
            (json!([{ "before": "-1" }]), None),
            (json!([{ "limit": 1.5 }]), None),
            (json!(["before"]), None),
            (json!([[7]]), None),
        ] {
            let arguments = request.as_array().expect("an array");
            assert_eq!(history_request(arguments, 50).ok(), expected, "{request}");
        }
    }
}
