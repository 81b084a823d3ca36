//! The fuzz targets of what clients send. Built for tests, which replay their corpora, and for fuzzing.

use crate::{
    CloseCode, Message,
    decoder::Decoder,
    payload::{Received, add, add_binary, decode},
};

/// What a client's TCP connection carries after the upgrade, cut anywhere: the decoder gives the same messages and the same
/// error however the bytes arrive.
///
/// # Panics
///
/// When the decoder breaks that promise.
pub fn websocket(data: &[u8]) {
    const LIMIT: usize = 1_024;
    let (cut, data) = data.split_first().unwrap_or((&0, &[]));
    let received = |chunk: usize| {
        let mut decoder = Decoder::new(LIMIT);
        let mut all = Vec::new();
        for bytes in data.chunks(chunk) {
            decoder.extend(bytes);
            loop {
                match decoder.next() {
                    Ok(Some(one)) => all.push(one),
                    Ok(None) => break,
                    Err(error) => return (all, Some(error)),
                }
            }
        }
        (all, None)
    };
    let (whole, error) = received(usize::MAX);
    assert_eq!(received(usize::from(*cut).max(1)), (whole, error));
}

/// The body of a long-polling request: what it says can be written again, and is read as the same.
///
/// # Panics
///
/// When it is not.
pub fn payload(data: &[u8]) {
    let Ok(body) = std::str::from_utf8(data) else {
        return;
    };
    let decoded: Result<Vec<Received>, _> = decode(body).collect();
    let Ok(received) = decoded else {
        return;
    };
    let mut again = String::new();
    for one in &received {
        match one {
            Received::Message(Message::Text(text)) => add(&mut again, &format!("4{text}")),
            Received::Message(Message::Binary(data)) => add_binary(&mut again, data),
            Received::Alive => add(&mut again, "3"),
            Received::Close => add(&mut again, "1"),
        }
    }
    let read: Result<Vec<Received>, CloseCode> = decode(&again).collect();
    assert_eq!(read, Ok(received));
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
#[test]
fn decoder_survives_the_corpus() {
    replay::replay("websocket", websocket);
}

#[cfg(test)]
#[test]
fn payloads_survive_the_corpus() {
    replay::replay("payload", payload);
}
