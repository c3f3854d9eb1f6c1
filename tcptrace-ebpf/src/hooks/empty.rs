//! A program that does nothing, on the state tracepoint: what `cargo xtask bench overhead` compares with.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn empty_btf(_: BtfTracePointContext) -> i32 {
    0
}
