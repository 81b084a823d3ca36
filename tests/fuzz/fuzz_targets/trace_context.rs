#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| papo_telemetry::fuzzing::trace_context(data));
