//! Telemetry as a whole process sees it: variables in, log lines and exported traces out.

mod collector;
mod export;
