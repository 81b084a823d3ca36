//! What a server sends: an Engine.IO message, encoded once as the WebSocket frame that carries it.

use std::{fmt, str, sync::OnceLock};

use bytes::{BufMut, Bytes, BytesMut};

/// Engine.IO's packet type `message`, before each packet of the protocol above it.
const ENGINE_MESSAGE: u8 = b'4';
/// The first byte of a final text frame.
pub(crate) const TEXT: u8 = 0x81;
/// Bytes of the longest header of a frame that is not masked.
const LONGEST_HEADER: usize = 10;

/// A packet in its Engine.IO message in its WebSocket frame. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    /// Where the packet begins, after the frame's header and Engine.IO's packet type.
    packet: usize,
}

impl Frame {
    /// Frames a packet of the protocol above Engine.IO.
    pub fn new(packet: &str) -> Self {
        let bytes = encode(TEXT, &[ENGINE_MESSAGE], packet.as_bytes());
        Self {
            packet: bytes.len() - packet.len(),
            bytes,
        }
    }

    /// The frame with its header, as it is written to the connection.
    #[inline]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The packet in it.
    ///
    /// # Panics
    ///
    /// Never: a frame is made from a string.
    pub fn packet(&self) -> &str {
        str::from_utf8(&self.bytes[self.packet..]).expect("a frame is made from a string")
    }

    /// The Engine.IO message in it, as a transport without frames sends it.
    pub(crate) fn message(&self) -> &str {
        let message = &self.bytes[self.packet - 1..];
        str::from_utf8(message).expect("a frame is made from a string")
    }
}

/// Frames in the order in which they are sent, and all of them in one piece: one system call writes it to a client that
/// keeps up.
#[derive(Debug)]
pub struct Batch {
    frames: Vec<Frame>,
    /// Joined for the first client, shared with the others.
    joined: OnceLock<Bytes>,
}

impl Batch {
    /// A batch of these frames. Their bytes are not copied before they are needed in one piece.
    pub fn new<'a>(frames: impl Iterator<Item = &'a Frame>) -> Self {
        Self {
            frames: frames.cloned().collect(),
            joined: OnceLock::new(),
        }
    }

    /// The frames one by one.
    #[inline]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The bytes of all frames in one piece. A single frame is not copied.
    #[inline]
    pub fn joined(&self) -> &Bytes {
        self.joined.get_or_init(|| match &self.frames[..] {
            [frame] => frame.bytes.clone(),
            frames => {
                let bytes: Vec<&[u8]> = frames.iter().map(|frame| &frame.bytes[..]).collect();
                bytes.concat().into()
            }
        })
    }
}

/// A final frame of a server (RFC 6455, 5.2), which is not masked. `first` is its first byte, with the opcode; the payload is
/// given in two parts.
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
    fn batch_joins_frames_in_order_and_does_not_copy_one() {
        let frames = ["a", "bc", ""].map(Frame::new);
        let batch = Batch::new(frames.iter());
        assert_eq!(&batch.joined()[..], b"\x81\x024a\x81\x034bc\x81\x014");
        assert_eq!(batch.frames(), frames);
        let single = Batch::new(frames[..1].iter());
        assert_eq!(single.joined().as_ptr(), frames[0].bytes().as_ptr());
    }

    #[test]
    fn header_holds_every_payload_length() {
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
