//! Repeated SYN-ACKs: `tcp:tcp_retransmit_synack`, the only tracepoint that shows a half-open connection.

use super::state::make_cookie;
use crate::{
    config,
    emit::count,
    ends, filter, member,
    read::{Access, Btf, Raw, Read},
    sock::{self, RecordView},
};
use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tcptrace_common::{
    event::{Kind, SynAck, UNKNOWN8},
    state::TcpState,
};

#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn synack_btf(ctx: BtfTracePointContext) -> i32 {
    on_synack::<Btf>(ctx.arg::<*const u8>(1), None);
    0
}

#[raw_tracepoint(tracepoint = "tcp_retransmit_synack")]
fn synack_raw(ctx: RawTracePointContext) -> i32 {
    on_synack::<Raw>(ctx.arg::<u64>(1) as *const u8, None);
    0
}

#[tracepoint(category = "tcp", name = "tcp_retransmit_synack")]
fn synack_classic(ctx: TracePointContext) -> u32 {
    let record = sock::record(&ctx);
    // SAFETY: offset from the tracepoint's format (checked at load).
    let req = unsafe { record.get::<u64>(config!(records.retransmit_synack.req) as usize) };
    on_synack::<Raw>(req as *const u8, Some(&record));
    0
}

#[inline(always)]
fn on_synack<A: Access>(req: *const u8, record: Option<&RecordView>) {
    let mut head = sock::header::<A>(Kind::SynAck, req, false);
    head.pre.state = TcpState::NewSynRecv.number();
    if let Some(record) = record {
        sock::take_record(&mut head.tuple, record, &ends!(retransmit_synack));
    }
    if !filter::wants::<A>(&mut head, req, false, false) {
        return;
    }
    // The child inherits the request's cookie: from here on one identity for the whole life.
    make_cookie::<A>(&mut head, req);
    let known = crate::offset!(req_num_retrans).is_some();
    let request = A::at(req);
    sock::stamp(&mut head);
    let Some(count) = count(Kind::SynAck) else { return };
    count.send(
        Kind::SynAck,
        SynAck {
            head,
            num_retrans: if known { member!(request, req_num_retrans, u8) } else { UNKNOWN8 },
            num_timeout: if known { member!(request, req_num_timeout, u8) >> 1 } else { UNKNOWN8 },
            spare: [0; 6],
            first_us: A::request(req).map_or(0, |request| member!(request, snt_synack, u64)),
        },
    );
}
