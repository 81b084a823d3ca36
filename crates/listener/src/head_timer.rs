//! The clock of request heads. hyper has one time-out for all heads of a connection, and counts the time between requests too.

use std::{
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// How long a client may take for its first request head, from the moment it was accepted.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for each further request head, from the answer to its last request. Longer than proxies keep idle connections
/// (60 s is common): otherwise the server closes a connection that a proxy is about to use.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The timer of one connection: its first deadline is sooner than hyper's setting, [`IDLE_TIMEOUT`].
#[derive(Debug, Default)]
pub(crate) struct HeadTimer {
    had_first: AtomicBool,
    timer: TokioTimer,
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.timer.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let deadline = if self.had_first.swap(true, Ordering::Relaxed) {
            deadline
        } else {
            self.now() + HEAD_TIMEOUT
        };
        self.timer.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.timer.now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        self.timer.reset(sleep, deadline);
    }
}
