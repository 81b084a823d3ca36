//! When a token's end is near, and when its connection is closed. Pure: time comes in as an argument, in milliseconds since the Unix epoch.
//!
//! - The client is told once, at a random time, so that many tokens that expire together are not refreshed together.
//! - A connection outlives its token by a grace, because a refresh may be on its way.

use super::token::LEEWAY;

/// Before the end of a token, at least and at most this long, the client is told.
const NOTICE: (u64, u64) = (60_000, 120_000);
/// A token that lasts no longer is short: the client is told when between a half and three quarters of it are over. At this length both rules are one.
const SHORT: u64 = 2 * NOTICE.1;
/// How long a connection outlives its token.
const GRACE: u64 = 30_000;
/// The same, for a token that was presented later than that: as late as it could be.
const LATE_GRACE: u64 = LEEWAY * 1_000;

/// What is to be done for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// `None` once the client was told.
    notify: Option<u64>,
    close: u64,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// To tell the client that its token expires.
    Notice,
    /// To close the connection.
    Close,
}

impl Expiry {
    /// For a token that is presented at `now`. `random` is from 0 to 1.
    pub(crate) fn new(expires: u64, now: u64, random: f64) -> Self {
        let left = expires.saturating_sub(now);
        let part = |from: u64, to: u64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a part of a few minutes in milliseconds"
            )]
            let part = ((to - from) as f64 * random) as u64;
            from + part
        };
        let notify = if left < SHORT {
            now + part(left / 2, left / 4 * 3)
        } else {
            expires - part(NOTICE.0, NOTICE.1)
        };
        let grace = if now <= expires + GRACE {
            GRACE
        } else {
            LATE_GRACE
        };
        Self {
            notify: Some(notify),
            close: expires + grace,
        }
    }

    /// When something is due.
    pub(crate) fn next(&self) -> u64 {
        self.notify.unwrap_or(self.close)
    }

    /// What is due now. The notice is due once.
    pub(crate) fn take_due(&mut self, now: u64) -> Due {
        if now >= self.close {
            Due::Close
        } else if self.notify.take_if(|at| now >= *at).is_some() {
            Due::Notice
        } else {
            Due::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn notice_comes_before_the_end_and_once() {
        let hour = 3_600_000;
        let expires = NOW + hour;
        let mut expiry = Expiry::new(expires, NOW, 0.5);
        assert_eq!(expiry.next(), expires - 90_000);
        assert_eq!(expiry.take_due(NOW), Due::Nothing);
        assert_eq!(expiry.take_due(expires - 90_000), Due::Notice);
        assert_eq!(expiry.next(), expires + GRACE);
        assert_eq!(expiry.take_due(expires), Due::Nothing);
        assert_eq!(expiry.take_due(expires + GRACE), Due::Close);
    }

    #[test]
    fn token_presented_late_has_a_longer_grace() {
        for (late, grace) in [
            (0, 30_000),
            (29_000, 30_000),
            (30_000, 30_000),
            (31_000, 60_000),
            (60_000, 60_000),
        ] {
            let expiry = Expiry::new(NOW - late, NOW, 0.5);
            assert_eq!(expiry.close, NOW - late + grace, "{late}");
        }
    }

    #[test]
    fn server_that_slept_closes_what_has_expired() {
        let mut expiry = Expiry::new(NOW + 1_000, NOW, 0.5);
        assert_eq!(expiry.take_due(NOW + 3_600_000), Due::Close);
    }

    proptest! {
        #[test]
        fn notice_is_within_its_bounds(left in 0_u64..10_000_000, random in 0.0_f64..1.0) {
            let expires = NOW + left;
            let at = Expiry::new(expires, NOW, random).next();
            prop_assert!(at >= NOW && at <= expires);
            if left >= SHORT {
                prop_assert!((NOTICE.0..=NOTICE.1).contains(&(expires - at)));
            } else {
                prop_assert!(at - NOW + 2 >= left / 2 && at - NOW <= left / 4 * 3 + 2);
            }
        }
    }
}
