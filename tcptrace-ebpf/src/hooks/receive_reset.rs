//! RST received: `tcp:tcp_receive_reset`. It also fires when data reaches an orphaned FIN_WAIT1 or FIN_WAIT2
//! socket and no RST came (docs/kernel.md); user space tells them apart by the RST that then goes out.

use super::state::make_cookie;
use crate::{
    config,
    emit::count,
    ends, filter,
    read::{Access, Btf, Raw, Read},
    sock::{self, RecordView},
};
use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tcptrace_common::event::{Carrier, Kind, REASON_UNKNOWN, RECEIVED, Reset};

#[btf_tracepoint(function = "tcp_receive_reset")]
fn receive_reset_btf(ctx: BtfTracePointContext) -> i32 {
    on_reset::<Btf>(ctx.arg::<*const u8>(0), None);
    0
}

#[raw_tracepoint(tracepoint = "tcp_receive_reset")]
fn receive_reset_raw(ctx: RawTracePointContext) -> i32 {
    on_reset::<Raw>(ctx.arg::<u64>(0) as *const u8, None);
    0
}

#[tracepoint(category = "tcp", name = "tcp_receive_reset")]
fn receive_reset_classic(ctx: TracePointContext) -> u32 {
    let record = sock::record(&ctx);
    // SAFETY: offset from the tracepoint's format (checked at load).
    let sk = unsafe { record.get::<u64>(config!(records.receive_reset.sk) as usize) };
    on_reset::<Raw>(sk as *const u8, Some(&record));
    0
}

#[inline(always)]
fn on_reset<A: Access>(sk: *const u8, record: Option<&RecordView>) {
    let mut head = sock::header::<A>(Kind::Reset, sk, true);
    if let Some(record) = record {
        sock::take_record(&mut head.tuple, record, &ends!(receive_reset));
    }
    if !filter::wants::<A>(&mut head, sk, true, false) {
        return;
    }
    make_cookie::<A>(&mut head, sk);
    sock::stamp(&mut head);
    let Some(count) = count(Kind::Reset) else { return };
    count.send(
        Kind::Reset,
        Reset {
            head,
            reason: REASON_UNKNOWN,
            seq: 0,
            direction: RECEIVED,
            carrier: Carrier::Full as u8,
            tcp_flags: 0,
            spare: [0; 5],
        },
    );
}
