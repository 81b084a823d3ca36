//! What a condition says, before its time of transition is known.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::crd::ChatRoomStatus;

/// The longest message that the API server accepts in a condition, in characters.
const MESSAGE_MAX: usize = 4_096;

/// Status, reason and message of a condition.
#[derive(Clone, Debug)]
pub(super) struct ConditionState {
    /// True, False, or Unknown if `None`.
    pub(super) status: Option<bool>,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The state of a condition that is known to be true or false.
pub(super) fn state(
    status: bool,
    reason: &'static str,
    message: impl Into<String>,
) -> ConditionState {
    ConditionState {
        status: Some(status),
        reason,
        message: message.into(),
    }
}

/// A condition of this type. Its time of transition is that of the last status, unless the condition has changed since.
pub(super) fn condition(
    type_: &str,
    state: &ConditionState,
    generation: Option<i64>,
    last: &ChatRoomStatus,
    now: Timestamp,
) -> Condition {
    let status = match state.status {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let known = last
        .conditions
        .iter()
        .find(|known| known.type_ == type_ && known.status == status);
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: state.reason.to_owned(),
        message: state.message.chars().take(MESSAGE_MAX).collect(),
        observed_generation: generation,
        last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
    }
}
