//! Fuzz target of trace context. Built for tests, which replay the corpus, and for fuzzing; `tests/fuzz/README.md` says how.

#![expect(
    clippy::missing_panics_doc,
    reason = "to panic when a promise is broken is what all of these are for"
)]

use opentelemetry::{propagation::TextMapPropagator, trace::TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::propagation::extract_with;

/// What separates the parts of an input that has several.
const SEPARATOR: u8 = 0x1e;

/// `traceparent`, then `tracestate`.
pub fn trace_context(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == SEPARATOR);
    let mut part = || String::from_utf8(parts.next()?.to_vec()).ok();
    let (parent, state) = (part(), part());
    let propagator = TraceContextPropagator::new();
    let found = extract_with(&propagator, |name| match name {
        "traceparent" => parent.clone(),
        "tracestate" => state.clone(),
        _ => None,
    });
    let Some(context) = found else {
        return;
    };
    let parent = context.span().span_context().clone();
    assert!(parent.is_valid() && parent.is_remote());
    let mut written = std::collections::HashMap::new();
    propagator.inject_context(&context, &mut written);
    let again = extract_with(&propagator, |name| written.get(name).cloned());
    let again = again.expect("what was written can be read");
    assert_eq!(again.span().span_context().trace_id(), parent.trace_id());
    assert_eq!(again.span().span_context().span_id(), parent.span_id());
}

#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{replay::replay, *};

    #[test]
    fn trace_contexts_of_the_corpus_are_survived() {
        replay("trace_context", trace_context);
    }
}
