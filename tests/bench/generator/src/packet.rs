//! Engine.IO 4 and Socket.IO 5 packets, recognised by their first bytes; JSON is left alone.

/// What a server said in one text frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Engine.IO is open; Socket.IO may connect.
    Open,
    /// Socket.IO is connected; the session's JSON.
    Connected(&'a [u8]),
    /// Socket.IO rejected the CONNECT; the reason, as JSON.
    Rejected(&'a [u8]),
    /// To be answered by a pong, or the server hangs up.
    Ping,
    /// An event, as a JSON array.
    Event(&'a [u8]),
    /// The acknowledgement of the event sent with this number.
    Ack(u64),
    /// Anything else.
    Other,
}

/// Reads one text frame.
pub fn packet(payload: &[u8]) -> Packet<'_> {
    match payload {
        [b'4', b'2', event @ ..] => Packet::Event(event),
        [b'4', b'3', ack @ ..] => number(ack).map_or(Packet::Other, Packet::Ack),
        [b'4', b'0', session @ ..] => Packet::Connected(session),
        [b'4', b'4', why @ ..] => Packet::Rejected(why),
        [b'0', ..] => Packet::Open,
        [b'2'] => Packet::Ping,
        _ => Packet::Other,
    }
}

/// The value of `"name":"…"` or `"name":…`, where it occurs first.
pub fn field<'a>(json: &'a [u8], name: &str) -> Option<&'a str> {
    let json = str::from_utf8(json).ok()?;
    let (_, after) = json.split_once(&format!("\"{name}\":"))?;
    let value = after.strip_prefix('"').unwrap_or(after);
    value.split(['"', ',', '}']).next()
}

fn number(digits: &[u8]) -> Option<u64> {
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_recognised_by_their_first_bytes() {
        assert_eq!(packet(br#"0{"sid":"x"}"#), Packet::Open);
        assert_eq!(
            packet(br#"40{"sid":"x"}"#),
            Packet::Connected(br#"{"sid":"x"}"#)
        );
        assert_eq!(packet(b"2"), Packet::Ping);
        assert_eq!(
            packet(br#"42["message","a"]"#),
            Packet::Event(br#"["message","a"]"#)
        );
        assert_eq!(packet(br#"4317[{"ok":true}]"#), Packet::Ack(17));
        assert_eq!(
            packet(br#"44{"message":"full"}"#),
            Packet::Rejected(br#"{"message":"full"}"#)
        );
    }

    #[test]
    fn a_field_is_read_with_or_without_quotes() {
        let json = br#"["history",{"epoch":"e-1","offset":12,"last":3}]"#;
        assert_eq!(field(json, "epoch"), Some("e-1"));
        assert_eq!(field(json, "offset"), Some("12"));
        assert_eq!(field(json, "last"), Some("3"));
        assert_eq!(field(json, "none"), None);
    }
}
