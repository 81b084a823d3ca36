//! An Engine.IO 4 server that sends back every message: for test suites and for trying out the crate.
//!
//! `cargo run -p papo-engineio --example echo -- --port 3000 --ping-interval 300 --ping-timeout 200 --max-payload 1000000`
//!
//! With `--websocket` it sends back WebSocket messages, and knows nothing of Engine.IO: for suites that test the crate's frames.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use clap::Parser;
use papo_engineio::{
    Budget, CloseCode, Frame, Incoming, Message, Outgoing, Polling, Push, Query, Settings, Upgrade,
};
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// Bytes that wait for clients, in all: some of the longest messages.
const BUDGET: usize = 256 << 20;
/// Longer than any client of `--websocket` stays.
const NO_PING: Duration = Duration::from_hours(24);

#[derive(Clone)]
struct Server {
    settings: Arc<Settings>,
    budget: Arc<Budget>,
    /// The sessions that have begun with polling, by their ids.
    polling: Arc<Mutex<HashMap<String, Arc<Polling>>>>,
    /// There are no sessions.
    is_websocket_only: bool,
}

#[derive(Parser)]
struct Flags {
    /// TCP port on 127.0.0.1; 0 is a free one
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// How often the server sends a ping, in milliseconds
    #[arg(long, default_value_t = 25_000)]
    ping_interval: u64,
    /// How long a client may take to answer a ping, in milliseconds
    #[arg(long, default_value_t = 20_000)]
    ping_timeout: u64,
    /// Longest message that a client may send, in bytes
    #[arg(long, default_value_t = 1_000_000)]
    max_payload: u32,
    /// Send back WebSocket messages as they are, without Engine.IO
    #[arg(long)]
    websocket: bool,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let flags = Flags::parse();
    let ping_interval = Duration::from_millis(flags.ping_interval);
    let settings = Settings {
        ping_interval: if flags.websocket {
            NO_PING
        } else {
            ping_interval
        },
        ping_timeout: Duration::from_millis(flags.ping_timeout),
        max_payload: flags.max_payload,
    };
    let server = Server {
        settings: settings.into(),
        budget: Budget::new(BUDGET).into(),
        polling: Arc::default(),
        is_websocket_only: flags.websocket,
    };
    let app = Router::new().fallback(answer).with_state(server);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, flags.port)).await?;
    println!("echoing at ws://{}/engine.io/", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // Without it, small packets wait for each other's acknowledgements.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

async fn answer(State(server): State<Server>, mut request: Request) -> Response {
    if !server.is_websocket_only && !papo_engineio::is_session_request(&request) {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let polled = server.poll(Query::parse(&query), request).await;
        return polled.unwrap_or_else(|| StatusCode::BAD_REQUEST.into_response());
    }
    match papo_engineio::upgrade(&mut request) {
        Ok((response, upgrade)) => {
            tokio::spawn(serve(upgrade, server));
            response
        }
        Err(error) => error.response::<String>().into_response(),
    }
}

async fn serve(upgrade: Upgrade, server: Server) {
    let Server {
        settings, budget, ..
    } = server;
    let opened = if server.is_websocket_only {
        upgrade.accept(&settings, &budget).await
    } else {
        upgrade.open(&sid(), &settings, &budget).await
    };
    match opened {
        Ok((outgoing, mut incoming)) => {
            let code = if server.is_websocket_only {
                echo_websocket(&mut incoming, &outgoing).await
            } else {
                echo(&mut incoming, |message| send(&outgoing, &message)).await
            };
            incoming.close(code).await;
        }
        Err(error) => eprintln!("no connection was opened: {error}"),
    }
}

async fn echo_websocket(incoming: &mut Incoming, outgoing: &Outgoing) -> CloseCode {
    loop {
        let pushed = match incoming.websocket_message().await {
            Ok(Message::Text(text)) => outgoing.push_text(&text),
            Ok(Message::Binary(data)) => outgoing.push_binary(&data),
            Err(code) => return code,
        };
        if pushed == Push::Full {
            return CloseCode::GoingAway;
        }
    }
}

fn sid() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Server {
    /// Answers a request for a session that polls; `None` if there is no such session, or if it does not serve the request.
    async fn poll(&self, query: Query<'_>, mut request: Request) -> Option<Response> {
        let transport = query.transport.filter(|_| query.version == Some("4"))?;
        let is_get = request.method() == Method::GET;
        let Some(sid) = query.sid else {
            return (is_get && transport == "polling").then(|| self.open());
        };
        let session = self.polling.lock().get(sid).cloned()?;
        match (transport, is_get) {
            ("polling", true) => Some(session.poll(query.request).await.ok()?.into_response()),
            ("polling", false) if request.method() == Method::POST => {
                if !session.is_polling() {
                    return None;
                }
                let Some(_turn) = session.begin_post() else {
                    session.close(CloseCode::ProtocolError);
                    return None;
                };
                let most = self.settings.max_payload as usize;
                let body = axum::body::to_bytes(request.into_body(), most).await.ok()?;
                let body = std::str::from_utf8(&body).ok()?;
                let echoed = session.receive(query.request, body, |message| {
                    send_polling(&session, &message);
                });
                echoed.ok().map(|()| "ok".into_response())
            }
            ("websocket", true) => {
                let (response, upgrade) = papo_engineio::upgrade(&mut request).ok()?;
                tokio::spawn(async move { session.upgrade(upgrade).await });
                Some(response)
            }
            _ => None,
        }
    }

    fn open(&self) -> Response {
        let session = Arc::new(Polling::new(&self.settings, &self.budget));
        let sid = sid();
        let open = session.open_packet(&sid);
        self.polling.lock().insert(sid.clone(), session.clone());
        let sessions = self.polling.clone();
        tokio::spawn(async move {
            if let Ok(mut incoming) = session.run().await {
                let code = echo(&mut incoming, |message| send_polling(&session, &message));
                let code = code.await;
                incoming.close(code).await;
            } else {
                session.finish().await;
            }
            sessions.lock().remove(&sid);
        });
        open.into_response()
    }
}

fn send(socket: &Outgoing, message: &Message) -> Push {
    match message {
        Message::Text(text) => socket.push(&Frame::new(text)),
        Message::Binary(data) => socket.push_binary(data),
    }
}

/// A client that does not read what it asked for is closed.
fn send_polling(session: &Polling, message: &Message) -> Push {
    let push = match message {
        Message::Text(text) => session.push(&Frame::new(text)),
        Message::Binary(data) => session.push_binary(data),
    };
    if push == Push::Full {
        session.close(CloseCode::GoingAway);
    }
    push
}

async fn echo(incoming: &mut Incoming, send: impl Fn(Message) -> Push) -> CloseCode {
    loop {
        match incoming.next().await.map(&send) {
            // The client does not read what it asked for.
            Ok(Push::Full) => return CloseCode::GoingAway,
            Ok(Push::Taken | Push::Gone) => {}
            Err(code) => return code,
        }
    }
}
