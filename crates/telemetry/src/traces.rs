//! Traces to an OTLP collector over HTTP: when, where and what.
//!
//! Endpoint, headers, time-outs, sampling and batching follow the variables of the OpenTelemetry specification, which
//! the SDK reads itself. Only *whether* to export is decided here: off unless the environment asks for it.

use opentelemetry::{Key, KeyValue, global, trace::TracerProvider};
use opentelemetry_otlp::{
    ExporterBuildError, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, SpanExporter, WithHttpConfig,
};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

const SERVICE_NAME: Key = Key::from_static_str("service.name");

/// Crates that do the exporting: tracing them would make every export the cause of the next.
const EXPORTERS_OWN: [&str; 5] = ["opentelemetry", "reqwest", "hyper", "h2", "rustls"];

/// What the environment asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) export: bool,
    /// An exporter that was asked for and that this program does not have.
    pub(crate) unsupported: Option<String>,
}

/// Reads the variables of the specification's "General SDK Configuration" and "OTLP Exporter Configuration".
///
/// The specification exports by default; Papo does so only once it knows where to, or is asked to.
pub(crate) fn plan(variable: impl Fn(&str) -> Option<String>) -> Plan {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let disabled =
        set("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
    let endpoint = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"))
        .is_some();

    let exporters = set("OTEL_TRACES_EXPORTER").unwrap_or_default();
    let (known, unknown): (Vec<&str>, Vec<&str>) = exporters
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .partition(|name| matches!(*name, "otlp" | "none"));
    // As the specification has it: a value that is not known is as good as none, but said aloud.
    let asked = if known.is_empty() {
        endpoint
    } else {
        known.contains(&"otlp")
    };
    Plan {
        export: asked && !disabled,
        unsupported: unknown.first().map(|name| (*name).to_owned()),
    }
}

/// Starts the exporter and makes W3C trace context the process's way to pass a trace on.
pub(crate) fn provider(
    service_name: &'static str,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = exporter()?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource(service_name))
        .build())
}

fn exporter() -> Result<SpanExporter, ExporterBuildError> {
    let builder = || SpanExporter::builder().with_http();
    // An image with nothing but the binary has no certificate authorities, and then the SDK's own client is refused
    // even for the http:// collector next door. A client that trusts nobody reaches that one just as well.
    builder().build().or_else(|error| {
        let client = client_without_authorities().ok_or(error)?;
        builder().with_http_client(client).build()
    })
}

fn client_without_authorities() -> Option<reqwest::blocking::Client> {
    let build = || {
        reqwest::blocking::Client::builder()
            .tls_certs_only([])
            .timeout(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT)
            .build()
    };
    // On a thread of its own: a blocking client may not be made inside tokio.
    std::thread::spawn(build).join().ok()?.ok()
}

fn resource(service_name: &'static str) -> Resource {
    // The builder lets what is set in code win over the environment, which is the wrong way round for a default.
    let from_environment = Resource::builder().build();
    let named = from_environment
        .get(&SERVICE_NAME)
        .is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named {
        builder.build()
    } else {
        builder.with_service_name(service_name).build()
    }
}

pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("papo"))
        .with_filter(filter_fn(is_traced))
}

fn is_traced(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    *metadata.level() <= Level::INFO && !EXPORTERS_OWN.iter().any(|name| target.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(variables: &[(&str, &str)]) -> Plan {
        plan(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_exported_unless_the_environment_asks_for_it() {
        assert!(!planned(&[]).export);
        assert!(!planned(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).export);
        assert!(!planned(&[("OTEL_SERVICE_NAME", "x")]).export);
    }

    #[test]
    fn endpoint_or_exporter_name_enables_export() {
        for variable in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            (
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "http://collector:4318/v1/traces",
            ),
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_TRACES_EXPORTER", "console, otlp"),
        ] {
            assert!(planned(&[variable]).export, "{variable:?}");
        }
    }

    #[test]
    fn none_and_the_general_switch_win_over_an_endpoint() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(!planned(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).export);
        assert!(!planned(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).export);
        assert!(planned(&[endpoint, ("OTEL_SDK_DISABLED", "false")]).export);
    }

    #[test]
    fn unknown_exporter_is_reported_and_ignored() {
        let zipkin = ("OTEL_TRACES_EXPORTER", "zipkin");
        assert_eq!(
            planned(&[zipkin]),
            Plan {
                export: false,
                unsupported: Some("zipkin".to_owned())
            }
        );
        assert!(planned(&[zipkin, ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")]).export);
    }
}
