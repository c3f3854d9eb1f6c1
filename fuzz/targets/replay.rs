//! A replay of any frames.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: tcptrace_fuzz::write_seeds(tcptrace_fuzz::replay::seeds),
    |input: &[u8]| tcptrace_fuzz::replay::run(input)
);
