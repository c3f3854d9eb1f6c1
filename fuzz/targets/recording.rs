//! The reader of recordings, over any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: tcptrace_fuzz::write_seeds(tcptrace_fuzz::recording::seeds),
    |input: &[u8]| tcptrace_fuzz::recording::run(input)
);
