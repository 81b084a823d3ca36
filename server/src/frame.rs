//! What goes out over a socket: a Socket.IO packet, encoded once as the WebSocket frame that carries it.

use std::{fmt, str, sync::OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

/// Engine.IO's packet type of a message, before each Socket.IO packet.
const ENGINE_MESSAGE: u8 = b'4';
/// The first byte of a final text frame.
pub(crate) const TEXT: u8 = 0x81;
/// Bytes of the longest header of a frame that is not masked.
const LONGEST_HEADER: usize = 10;

/// A packet in its frame. Cloning it copies nothing.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    bytes: Bytes,
    /// Where the Socket.IO packet begins, after the frame's header and Engine.IO's packet type.
    packet: usize,
}

impl Frame {
    /// Frames a Socket.IO packet.
    pub(crate) fn new(packet: &str) -> Self {
        let bytes = encode(TEXT, &[ENGINE_MESSAGE], packet.as_bytes());
        Self {
            packet: bytes.len() - packet.len(),
            bytes,
        }
    }

    /// The frame, header and all.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The Socket.IO packet in it.
    pub(crate) fn packet(&self) -> &str {
        str::from_utf8(&self.bytes[self.packet..]).expect("it was made from a string")
    }
}

/// Frames that go out one after the other, also in one piece: who takes all of it is served by one system call.
#[derive(Debug)]
pub(crate) struct Batch {
    frames: Vec<Frame>,
    /// Made for the first one who asks.
    joined: OnceLock<Bytes>,
}

impl Batch {
    /// Copies nothing yet.
    pub(crate) fn new<'a>(frames: impl Iterator<Item = &'a Frame>) -> Self {
        Self {
            frames: frames.cloned().collect(),
            joined: OnceLock::new(),
        }
    }

    /// One by one.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The bytes of all of them.
    pub(crate) fn joined(&self) -> &Bytes {
        self.joined.get_or_init(|| match &self.frames[..] {
            [one] => one.bytes.clone(),
            many => {
                let bytes: Vec<&[u8]> = many.iter().map(|one| &one.bytes[..]).collect();
                bytes.concat().into()
            }
        })
    }
}

/// A final frame of a server (RFC 6455, 5.2): not masked. `first` holds the opcode; the payload comes in two parts.
pub(crate) fn encode(first: u8, prefix: &[u8], payload: &[u8]) -> Bytes {
    let length = prefix.len() + payload.len();
    let mut bytes = BytesMut::with_capacity(length + LONGEST_HEADER);
    bytes.put_u8(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => bytes.put_u8(length),
        (_, Ok(length)) => {
            bytes.put_u8(126);
            bytes.put_u16(length);
        }
        _ => {
            bytes.put_u8(127);
            bytes.put_u64(length as u64);
        }
    }
    bytes.put_slice(prefix);
    bytes.put_slice(payload);
    bytes.freeze()
}

impl From<String> for Frame {
    fn from(packet: String) -> Self {
        Self::new(&packet)
    }
}

impl From<&str> for Frame {
    fn from(packet: &str) -> Self {
        Self::new(packet)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frame").field(&self.packet()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;

    use super::*;

    #[test]
    fn a_batch_is_its_frames_in_order_and_a_single_one_is_not_copied() {
        let frames = ["a", "bc", ""].map(Frame::new);
        let batch = Batch::new(frames.iter());
        assert_eq!(&batch.joined()[..], b"\x81\x024a\x81\x034bc\x81\x014");
        assert_eq!(batch.frames(), frames);
        let single = Batch::new(frames[..1].iter());
        assert_eq!(single.joined().as_ptr(), frames[0].bytes().as_ptr());
    }

    #[test]
    fn its_header_says_its_length_whatever_that_is() {
        for length in [0, 1, 124, 125, 126, 65_533, 65_534, 65_535, 65_536, 100_000] {
            let packet = "x".repeat(length);
            let frame = Frame::new(&packet);
            let mut cursor = Cursor::new(frame.bytes());
            let (header, payload) = FrameHeader::parse(&mut cursor)
                .expect("valid")
                .expect("whole");
            let start = usize::try_from(cursor.position()).expect("small");
            assert!(header.is_final && header.mask.is_none());
            assert_eq!(payload, length as u64 + 1);
            assert_eq!(frame.bytes()[start..], *format!("4{packet}").as_bytes());
            assert_eq!(frame.packet(), packet);
        }
    }
}
