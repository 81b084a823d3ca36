//! The fuzz target of the frames that clients send. Built for tests, which replay its corpus, and for fuzzing.

use crate::decoder::Decoder;

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

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
#[test]
fn decoder_survives_the_corpus() {
    replay::replay("websocket", websocket);
}
