//! Session ids of Engine.IO. That of a session that polls names its server, so that any server of the room can find it.
//!
//! - Only a server that has the room's key can make a sid that another one believes: a request is forwarded only to an address that
//!   a server of the room has given to a client.
//! - A sid shows its client nothing: the address in it is masked.

use std::{
    borrow::Borrow,
    fmt, fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use axum::http::HeaderValue;
use papo_protocol::limits::SESSION_KEY_LENGTH_MIN;

/// Bytes of a sid: those that make it unique, the masked address, and the code over both.
const NONCE: usize = 12;
const SERVER: usize = 18;
const CODE: usize = 16;

/// What a code or a mask is for, so that none can be used for another purpose.
const OF_SID: &[u8] = b"papo sid";
const OF_MASK: &[u8] = b"papo sid mask";
const OF_FORWARDED: &[u8] = b"papo forwarded";
const OF_ANSWER: &[u8] = b"papo answer";

/// The id of a session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sid(Box<str>);

/// Makes and reads the ids of polling sessions.
pub(crate) struct Sids {
    key: hmac::Key,
    /// Where other servers of the room reach this one. Without it no request is forwarded to it.
    own: Option<SocketAddr>,
}

/// The codes by which two servers of the room believe each other: in a request for a session, and in its answer.
pub(super) struct Codes {
    pub(super) request: HeaderValue,
    pub(super) answer: HeaderValue,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("cannot read the session key")]
    Read(#[source] io::Error),
    #[error("the session key has {0} bytes; it needs at least {least}", least = SESSION_KEY_LENGTH_MIN)]
    Short(usize),
}

impl Sid {
    /// An id for a session that only this server has.
    pub(crate) fn random() -> Self {
        let nonce: [u8; NONCE] = rand::random();
        Self(hex::encode(nonce).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Sid {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Sids {
    /// The ids of a server that shares its sessions with no other.
    pub(crate) fn alone() -> Self {
        Self {
            key: key(&rand::random::<[u8; SESSION_KEY_LENGTH_MIN]>()),
            own: None,
        }
    }

    /// The ids of a server that others, which have the same key file, reach at `own`.
    pub(crate) fn shared(file: &Path, own: Option<SocketAddr>) -> Result<Self, KeyError> {
        let bytes = fs::read(file).map_err(KeyError::Read)?;
        let bytes = bytes.trim_ascii();
        if bytes.len() < SESSION_KEY_LENGTH_MIN {
            return Err(KeyError::Short(bytes.len()));
        }
        let key = key(bytes);
        Ok(Self { key, own })
    }

    /// A new id, which names this server.
    pub(crate) fn create(&self) -> Sid {
        let nonce: [u8; NONCE] = rand::random();
        let mut server = self.own.map_or([0; SERVER], bytes_of);
        self.mask(&nonce, &mut server);
        let code = self.code(&[OF_SID, &nonce, &server]);
        Sid(hex::encode([&nonce[..], &server, &code].concat()).into())
    }

    /// The other server that has this session; `None` if it is this one, or if no server of the room has made the id.
    pub(crate) fn other_server(&self, sid: &str) -> Option<SocketAddr> {
        let mut bytes = [0; NONCE + SERVER + CODE];
        hex::decode_to_slice(sid, &mut bytes).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE>()?;
        let (server, code) = rest.split_first_chunk::<SERVER>()?;
        verify_slices_are_equal(&self.code(&[OF_SID, nonce, server]), code).ok()?;
        let mut server = *server;
        self.mask(nonce, &mut server);
        let server = address_of(server)?;
        (Some(server) != self.own).then_some(server)
    }

    /// The codes for requests for a session that are forwarded.
    pub(super) fn forward_codes(&self, sid: &str) -> Codes {
        let code = |purpose: &[u8]| {
            let code = hex::encode(self.code(&[purpose, sid.as_bytes()]));
            HeaderValue::try_from(code).expect("hexadecimal digits")
        };
        Codes {
            request: code(OF_FORWARDED),
            answer: code(OF_ANSWER),
        }
    }

    fn mask(&self, nonce: &[u8], server: &mut [u8; SERVER]) {
        let mask = self.tag(&[OF_MASK, nonce]);
        for (byte, mask) in server.iter_mut().zip(mask.as_ref()) {
            *byte ^= mask;
        }
    }

    fn code(&self, parts: &[&[u8]]) -> [u8; CODE] {
        let tag = self.tag(parts);
        let mut code = [0; CODE];
        code.copy_from_slice(&tag.as_ref()[..CODE]);
        code
    }

    /// A code over several texts. Each is preceded by its length, so that no other texts have the same code.
    fn tag(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign()
    }
}

/// Whether a code is the expected one. It takes the same time for each of its length.
pub(super) fn is_same(code: &HeaderValue, expected: &HeaderValue) -> bool {
    verify_slices_are_equal(code.as_bytes(), expected.as_bytes()).is_ok()
}

fn key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// An address as an IPv6 address, which an IPv4 address is mapped to, and a port.
fn bytes_of(address: SocketAddr) -> [u8; SERVER] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; SERVER];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    bytes
}

/// The address, unless the server had none that others reach.
fn address_of(bytes: [u8; SERVER]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_first_chunk::<16>()?;
    let port = u16::from_be_bytes(port.try_into().ok()?);
    let ip = IpAddr::from(Ipv6Addr::from(*ip)).to_canonical();
    (port != 0).then(|| SocketAddr::new(ip, port))
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who knows an id can speak for its client: logs have a part of it.
        f.write_str(self.0.get(..8).unwrap_or_default())
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sid({self})")
    }
}

impl fmt::Debug for Sids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sids")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn key_has_at_least_32_bytes_without_white_space() {
        let file = std::env::temp_dir().join(format!("papo-key-{:016x}", rand::random::<u64>()));
        for (length, expected) in [(0, Some(0)), (31, Some(31)), (32, None), (1_000, None)] {
            fs::write(&file, format!(" {}\n", "k".repeat(length))).expect("written");
            let short = match Sids::shared(&file, None) {
                Err(KeyError::Short(length)) => Some(length),
                read => read.map(|_| None).expect("read"),
            };
            assert_eq!(short, expected);
        }
        fs::remove_file(&file).expect("removed");
        assert!(matches!(Sids::shared(&file, None), Err(KeyError::Read(_))));
    }

    fn sids(secret: u8, own: Option<&str>) -> Sids {
        Sids {
            key: key(&[secret; SESSION_KEY_LENGTH_MIN]),
            own: own.map(|own| own.parse().expect("an address")),
        }
    }

    #[test]
    fn sid_names_its_server_to_the_others() {
        for address in ["10.0.0.1:5000", "[fd00::1]:5000", "192.0.2.1:1"] {
            let (here, there) = (sids(1, Some(address)), sids(1, Some("10.0.0.2:5000")));
            let sid = here.create();
            let server = there.other_server(sid.as_str());
            assert_eq!(server, Some(address.parse().expect("an address")));
            assert_eq!(here.other_server(sid.as_str()), None, "its own");
        }
        let alone = sids(1, None).create();
        assert_eq!(
            sids(1, Some("10.0.0.2:5000")).other_server(alone.as_str()),
            None
        );
    }

    #[test]
    fn sid_of_another_key_names_no_server() {
        let sid = sids(1, Some("10.0.0.1:5000")).create();
        assert_eq!(sids(2, None).other_server(sid.as_str()), None);
    }

    #[test]
    fn every_changed_digit_makes_a_sid_invalid() {
        let (here, there) = (sids(1, Some("10.0.0.1:5000")), sids(1, None));
        let sid = here.create();
        for place in 0..sid.as_str().len() {
            let mut forged = sid.as_str().as_bytes().to_vec();
            forged[place] = if forged[place] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).expect("hexadecimal");
            assert_eq!(there.other_server(&forged), None, "{place}");
        }
    }

    #[test]
    fn sid_does_not_show_the_address() {
        let here = sids(1, Some("10.0.0.1:5000"));
        let plain = hex::encode(bytes_of("10.0.0.1:5000".parse().expect("an address")));
        let sids = [here.create(), here.create()];
        let masked = sids
            .each_ref()
            .map(|sid| &sid.as_str()[2 * NONCE..][..2 * SERVER]);
        assert!(masked[0] != masked[1] && masked.iter().all(|one| *one != plain));
    }

    #[test]
    fn forward_code_belongs_to_one_session() {
        let (here, there) = (sids(1, None), sids(1, None));
        let code = here.forward_codes("a").request;
        let is_of =
            |code: &HeaderValue, sids: &Sids, sid| is_same(code, &sids.forward_codes(sid).request);
        assert!(is_of(&code, &there, "a"));
        assert!(!is_of(&code, &there, "b") && !is_of(&HeaderValue::from_static(""), &there, "a"));
        assert!(!is_of(&code, &sids(2, None), "a"));
    }

    proptest! {
        #[test]
        fn arbitrary_sids_name_no_server(sid in ".{0,100}") {
            prop_assert_eq!(sids(1, None).other_server(&sid), None);
        }
    }
}
