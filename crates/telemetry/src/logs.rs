//! Log lines on standard error: text for people, JSON for machines.

use std::{
    io::{self, IsTerminal},
    str::FromStr,
};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry::LookupSpan};

use crate::Error;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line each, in colour on a terminal.
    Text,
    /// One JSON object each.
    Json,
}

/// What [`LogFormat`] refuses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a log format is `text` or `json`")]
pub struct UnknownLogFormat;

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, UnknownLogFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownLogFormat),
        }
    }
}

impl Default for LogFormat {
    fn default() -> Self {
        if io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

pub(crate) fn filter(directives: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(directives).map_err(|source| Error::LogFilter {
        filter: directives.to_owned(),
        source,
    })
}

/// Whether a text is a log filter of levels and targets: `info`, or `papo_server=debug,warn`.
///
/// The syntax for spans and fields is not part of it: a field can be compared with a regular expression, and who sets the filter could then choose
/// how much the reader of it computes.
pub fn is_log_filter(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_:=,-".contains(c);
    !text.is_empty() && text.chars().all(is_plain) && filter(text).is_ok()
}

pub(crate) fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => layer.with_ansi(colour()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// See <https://no-color.org>.
fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_is_text_or_json() {
        assert_eq!("text".parse(), Ok(LogFormat::Text));
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("xml".parse::<LogFormat>(), Err(UnknownLogFormat));
    }

    #[test]
    fn plain_filters_have_levels_and_targets_only() {
        for text in [
            "info",
            "papo_server=debug,warn",
            "papo_server::socket=trace,off",
        ] {
            assert!(is_log_filter(text), "{text}");
        }
        for text in [
            "",
            "papo=loud",
            "info, warn",
            "[span]=info",
            "[s{f=(a+)+}]=info",
        ] {
            assert!(!is_log_filter(text), "{text}");
        }
    }

    #[test]
    fn invalid_filter_is_named_in_the_error() {
        let error = filter("papo=loud").expect_err("no such level");
        assert!(error.to_string().contains("`papo=loud`"), "{error}");
    }
}
