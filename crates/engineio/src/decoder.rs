//! The decoder of WebSocket frames: takes bytes as they arrive, gives messages and control frames.
//!
//! - A frame's header is checked as soon as it is there, before memory is kept for its payload.
//! - No message is longer than the limit, in one frame or in fragments.
//! - Between frames the decoder holds no memory.

use std::{io::Cursor, str};

use bytes::{Buf, Bytes, BytesMut};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// Longest payload of a control frame (RFC 6455, 5.5).
const LONGEST_CONTROL: u64 = 125;

/// The decoder of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The beginning of a frame; empty, and without memory, between frames.
    bytes: BytesMut,
    /// Frames were taken from `bytes`, which share its memory.
    is_cut: bool,
    /// The fragments of a message so far.
    message: Option<(Kind, BytesMut)>,
    /// Longest message, in bytes.
    limit: usize,
}

/// A message or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    Close,
}

/// Why a frame cannot be taken: the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A client may not send this frame, or not at this place (RFC 6455, 5).
    Malformed,
    /// A text message, or the reason in a close frame, is not UTF-8.
    Encoding,
    /// The message is longer than the limit.
    TooBig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

impl Decoder {
    /// Takes messages of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            is_cut: false,
            message: None,
            limit,
        }
    }

    /// Adds bytes in the order in which they were read.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message or control frame, if it is complete.
    pub(crate) fn next(&mut self) -> Result<Option<Received>, FrameError> {
        while let Some((header, payload)) = self.frame()? {
            if let Some(received) = self.assemble(&header, payload)? {
                return Ok(Some(received));
            }
        }
        if self.is_cut {
            // What is left would keep the memory of the frames before it.
            self.bytes = BytesMut::from(&self.bytes[..]);
            self.is_cut = false;
        }
        Ok(None)
    }

    /// Bytes of memory that it holds.
    pub(crate) fn memory(&self) -> usize {
        let message = self.message.as_ref();
        self.bytes.capacity() + message.map_or(0, |(_, bytes)| bytes.capacity())
    }

    /// The next complete frame, unmasked. Its header is checked before its payload has arrived.
    fn frame(&mut self) -> Result<Option<(FrameHeader, BytesMut)>, FrameError> {
        let mut cursor = Cursor::new(&self.bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| FrameError::Malformed)?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        let start = usize::try_from(cursor.position()).map_err(|_| FrameError::TooBig)?;
        let length = self.allowed(&header, length)?;
        if self.bytes.len() - start < length {
            return Ok(None);
        }
        self.is_cut = true;
        self.bytes.advance(start);
        let mut payload = self.bytes.split_to(length);
        let mask = header.mask.ok_or(FrameError::Malformed)?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(Some((header, payload)))
    }

    /// The length of the frame's payload, if a client may send such a frame now.
    fn allowed(&self, header: &FrameHeader, length: u64) -> Result<usize, FrameError> {
        let control = matches!(header.opcode, OpCode::Control(_));
        let continues = header.opcode == OpCode::Data(Data::Continue);
        let extended = header.rsv1 || header.rsv2 || header.rsv3;
        let misplaced = !control && continues != self.message.is_some();
        let long = control && (length > LONGEST_CONTROL || !header.is_final);
        if extended || misplaced || long || header.mask.is_none() {
            return Err(FrameError::Malformed);
        }
        let before = self.message.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let most = self.limit.saturating_sub(before);
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= most || control)
            .ok_or(FrameError::TooBig)
    }

    fn assemble(
        &mut self,
        header: &FrameHeader,
        payload: BytesMut,
    ) -> Result<Option<Received>, FrameError> {
        let kind = match header.opcode {
            OpCode::Control(Control::Ping) => return Ok(Some(Received::Ping(payload.freeze()))),
            OpCode::Control(Control::Pong) => return Ok(Some(Received::Pong)),
            OpCode::Control(_) => return close(&payload).map(Some),
            OpCode::Data(Data::Text) => Kind::Text,
            OpCode::Data(_) => Kind::Binary,
        };
        let (kind, message) = match self.message.take() {
            Some((kind, mut message)) => {
                message.extend_from_slice(&payload);
                (kind, message)
            }
            // A copy, which does not keep the memory of other frames.
            None if !header.is_final => (kind, BytesMut::from(&payload[..])),
            None => (kind, payload),
        };
        if !header.is_final {
            self.message = Some((kind, message));
            return Ok(None);
        }
        let received = match kind {
            Kind::Binary => Received::Binary(message.freeze()),
            Kind::Text => {
                let text = String::from_utf8(message.to_vec());
                Received::Text(text.map_err(|_| FrameError::Encoding)?)
            }
        };
        Ok(Some(received))
    }
}

/// A close frame: it has no payload, or a code that a client may send and a reason (RFC 6455, 5.5.1).
fn close(payload: &[u8]) -> Result<Received, FrameError> {
    match payload.split_first_chunk::<2>() {
        None if payload.is_empty() => Ok(Received::Close),
        Some((code, reason)) if is_close_code(u16::from_be_bytes(*code)) => {
            let reason = str::from_utf8(reason).map_err(|_| FrameError::Encoding);
            reason.map(|_| Received::Close)
        }
        _ => Err(FrameError::Malformed),
    }
}

/// Whether a code may be in a close frame: one of RFC 6455, 7.4, and of IANA's registry, which has 1012 to 1014.
fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1_000;

    /// A client's frame, masked as RFC 6455 requires.
    fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let header = FrameHeader {
            is_final,
            opcode,
            mask: Some(mask),
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        header
            .format(payload.len() as u64, &mut bytes)
            .expect("formatted");
        bytes.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        bytes
    }

    fn received(chunks: &[&[u8]]) -> Result<Vec<Received>, FrameError> {
        let mut decoder = Decoder::new(LIMIT);
        let mut all = Vec::new();
        for chunk in chunks {
            decoder.extend(chunk);
            while let Some(one) = decoder.next()? {
                all.push(one);
            }
        }
        Ok(all)
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode = OpCode::Control(Control::Ping);
    const CLOSE: OpCode = OpCode::Control(Control::Close);

    #[test]
    fn fragments_form_one_message_with_a_ping_between() {
        let bytes = [
            frame(TEXT, false, "ol".as_bytes()),
            frame(PING, true, b"x"),
            frame(MORE, false, &"á".as_bytes()[..1]),
            frame(MORE, true, &"á".as_bytes()[1..]),
        ]
        .concat();
        let expected = vec![
            Received::Ping(Bytes::from_static(b"x")),
            Received::Text("olá".to_owned()),
        ];
        assert_eq!(received(&[&bytes]), Ok(expected));
    }

    #[test]
    fn frames_that_break_the_protocol_are_rejected() {
        let mut unmasked = frame(TEXT, true, b"");
        unmasked[1] &= 0x7f;
        let mut extended = frame(TEXT, true, b"x");
        extended[0] |= 0x40;
        for bytes in [
            unmasked,
            extended,
            frame(MORE, true, b"x"),
            frame(PING, false, b"x"),
            frame(PING, true, &[0; 126]),
            [frame(TEXT, false, b"x"), frame(TEXT, true, b"x")].concat(),
            frame(OpCode::from(3), true, b"x"),
            frame(OpCode::from(11), true, b"x"),
        ] {
            assert_eq!(
                received(&[&bytes]),
                Err(FrameError::Malformed),
                "{bytes:x?}"
            );
        }
        assert_eq!(
            received(&[&frame(TEXT, true, b"\xff")]),
            Err(FrameError::Encoding)
        );
    }

    #[test]
    fn close_frames_are_checked() {
        let closing = |code: u16, reason: &[u8]| {
            let payload = [&code.to_be_bytes()[..], reason].concat();
            received(&[&frame(CLOSE, true, &payload)])
        };
        let closed = Ok(vec![Received::Close]);
        assert_eq!(received(&[&frame(CLOSE, true, b"")]), closed);
        assert_eq!(
            received(&[&frame(CLOSE, true, b"\x03")]),
            Err(FrameError::Malformed)
        );
        for code in [
            1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999,
        ] {
            assert_eq!(closing(code, "olá".as_bytes()), closed, "{code}");
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
        ] {
            assert_eq!(closing(code, b""), Err(FrameError::Malformed), "{code}");
        }
        assert_eq!(closing(1000, b"\xff"), Err(FrameError::Encoding));
        assert_eq!(
            closing(1000, &"á".as_bytes()[..1]),
            Err(FrameError::Encoding)
        );
    }

    #[test]
    fn header_of_a_message_above_the_limit_is_rejected() {
        let long = frame(TEXT, true, &[b'x'; LIMIT + 1]);
        assert_eq!(received(&[&long[..8]]), Err(FrameError::TooBig));
        let whole = frame(TEXT, true, &[b'x'; LIMIT]);
        assert_eq!(received(&[&whole]).map(|all| all.len()), Ok(1));
        let fragments = [frame(TEXT, false, &[b'x'; LIMIT]), frame(MORE, true, b"x")].concat();
        assert_eq!(received(&[&fragments]), Err(FrameError::TooBig));
        // So long that its length overflows when the first fragment's is added.
        let endless = [&frame(TEXT, false, b"x")[..], &[0x80, 0xff], &[0xff; 12]].concat();
        assert_eq!(received(&[&endless]), Err(FrameError::TooBig));
    }

    #[test]
    fn decoder_keeps_no_memory_between_messages() {
        let mut decoder = Decoder::new(LIMIT);
        decoder.extend(&frame(TEXT, true, &[b'x'; LIMIT]));
        assert!(matches!(decoder.next(), Ok(Some(Received::Text(_)))));
        assert_eq!(decoder.next(), Ok(None));
        assert_eq!(decoder.memory(), 0);
    }

    #[test]
    fn rest_of_a_read_keeps_no_memory_of_earlier_frames() {
        let mut decoder = Decoder::new(LIMIT);
        let mut bytes = frame(TEXT, true, &[b'x'; LIMIT]);
        bytes.extend(frame(TEXT, false, b"abc"));
        bytes.push(0x80);
        decoder.extend(&bytes);
        let memory = decoder.bytes.as_ptr_range();
        assert!(matches!(decoder.next(), Ok(Some(Received::Text(_)))));
        assert_eq!(decoder.next(), Ok(None));
        assert!(!memory.contains(&decoder.bytes.as_ptr()));
        assert!(decoder.memory() < 100, "{} bytes", decoder.memory());
    }

    proptest! {
        #[test]
        fn messages_do_not_depend_on_how_bytes_arrive(texts in prop::collection::vec(".{0,40}", 1..6), cuts in prop::collection::vec(1_usize..20, 1..40)) {
            let bytes: Vec<u8> = texts.iter().flat_map(|text| frame(TEXT, true, text.as_bytes())).collect();
            let mut chunks = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let expected: Vec<Received> = texts.into_iter().map(Received::Text).collect();
            prop_assert_eq!(received(&chunks), Ok(expected));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = received(&[&bytes]);
        }
    }
}
