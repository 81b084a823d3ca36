#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| papo_operator::fuzzing::live_object(data));
