//! Carries a trace from one program to the next in the headers of W3C trace context: `traceparent` and `tracestate`.
//!
//! With tracing off no propagator is installed, and all of this does nothing.

use std::collections::HashMap;

use opentelemetry::{
    Context, global,
    propagation::{Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Hands `set` each header (name, value) that continues the trace of `span`; none if it is not traced.
pub fn inject(span: &Span, set: impl FnMut(&str, String)) {
    if span.is_none() {
        return;
    }
    let mut headers = Headers(set);
    global::get_text_map_propagator(|propagator| {
        if propagator.fields().next().is_some() {
            propagator.inject_context(&span.context(), &mut headers);
        }
    });
}

/// The trace that the headers continue; `get` is asked for each header by its lower-case name.
///
/// `None` if there is none, if it is malformed, or if tracing is off.
pub fn extract(get: impl Fn(&str) -> Option<String>) -> Option<Context> {
    global::get_text_map_propagator(|propagator| extract_with(propagator, &get))
}

pub(crate) fn extract_with(
    propagator: &dyn TextMapPropagator,
    get: impl Fn(&str) -> Option<String>,
) -> Option<Context> {
    let headers: HashMap<String, String> = propagator
        .fields()
        .filter_map(|name| Some((name.to_owned(), get(name)?)))
        .collect();
    if headers.is_empty() {
        return None;
    }
    let context = propagator.extract_with_context(&Context::new(), &headers);
    context.has_active_span().then_some(context)
}

/// Makes `span` a child of what [`extract`] found. Call it before the span is entered: its parent is fixed from then on.
pub fn set_parent(span: &Span, parent: Context) {
    // It fails for a span that is filtered out or not traced, where there is nothing to set.
    let _ = span.set_parent(parent);
}

/// What the propagator writes into.
struct Headers<F>(F);

impl<F: FnMut(&str, String)> Injector for Headers<F> {
    fn set(&mut self, key: &str, value: String) {
        (self.0)(key, value);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::propagation::TraceContextPropagator;

    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn headers_name_the_remote_parent() {
        let get = |name: &str| (name == "traceparent").then(|| TRACEPARENT.to_owned());
        let context = extract_with(&TraceContextPropagator::new(), get).expect("a parent");
        let parent = context.span().span_context().clone();
        assert_eq!(
            parent.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert!(parent.is_remote());
    }

    #[test]
    fn no_header_or_a_malformed_one_means_no_parent() {
        let propagator = TraceContextPropagator::new();
        assert!(extract_with(&propagator, |_| None).is_none());
        assert!(extract_with(&propagator, |_| Some("x".to_owned())).is_none());
    }

    #[test]
    fn nothing_happens_while_tracing_is_off() {
        inject(&tracing::info_span!("publish"), |name, _| {
            panic!("{name} was set");
        });
        assert!(extract(|_| Some(TRACEPARENT.to_owned())).is_none());
    }
}
