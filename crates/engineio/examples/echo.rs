//! An Engine.IO 4 server that sends back every message, over WebSocket only: for test suites and for trying out the crate.
//!
//! `cargo run -p papo-engineio --example echo -- --port 3000 --ping-interval 300 --ping-timeout 200 --max-payload 1000000`

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use clap::Parser;
use papo_engineio::{
    Budget, CloseCode, Frame, Incoming, Message, Outgoing, Push, Settings, Upgrade,
};
use tokio::net::TcpListener;

/// Bytes that wait for clients, in all.
const BUDGET: usize = 64 << 20;

#[derive(Clone)]
struct Server {
    settings: Arc<Settings>,
    budget: Arc<Budget>,
}

#[derive(Parser)]
struct Flags {
    /// TCP port on 127.0.0.1
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
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let flags = Flags::parse();
    let settings = Settings {
        ping_interval: Duration::from_millis(flags.ping_interval),
        ping_timeout: Duration::from_millis(flags.ping_timeout),
        max_payload: flags.max_payload,
    };
    let server = Server {
        settings: settings.into(),
        budget: Budget::new(BUDGET).into(),
    };
    let app = Router::new().fallback(upgrade).with_state(server);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, flags.port)).await?;
    println!("echoing at ws://{}/engine.io/", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // Without it, small packets wait for each other's acknowledgements.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, app).await
}

async fn upgrade(State(server): State<Server>, mut request: Request) -> Response {
    if !papo_engineio::is_session_request(&request) {
        let message = "this server speaks Engine.IO 4 over WebSocket only\n";
        return (StatusCode::BAD_REQUEST, message).into_response();
    }
    match papo_engineio::upgrade(&mut request) {
        Ok((response, upgrade)) => {
            tokio::spawn(serve(upgrade, server));
            response
        }
        Err(error) => error.response::<String>().into_response(),
    }
}

async fn serve(upgrade: Upgrade, Server { settings, budget }: Server) {
    let sid = format!("{:032x}", rand::random::<u128>());
    match upgrade.open(&sid, &settings, &budget).await {
        Ok((outgoing, mut incoming)) => {
            let code = echo(&outgoing, &mut incoming).await;
            incoming.close(code).await;
        }
        Err(error) => eprintln!("no session was opened: {error}"),
    }
}

async fn echo(outgoing: &Outgoing, incoming: &mut Incoming) -> CloseCode {
    loop {
        let pushed = match incoming.next().await {
            Ok(Message::Text(text)) => outgoing.push(&Frame::new(&text)),
            Ok(Message::Binary(data)) => outgoing.push_binary(&data),
            Err(code) => return code,
        };
        if pushed == Push::Full {
            // The client does not read what it asked for.
            return CloseCode::GoingAway;
        }
    }
}
