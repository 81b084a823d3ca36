//! How much memory a server is given, unless its room says so: derived from what its clients may do.
//!
//! `docs/kubernetes.md` has the same numbers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use papo_protocol::Limits;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What a server without members reserves: the program, and recent messages.
const IDLE: u64 = 64 * MIB;
/// What a connection uses that neither sends nor receives.
const IDLE_CONNECTION: u64 = 4 * KIB;
/// What a server uses at most besides the terms below: the program, recent messages, what senders and addresses have used of their limits, the
/// roster, and clients that wait to join.
const SHARED: u64 = 256 * MIB;
/// Frames of the largest size that arrive at once, and messages in answers of that size.
const FRAMES: u64 = 32;
/// Bytes for each character of the longest message: records that are read back from the broker (4 reads of 1,100 records, with their messages),
/// and those that the broker has sent ahead (2,000).
const READS: u64 = 80_000;
/// What a connection uses at most: the state of HTTP with a request head, parts of frames and answers that wait, and 64 KiB in the kernel that its
/// client has not read.
const BUSY_CONNECTION: u64 = 112 * KIB;
/// Bytes for each character of a longest message that a connection has written in part.
const PARTIAL_MESSAGE: u64 = 6;

/// Memory of one server, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What the scheduler reserves: enough for all connections that the limits allow, if few of them are busy.
    pub request: u64,
    /// What the server may use: more than it needs if all connections that the limits allow attack it at once.
    pub limit: u64,
}

/// The memory of a server with these limits.
pub fn memory(limits: &Limits) -> Memory {
    let connections = u64::from(limits.connections);
    let length = u64::from(limits.message_length);
    let messages = FRAMES * u64::from(limits.frame_size) + READS * length;
    let busy = BUSY_CONNECTION + PARTIAL_MESSAGE * length;
    Memory {
        request: IDLE + connections * IDLE_CONNECTION,
        limit: SHARED + messages + connections * busy,
    }
}

/// Adds the memory to the requests and limits of a room that sets no memory. A room that sets one of the two has set both: a default limit could
/// be lower than the room's request.
pub(super) fn with_memory(
    requests: &mut BTreeMap<String, Quantity>,
    limits: &mut BTreeMap<String, Quantity>,
    memory: Memory,
) {
    const KEY: &str = "memory";
    if requests.contains_key(KEY) || limits.contains_key(KEY) {
        return;
    }
    let quantity = |bytes: u64| Quantity(format!("{}Mi", bytes.div_ceil(MIB)));
    requests.insert(KEY.to_owned(), quantity(memory.request));
    limits.insert(KEY.to_owned(), quantity(memory.limit));
}

#[cfg(test)]
mod tests {
    use papo_protocol::limits::{Bounds, CONNECTIONS, FRAME_SIZE, MESSAGE_LENGTH};

    use super::*;

    fn of(connections: u32, frame_size: u32, message_length: u32) -> Memory {
        memory(&Limits {
            connections,
            frame_size,
            message_length,
            ..Limits::default()
        })
    }

    #[test]
    fn memory_grows_with_the_limits() {
        let defaults = of(10_000, 65_536, 4_000);
        assert_eq!(defaults, memory(&Limits::default()));
        assert_eq!(defaults.request, 64 * MIB + 10_000 * 4 * KIB);
        let messages = 32 * 64 * KIB + 80_000 * 4_000;
        let connections = 10_000 * (112 * KIB + 24_000);
        assert_eq!(defaults.limit, 256 * MIB + messages + connections);
        for more in [
            of(10_001, 65_536, 4_000),
            of(10_000, 65_537, 4_000),
            of(10_000, 65_536, 4_001),
        ] {
            assert!(more.limit > defaults.limit, "{more:?}");
        }
        for bound in [|of: Bounds| of.min, |of: Bounds| of.max] {
            let memory = of(bound(CONNECTIONS), bound(FRAME_SIZE), bound(MESSAGE_LENGTH));
            assert!(memory.request < memory.limit, "{memory:?}");
        }
    }

    fn added(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> [Option<String>; 2] {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned())))
                .collect()
        };
        let (mut requests, mut limits) = (map(requests), map(limits));
        with_memory(&mut requests, &mut limits, memory(&Limits::default()));
        [requests, limits].map(|all| all.get("memory").map(|quantity| quantity.0.clone()))
    }

    #[test]
    fn room_that_sets_memory_keeps_it() {
        let text = |text: &str| Some(text.to_owned());
        let defaults = [text("104Mi"), text("1886Mi")];
        assert_eq!(added(&[], &[]), defaults);
        assert_eq!(added(&[("cpu", "1")], &[("cpu", "2")]), defaults);
        assert_eq!(added(&[("memory", "4Gi")], &[]), [text("4Gi"), None]);
        assert_eq!(added(&[], &[("memory", "64Mi")]), [None, text("64Mi")]);
    }
}
