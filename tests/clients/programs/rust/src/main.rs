//! A program of programs.test.mjs: `rust_socketio`. Its arguments are URL NAME TOKEN [TRANSPORT].

use std::{
    env,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use futures_util::FutureExt;
use rust_socketio::{
    Event, Payload, TransportType,
    asynchronous::{ClientBuilder, ReconnectSettings},
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(20);

/// What the client sends when it connects.
type Auth = Arc<Mutex<Value>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .context("usage: URL NAME TOKEN [TRANSPORT]")
    };
    let (url, name, token) = (next()?, next()?, next()?);
    let transport = match next() {
        Ok(_) => TransportType::Polling,
        Err(_) => TransportType::Any,
    };
    let auth: Auth = Arc::new(Mutex::new(json!({"name": name, "token": token})));
    let (at_events, at_reconnect) = (auth.clone(), auth.clone());
    let client = ClientBuilder::new(url)
        .transport_type(transport)
        .auth(read(&auth))
        .on_any(move |event, payload, _| {
            remember(&at_events, &event, &payload);
            report(event.as_str(), values(payload));
            async {}.boxed()
        })
        .on(Event::Connect, |_, _| {
            report("connect", vec![]);
            async {}.boxed()
        })
        // It reports the loss of a connection only as this.
        .on_reconnect(move || {
            report("disconnect", vec![]);
            let mut settings = ReconnectSettings::new();
            settings.auth(read(&at_reconnect));
            async { settings }.boxed()
        })
        .connect()
        .await?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(text) = lines.next_line().await? {
        let said = text.clone();
        let report_answer = move |payload, _| {
            let answer = values(payload).pop().and_then(|list| list.get(0).cloned());
            report("acknowledged", vec![json!(said), json!(answer)]);
            async {}.boxed()
        };
        client
            .emit_with_ack(
                "message",
                vec![json!(text)],
                ACKNOWLEDGED_WITHIN,
                report_answer,
            )
            .await?;
    }
    Ok(client.disconnect().await?)
}

fn read(auth: &Auth) -> Value {
    auth.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps the position of the last message.
fn remember(auth: &Auth, event: &Event, payload: &Payload) {
    let Payload::Text(values) = payload else {
        return;
    };
    let mut auth = auth.lock().unwrap_or_else(PoisonError::into_inner);
    let last = match event.as_str() {
        "history" => {
            auth["epoch"] = values[0]["epoch"].clone();
            values[0]["messages"]
                .as_array()
                .and_then(|list| list.last())
        }
        "message" => values.get(1),
        _ => None,
    };
    if let Some(message) = last {
        auth["offset"] = message["offset"].clone();
    }
}

fn values(payload: Payload) -> Vec<Value> {
    match payload {
        Payload::Text(values) => values,
        _ => vec![],
    }
}

fn report(event: &str, mut values: Vec<Value>) {
    values.insert(0, json!(event));
    println!("{}", Value::Array(values));
}
