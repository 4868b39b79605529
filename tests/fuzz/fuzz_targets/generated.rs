//! Generated scenarios, each run as the fuzzer says; the library tells how to start it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| blockyard_fuzz::check(bytes));
