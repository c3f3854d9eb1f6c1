//! Retransmitted segments: `tcp:tcp_retransmit_skb`. Every segment that left again, tail loss probes included;
//! from 6.17 on also the ones that could not leave, with their errno.

use super::state::make_cookie;
use crate::{
    config,
    emit::count,
    ends, filter, member, offset,
    read::{Access, Btf, Raw, Read},
    sock::{self, RecordView},
};
use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tcptrace_common::{
    event::{ERR_UNKNOWN, Header, Kind, Retransmit, SEGMENT_KNOWN, UNKNOWN8},
    layout::NO_FIELD,
};

#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn retransmit_btf(ctx: BtfTracePointContext) -> i32 {
    let err = if config!(retransmit_err) != 0 { ctx.arg::<i32>(2) } else { ERR_UNKNOWN };
    on_retransmit::<Btf>(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), err, None);
    0
}

#[raw_tracepoint(tracepoint = "tcp_retransmit_skb")]
fn retransmit_raw(ctx: RawTracePointContext) -> i32 {
    let err = if config!(retransmit_err) != 0 { ctx.arg::<u64>(2) as i32 } else { ERR_UNKNOWN };
    on_retransmit::<Raw>(ctx.arg::<u64>(0) as *const u8, ctx.arg::<u64>(1) as *const u8, err, None);
    0
}

#[tracepoint(category = "tcp", name = "tcp_retransmit_skb")]
fn retransmit_classic(ctx: TracePointContext) -> u32 {
    let record = sock::record(&ctx);
    // SAFETY: offsets from the tracepoint's format (checked at load).
    unsafe {
        let sk = record.get::<u64>(config!(records.retransmit_skb.sk) as usize);
        let skb = record.get::<u64>(config!(records.retransmit_skb.skb) as usize);
        let err = match config!(records.retransmit_skb.detail) as u16 {
            NO_FIELD => ERR_UNKNOWN,
            at => record.get(at as usize),
        };
        on_retransmit::<Raw>(sk as *const u8, skb as *const u8, err, Some(&record));
    }
    0
}

#[inline(always)]
fn on_retransmit<A: Access>(sk: *const u8, skb: *const u8, err: i32, record: Option<&RecordView>) {
    let mut head = sock::header::<A>(Kind::Retransmit, sk, true);
    if let Some(record) = record {
        sock::take_record(&mut head.tuple, record, &ends!(retransmit_skb));
        // SAFETY: offset from the tracepoint's format (checked at load).
        head.pre.state = unsafe { record.get::<u32>(config!(records.retransmit_skb.state) as usize) } as u8;
    }
    if !filter::wants::<A>(&mut head, sk, true, false) {
        return;
    }
    make_cookie::<A>(&mut head, sk);
    sock::stamp(&mut head);
    let Some(count) = count(Kind::Retransmit) else { return };
    count.send(Kind::Retransmit, describe::<A>(head, sk, segment::<A>(skb), err));
}

/// The part of a segment's control block that a retransmission is told by.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Segment {
    pub seq: u32,
    pub end_seq: u32,
    pub segments: u16,
    pub tcp_flags: u8,
    pub known: u8,
}

/// Reads the control block. The segment has no TCP header of its own while it waits in the queue.
#[inline(always)]
pub fn segment<A: Access>(skb: *const u8) -> Segment {
    let mut segment = Segment { seq: 0, end_seq: 0, segments: 0, tcp_flags: 0, known: 0 };
    let (Some(cb), Some(seq), Some(end_seq), Some(segs), Some(flags)) =
        (offset!(skb_cb), offset!(cb_seq), offset!(cb_end_seq), offset!(cb_segs), offset!(cb_flags))
    else {
        return segment;
    };
    let skb = A::at(skb);
    // SAFETY: `tcp_skb_cb` lies in `cb`; user space checked that each member fits.
    unsafe {
        segment.seq = skb.get(cb + seq);
        segment.end_seq = skb.get(cb + end_seq);
        segment.segments = skb.get(cb + segs);
        segment.tcp_flags = skb.get(cb + flags);
        segment.known = SEGMENT_KNOWN;
    }
    segment
}

/// Joins the segment with what the socket says of the current stall.
#[inline(always)]
pub fn describe<A: Access>(head: Header, sk: *const u8, segment: Segment, err: i32) -> Retransmit {
    let mut record = Retransmit {
        head,
        seq: segment.seq,
        end_seq: segment.end_seq,
        snd_una: 0,
        err,
        total_retrans: 0,
        packets_out: 0,
        segments: segment.segments,
        tcp_flags: segment.tcp_flags,
        ca_state: UNKNOWN8,
        pending: UNKNOWN8,
        retransmits: 0,
        backoff: 0,
        known: segment.known,
    };
    if offset!(total_retrans).is_none() {
        return record;
    }
    if let Some(tcp) = A::tcp(sk) {
        record.total_retrans = member!(tcp, total_retrans, u32);
        record.snd_una = member!(tcp, snd_una, u32);
        record.packets_out = member!(tcp, packets_out, u32);
        if offset!(icsk_ca_state).is_some() {
            record.ca_state = member!(tcp, icsk_ca_state, u8) & 0x1f;
        }
        if offset!(icsk_pending).is_some() {
            record.pending = member!(tcp, icsk_pending, u8);
        }
        record.retransmits = member!(tcp, icsk_retransmits, u8);
        record.backoff = member!(tcp, icsk_backoff, u8);
    }
    record
}
