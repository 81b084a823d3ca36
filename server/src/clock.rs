//! The wall clock: the time of messages, in the unit that records carry.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since the Unix epoch; zero if the clock is set before it.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_millis() -> i64 {
    i64::try_from(unix_now().as_millis()).unwrap_or(i64::MAX)
}

/// How long ago a time in milliseconds since the Unix epoch was; zero if it is in the future, as another server's clock may say.
pub(crate) fn since_millis(millis: i64) -> Duration {
    let then = Duration::from_millis(millis.try_into().unwrap_or_default());
    unix_now().saturating_sub(then)
}
