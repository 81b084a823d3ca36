//! File descriptors: each socket is one, and a process has a limit of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept free of clients' sockets: for probes, brokers, files and everything else.
pub const RESERVED: u64 = 256;

/// Raises the soft limit of descriptors to the hard one, and returns how many sockets of clients the limit allows.
///
/// The soft limit is 1024 on most systems, for programs that use `select`. This one does not.
pub fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the soft limit of file descriptors (ulimit -Sn) to the hard one");
        }
    }
    // No limit if `None`.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(descriptors.saturating_sub(RESERVED)).unwrap_or(usize::MAX)
}
