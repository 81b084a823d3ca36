//! WebSocket frames as a client writes and reads them (RFC 6455), text only.

/// The last frame of a connection.
pub const CLOSE: u8 = 8;
/// To be answered by a pong.
pub const PING: u8 = 9;
/// The answer.
pub const PONG: u8 = 10;
const TEXT: u8 = 1;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Instead of a length: it follows in two bytes.
const LONG: u8 = 0x7e;
/// Instead of a length: it follows in eight bytes.
const VERY_LONG: u8 = 0x7f;

/// A frame that lies complete in a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What kind of frame.
    pub opcode: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

/// The bytes of a text frame from a client. Clients must mask; with the key 0 that costs nothing.
pub fn client_text(payload: &str) -> Vec<u8> {
    client(TEXT, payload.as_bytes())
}

/// The bytes of any frame from a client.
///
/// # Panics
/// If the payload is longer than 65535 bytes, which this program never sends.
pub fn client(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FINAL | opcode];
    let length = u16::try_from(payload.len()).expect("this program sends short texts");
    if let Ok(short @ 0..LONG) = u8::try_from(length) {
        frame.push(MASKED | short);
    } else {
        frame.push(MASKED | LONG);
        frame.extend(length.to_be_bytes());
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// The frame at the start of what a server sent, and how many bytes it takes; `None` while it is incomplete.
pub fn first(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&[head, short], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match short {
        VERY_LONG => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        LONG => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        short => (usize::from(short), rest),
    };
    let payload = rest.get(..length)?;
    let taken = bytes.len() - rest.len() + length;
    Some((
        Frame {
            opcode: head & 0x0f,
            payload,
        },
        taken,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_frame_is_not_found() {
        for length in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let mut bytes = vec![0x81];
            match length {
                0..126 => bytes.push(u8::try_from(length).expect("is there")),
                126..65_536 => {
                    bytes.push(126);
                    bytes.extend(u16::try_from(length).expect("is there").to_be_bytes());
                }
                _ => {
                    bytes.push(127);
                    bytes.extend((length as u64).to_be_bytes());
                }
            }
            bytes.extend(vec![b'x'; length]);
            assert_eq!(
                first(&bytes[..bytes.len() - 1]),
                None,
                "{length} bytes, the last one missing"
            );
            let whole = bytes.len();
            bytes.extend(b"the next one");
            let (frame, taken) = first(&bytes).expect("is there");
            assert_eq!((frame.payload.len(), taken), (length, whole));
        }
    }

    #[test]
    fn client_frames_are_masked() {
        assert_eq!(client_text("3"), [0x81, 0x81, 0, 0, 0, 0, b'3']);
        assert_eq!(client_text(&"x".repeat(126))[..4], [0x81, 0xfe, 0, 126]);
    }
}
