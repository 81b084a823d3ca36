#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| papo_server::fuzzing::access_token(data));
