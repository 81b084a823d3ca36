//! A TCP proxy between a server and its broker. It can drop the broker's answers, or cut the connections.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Forwards connections to one address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    deaf: Arc<AtomicBool>,
    cut: watch::Sender<u64>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (deaf, cut) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(0));
        let proxy = Self {
            address,
            deaf: deaf.clone(),
            cut: cut.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                tokio::spawn(forward(client, server, deaf.clone(), cut.subscribe()));
            }
        });
        proxy
    }

    /// Drops the broker's answers from now on; requests still reach the broker.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.deaf.store(lose, Ordering::SeqCst);
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    deaf: Arc<AtomicBool>,
    mut cut: watch::Receiver<u64>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        tokio::io::copy(&mut from_client, &mut to_server)
            .await
            .map(drop)
    };
    let down = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 {
                return Ok::<(), std::io::Error>(());
            }
            if !deaf.load(Ordering::SeqCst) {
                to_client.write_all(&buffer[..count]).await?;
            }
        }
    };
    // Both directions end together. A cut comes first: what the other side has sent before it and is not forwarded yet is lost.
    tokio::select! {
        biased;
        _ = cut.changed() => {}
        _ = up => {}
        _ = down => {}
    }
}
