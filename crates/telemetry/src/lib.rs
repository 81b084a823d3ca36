//! How both programs log, trace, count and report health.
//!
//! [`init`] installs logging, and tracing to an OTLP collector if the standard `OTEL_*` variables ask for it; its
//! [`Guard`] flushes. [`inject`] and [`extract`] carry a trace through AMQP headers. [`Readiness`] collects what a
//! program still waits for, and [`admin_router`] shows it, with the metrics, to probes and scrapers.

mod admin;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod logs;
mod propagation;
mod readiness;
mod signals;
mod traces;

use tracing_subscriber::{Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

pub use admin::admin_router;
pub use logs::{LogFormat, UnknownLogFormat, is_log_filter};
pub use propagation::{extract, inject, set_parent};
pub use readiness::{Latch, Note, Readiness};
pub use signals::shutdown_signal;

/// What a program says about itself and wants logged.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the service in traces, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` give another.
    pub service_name: &'static str,
    /// What to log, in tracing's filter syntax: `info`, or `papo_server=debug,warn`. Traces do not depend on it.
    pub log_filter: String,
    /// How to log; text if standard error is a terminal and JSON otherwise when `None`.
    pub log_format: Option<LogFormat>,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter does not parse.
    #[error("`{filter}` is not a log filter; one is `info`, or `papo_server=debug,warn`")]
    LogFilter {
        /// The filter as it was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The `OTEL_*` variables ask for an exporter that cannot be built.
    #[error("traces cannot be exported as the OTEL_* variables say")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Somebody else in this process has installed a subscriber.
    #[error("logging is already set up in this process")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the export of traces alive; when dropped, what is still buffered is sent (for at most five seconds).
#[derive(Debug)]
#[must_use = "traces are no longer exported once this is dropped"]
pub struct Guard {
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Installs the process-wide subscriber and propagator; call it once, early in `main`.
pub fn init(settings: &Settings) -> Result<Guard, Error> {
    let Settings {
        service_name,
        log_filter,
        log_format,
    } = settings;
    let filter = logs::filter(log_filter)?;
    let plan = traces::plan(|name| std::env::var(name).ok());
    let provider = plan
        .export
        .then(|| traces::provider(service_name))
        .transpose()?;

    let log = logs::layer(log_format.unwrap_or_default()).with_filter(filter);
    Registry::default()
        .with(log)
        .with(provider.as_ref().map(traces::layer))
        .try_init()?;
    if let Some(name) = plan.unsupported {
        tracing::warn!(
            exporter = name,
            "OTEL_TRACES_EXPORTER knows `otlp` and `none` here; the rest is ignored"
        );
    }
    Ok(Guard { provider })
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.provider.take().map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "some traces were not exported");
        }
    }
}
