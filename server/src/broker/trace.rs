//! W3C trace context as it travels beside a record.

use tracing::Span;

/// The header of the trace and its parent span.
pub(super) const TRACE_PARENT_HEADER: &str = "traceparent";
/// The header of what tracing systems add.
pub(super) const TRACE_STATE_HEADER: &str = "tracestate";

/// The trace that a record belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`; may be empty.
    pub state: String,
}

impl TraceContext {
    /// What continues the trace of a span; `None` if the span is not traced.
    pub(crate) fn of(span: &Span) -> Option<Self> {
        let mut context = Self::default();
        papo_telemetry::inject(span, |header, value| match header {
            TRACE_PARENT_HEADER => context.parent = value,
            TRACE_STATE_HEADER => context.state = value,
            _ => {}
        });
        (!context.parent.is_empty()).then_some(context)
    }

    /// Makes a span part of this trace. Call it before the span is entered.
    pub(crate) fn set_parent_of(&self, span: &Span) {
        let parent = papo_telemetry::extract(|header| match header {
            TRACE_PARENT_HEADER => Some(self.parent.clone()),
            TRACE_STATE_HEADER => Some(self.state.clone()),
            _ => None,
        });
        if let Some(parent) = parent {
            papo_telemetry::set_parent(span, parent);
        }
    }
}
