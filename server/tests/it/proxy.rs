//! A TCP proxy between a server and its broker. It can drop the broker's answers, cut the connections, and make the broker look like a node of a
//! cluster that is cut off, or that does not know a queue yet.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Forwards connections to one address.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    faults: Arc<Faults>,
    cut: watch::Sender<u64>,
}

/// What the proxy does to frames of AMQP.
#[derive(Default)]
struct Faults {
    is_deaf: AtomicBool,
    is_mute: AtomicBool,
    /// A queue, and how many passive declarations of it are about another one.
    hidden: Mutex<Option<(String, u32)>>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (faults, cut) = (Arc::<Faults>::default(), watch::Sender::new(0));
        let proxy = Self {
            address,
            faults: faults.clone(),
            cut: cut.clone(),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                tokio::spawn(forward(client, server, faults.clone(), cut.subscribe()));
            }
        });
        proxy
    }

    /// Drops the broker's answers from now on; requests still reach the broker.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.faults.is_deaf.store(lose, Ordering::SeqCst);
    }

    /// Puts a heartbeat in the place of whatever the broker sends, as from a node that is cut off from the others.
    pub(crate) fn forward_only_heartbeats(&self) {
        self.faults.is_mute.store(true, Ordering::SeqCst);
    }

    /// Lets the broker not find a queue so many times.
    pub(crate) fn hide_queue(&self, name: &str, times: u32) {
        *self.faults.hidden.lock() = Some((name.to_owned(), times));
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

impl Faults {
    /// What the server gets in the place of this frame of the broker. A broker that sends other frames sends no heartbeats.
    fn passed<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        const HEARTBEAT: &[u8] = &[8, 0, 0, 0, 0, 0, 0, 0xCE];
        if self.is_deaf.load(Ordering::SeqCst) {
            &[]
        } else if self.is_mute.load(Ordering::SeqCst) {
            HEARTBEAT
        } else {
            frame
        }
    }

    /// Changes the name in a passive declaration (class 50, method 10) of the hidden queue.
    fn hide(&self, frame: &mut [u8]) {
        let mut hidden = self.hidden.lock();
        let Some((name, times)) = hidden.as_mut().filter(|(_, times)| *times > 0) else {
            return;
        };
        // Type, channel and size; class and method; a reserved number; the length of the name, the name, and the bits.
        let at = 7 + 4 + 2 + 1;
        let end = at + name.len();
        let is_of_it = frame.get(at..end) == Some(name.as_bytes());
        if frame[0] == 1 && frame[7..11] == [0, 50, 0, 10] && is_of_it && frame[end] & 1 == 1 {
            *times -= 1;
            frame[end - 1] = b'~';
        }
    }
}

/// Takes the first whole frame.
fn next_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let size: [u8; 4] = bytes.get(3..7)?.try_into().ok()?;
    let length = u32::from_be_bytes(size) as usize + 8;
    (bytes.len() >= length).then(|| bytes.drain(..length).collect())
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    faults: Arc<Faults>,
    mut cut: watch::Receiver<u64>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut header = [0; 8];
        from_client.read_exact(&mut header).await?;
        to_server.write_all(&header).await?;
        let mut bytes = Vec::new();
        while from_client.read_buf(&mut bytes).await? > 0 {
            while let Some(mut frame) = next_frame(&mut bytes) {
                faults.hide(&mut frame);
                to_server.write_all(&frame).await?;
            }
        }
        Ok::<(), std::io::Error>(())
    };
    let down = async {
        let mut bytes = Vec::new();
        while from_server.read_buf(&mut bytes).await? > 0 {
            while let Some(frame) = next_frame(&mut bytes) {
                to_client.write_all(faults.passed(&frame)).await?;
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Both directions end together. A cut comes first: what the other side has sent before it and is not forwarded yet is lost.
    tokio::select! {
        biased;
        _ = cut.changed() => {}
        _ = up => {}
        _ = down => {}
    }
}
