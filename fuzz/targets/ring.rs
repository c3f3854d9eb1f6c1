//! The decoder of the ring's records and the ledger behind it, over any bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: tcptrace_fuzz::write_seeds(tcptrace_fuzz::ring::seeds),
    |input: &[u8]| tcptrace_fuzz::ring::run(input)
);
