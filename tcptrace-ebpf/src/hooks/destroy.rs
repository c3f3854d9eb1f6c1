//! The end of a full socket: `tcp:tcp_destroy_sock`. Where there is no cookie, this is what says that the address may
//! name another connection from now on. Where there is one, it ends the flows whose CLOSE was lost.

use crate::{
    config,
    emit::count,
    ends, filter,
    read::{Access, Btf, Raw, Read},
    ring,
    sock::{self, RecordView},
};
use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tcptrace_common::event::Kind;

#[btf_tracepoint(function = "tcp_destroy_sock")]
fn destroy_btf(ctx: BtfTracePointContext) -> i32 {
    on_destroy::<Btf>(ctx.arg::<*const u8>(0), None);
    0
}

#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
fn destroy_raw(ctx: RawTracePointContext) -> i32 {
    on_destroy::<Raw>(ctx.arg::<u64>(0) as *const u8, None);
    0
}

#[tracepoint(category = "tcp", name = "tcp_destroy_sock")]
fn destroy_classic(ctx: TracePointContext) -> u32 {
    let record = sock::record(&ctx);
    // SAFETY: offset from the tracepoint's format (checked at load).
    let sk = unsafe { record.get::<u64>(config!(records.destroy_sock.sk) as usize) };
    on_destroy::<Raw>(sk as *const u8, Some(&record));
    0
}

#[inline(always)]
fn on_destroy<A: Access>(sk: *const u8, record: Option<&RecordView>) {
    // With cookies, and as long as nothing is lost or hidden by a state filter, every flow has ended at its CLOSE already: a fifth of all records
    // would say nothing.
    if config!(cookie_helper) != 0 && config!(filter.states) == 0 && !ring::is_lossy() {
        return;
    }
    let mut head = sock::header::<A>(Kind::Destroy, sk, true);
    if let Some(record) = record {
        sock::take_record(&mut head.tuple, record, &ends!(destroy_sock));
    }
    // A disconnect before has wiped the remote port (docs/kernel.md): user space knows the flow, let it decide.
    let wiped = head.tuple.lport == 0 || head.tuple.rport == 0;
    if !filter::wants::<A>(&mut head, sk, true, wiped) {
        return;
    }
    sock::stamp(&mut head);
    let Some(count) = count(Kind::Destroy) else { return };
    count.send(Kind::Destroy, head.pre);
}
