//! What comes in: frames put together from bytes as they arrive, checked before anything is kept for them.

use std::io::Cursor;

use bytes::{Buf, Bytes, BytesMut};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// Longest payload of a control frame (RFC 6455, 5.5).
const LONGEST_CONTROL: u64 = 125;

/// Frames under way.
#[derive(Debug)]
pub(in crate::socket) struct Incoming {
    /// The beginning of a frame; empty, and without memory, between frames.
    bytes: BytesMut,
    /// The fragments of a message so far.
    message: Option<(Kind, BytesMut)>,
    /// Longest message.
    limit: usize,
}

/// A message or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::socket) enum Received {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong,
    Close,
}

/// What ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::socket) enum Violation {
    /// Not a frame that a client may send here.
    Frame,
    /// A text that is not UTF-8.
    Encoding,
    /// More than the limit.
    TooBig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

impl Incoming {
    /// Takes messages of at most `limit` bytes.
    pub(in crate::socket) fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            message: None,
            limit,
        }
    }

    /// Adds bytes as they came.
    pub(in crate::socket) fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message or control frame, if it is complete.
    pub(in crate::socket) fn next(&mut self) -> Result<Option<Received>, Violation> {
        while let Some((header, payload)) = self.frame()? {
            if let Some(received) = self.put_together(&header, payload)? {
                return Ok(Some(received));
            }
        }
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
        }
        Ok(None)
    }

    /// The next frame, unmasked. Its header is judged as soon as it is there, before its payload is waited for.
    fn frame(&mut self) -> Result<Option<(FrameHeader, BytesMut)>, Violation> {
        let mut cursor = Cursor::new(&self.bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Frame)?;
        let Some((header, length)) = parsed else {
            return Ok(None);
        };
        let start = usize::try_from(cursor.position()).map_err(|_| Violation::TooBig)?;
        let length = self.allowed(&header, length)?;
        if self.bytes.len() - start < length {
            return Ok(None);
        }
        self.bytes.advance(start);
        let mut payload = self.bytes.split_to(length);
        let mask = header.mask.ok_or(Violation::Frame)?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok(Some((header, payload)))
    }

    /// The length of a frame that may come now.
    fn allowed(&self, header: &FrameHeader, length: u64) -> Result<usize, Violation> {
        let control = matches!(header.opcode, OpCode::Control(_));
        let continues = header.opcode == OpCode::Data(Data::Continue);
        let extended = header.rsv1 || header.rsv2 || header.rsv3;
        let misplaced = !control && continues != self.message.is_some();
        let long = control && (length > LONGEST_CONTROL || !header.is_final);
        if extended || misplaced || long || header.mask.is_none() {
            return Err(Violation::Frame);
        }
        let before = self.message.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let most = self.limit.saturating_sub(before);
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= most || control)
            .ok_or(Violation::TooBig)
    }

    fn put_together(
        &mut self,
        header: &FrameHeader,
        payload: BytesMut,
    ) -> Result<Option<Received>, Violation> {
        let kind = match header.opcode {
            OpCode::Control(Control::Ping) => return Ok(Some(Received::Ping(payload.freeze()))),
            OpCode::Control(Control::Pong) => return Ok(Some(Received::Pong)),
            OpCode::Control(_) => return Ok(Some(Received::Close)),
            OpCode::Data(Data::Text) => Kind::Text,
            OpCode::Data(_) => Kind::Binary,
        };
        let (kind, message) = match self.message.take() {
            Some((kind, mut message)) => {
                message.extend_from_slice(&payload);
                (kind, message)
            }
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
                Received::Text(text.map_err(|_| Violation::Encoding)?)
            }
        };
        Ok(Some(received))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1_000;

    /// A client's frame, masked as the standard wants it.
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

    fn received(chunks: &[&[u8]]) -> Result<Vec<Received>, Violation> {
        let mut incoming = Incoming::new(LIMIT);
        let mut all = Vec::new();
        for chunk in chunks {
            incoming.extend(chunk);
            while let Some(one) = incoming.next()? {
                all.push(one);
            }
        }
        Ok(all)
    }

    const TEXT: OpCode = OpCode::Data(Data::Text);
    const MORE: OpCode = OpCode::Data(Data::Continue);
    const PING: OpCode = OpCode::Control(Control::Ping);

    #[test]
    fn a_message_in_fragments_is_one_and_a_ping_may_come_between() {
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
    fn what_no_client_may_send_is_refused() {
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
            assert_eq!(received(&[&bytes]), Err(Violation::Frame), "{bytes:x?}");
        }
        assert_eq!(
            received(&[&frame(TEXT, true, b"\xff")]),
            Err(Violation::Encoding)
        );
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_header_alone() {
        let long = frame(TEXT, true, &[b'x'; LIMIT + 1]);
        assert_eq!(received(&[&long[..8]]), Err(Violation::TooBig));
        let whole = frame(TEXT, true, &[b'x'; LIMIT]);
        assert_eq!(received(&[&whole]).map(|all| all.len()), Ok(1));
        let fragments = [frame(TEXT, false, &[b'x'; LIMIT]), frame(MORE, true, b"x")].concat();
        assert_eq!(received(&[&fragments]), Err(Violation::TooBig));
        // So long that it overflows when what came before is added.
        let endless = [&frame(TEXT, false, b"x")[..], &[0x80, 0xff], &[0xff; 12]].concat();
        assert_eq!(received(&[&endless]), Err(Violation::TooBig));
    }

    #[test]
    fn between_messages_nothing_is_kept() {
        let mut incoming = Incoming::new(LIMIT);
        incoming.extend(&frame(TEXT, true, &[b'x'; LIMIT]));
        assert!(matches!(incoming.next(), Ok(Some(Received::Text(_)))));
        assert_eq!(incoming.next(), Ok(None));
        assert_eq!(incoming.bytes.capacity(), 0);
    }

    proptest! {
        #[test]
        fn however_it_is_cut_it_is_the_same(texts in prop::collection::vec(".{0,40}", 1..6), cuts in prop::collection::vec(1_usize..20, 1..40)) {
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
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = received(&[&bytes]);
        }
    }
}
