//! Every TCP socket of a namespace (`iter/tcp`): the options, stamps and counts that deadlines depend on and sock_diag does
//! not show. Not a hook: it runs when user space reads it, and is loaded by itself, when somebody asks.
//!
//! A server has many healthy connections and few that are stuck. So of the states in `detail_stalled` (ESTABLISHED,
//! CLOSE_WAIT) only sockets that retransmit or probe are shown; of those in `detail_states` all. Minisockets never are:
//! they have nothing that sock_diag does not show.

use crate::{
    config, member,
    read::{Access, Btf, Direct},
};
use aya_ebpf::helpers::generated::{
    bpf_jiffies64, bpf_ktime_get_ns, bpf_seq_write, bpf_skc_to_tcp_request_sock,
};
use core::ptr;
use tcptrace_common::{
    detail::{CLOCK, Detail, REQUEST, SOCKET, TcpContext},
    state::TcpState,
};

// aya has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn tcp_sockets(ctx: *const TcpContext) -> i32 {
    // SAFETY: the kernel calls it with such a context. Volatile: each load stays one instruction of its own, as the
    // verifier demands of accesses to a context.
    let (meta, sk) = unsafe {
        (
            ptr::read_volatile(&raw const (*ctx).meta) as *const u8,
            ptr::read_volatile(&raw const (*ctx).sk_common) as *const u8,
        )
    };
    if sk.is_null() {
        on_end(meta);
    } else {
        on_socket(meta, sk);
    }
    // Anything else would end the reading early.
    0
}

/// Called once more at the end: the stamps of all sockets lie before this moment.
#[inline(always)]
fn on_end(meta: *const u8) {
    // SAFETY: no arguments.
    let (cookie, flags) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
    write(meta, &Detail { kind: CLOCK, cookie, flags, ..Detail::ZERO });
}

#[inline(always)]
fn on_socket(meta: *const u8, sk: *const u8) {
    let state = member!(Btf::at(sk), skc_state, u8);
    let bit = 1u64.wrapping_shl(u32::from(state));
    let cookie = member!(Btf::at(sk), skc_cookie, u64);
    // Without a cookie nobody could say which socket this is; a dump by sock_diag gives one to each.
    if cookie == 0 || (config!(detail_states) | config!(detail_stalled)) & bit == 0 {
        return;
    }
    if state == TcpState::NewSynRecv.number() {
        on_request(meta, sk, cookie, state);
    } else if let Some(tcp) = Btf::tcp(sk) {
        on_full(meta, tcp, cookie, state, config!(detail_states) & bit != 0);
    }
}

#[inline(always)]
fn on_request(meta: *const u8, sk: *const u8, cookie: u64, state: u8) {
    // SAFETY: the verifier accepts only a socket pointer here.
    let request = unsafe { bpf_skc_to_tcp_request_sock(sk.cast_mut().cast()) };
    if request.is_null() {
        return;
    }
    let request = Btf::at(request.cast_const().cast());
    let record = Detail {
        kind: REQUEST,
        state,
        cookie,
        num_retrans: member!(request, req_num_retrans, u8),
        num_timeout: member!(request, req_num_timeout, u8) >> 1,
        acked: member!(request, req_acked, u8),
        ..Detail::ZERO
    };
    write(meta, &record);
}

#[inline(always)]
fn on_full(meta: *const u8, tcp: Direct, cookie: u64, state: u8, always: bool) {
    let retransmits = member!(tcp, icsk_retransmits, u8);
    let backoff = member!(tcp, icsk_backoff, u8);
    let probes_out = member!(tcp, icsk_probes_out, u8);
    if !always && retransmits | backoff | probes_out == 0 {
        return;
    }
    let record = Detail {
        cookie,
        flags: member!(tcp, skc_flags, u64),
        user_timeout: member!(tcp, icsk_user_timeout, u32),
        linger2: member!(tcp, linger2, i32),
        keepalive_time: member!(tcp, keepalive_time, u32),
        keepalive_intvl: member!(tcp, keepalive_intvl, u32),
        rto: member!(tcp, icsk_rto, u32),
        rto_max: member!(tcp, icsk_rto_max, u32),
        retrans_stamp: member!(tcp, retrans_stamp, u32),
        probes_tstamp: member!(tcp, icsk_probes_tstamp, u32),
        snd_wnd: member!(tcp, snd_wnd, u32),
        packets_out: member!(tcp, packets_out, u32),
        write_seq: member!(tcp, write_seq, u32),
        snd_una: member!(tcp, snd_una, u32),
        snd_nxt: member!(tcp, snd_nxt, u32),
        total_retrans: member!(tcp, total_retrans, u32),
        ack_backlog: member!(tcp, sk_ack_backlog, u32),
        max_ack_backlog: member!(tcp, sk_max_ack_backlog, u32),
        qlen: member!(tcp, queue_qlen, u32),
        young: member!(tcp, queue_young, u32),
        drops: member!(tcp, sk_drops, u32),
        err: member!(tcp, sk_err, u32),
        err_soft: member!(tcp, sk_err_soft, u32),
        kind: SOCKET,
        state,
        syn_retries: member!(tcp, icsk_syn_retries, u8),
        keepalive_probes: member!(tcp, keepalive_probes, u8),
        retransmits,
        backoff,
        probes_out,
        defer_accept: member!(tcp, queue_defer_accept, u8),
        tcp_usec_ts: member!(tcp, tcp_usec_ts, u8),
        ..Detail::ZERO
    };
    write(meta, &record);
}

#[inline(always)]
fn write(meta: *const u8, record: &Detail) {
    let seq = member!(Btf::at(meta), iter_seq, *const u8);
    // When the kernel's buffer is full this fails, and the kernel calls again for the same socket with an empty one.
    // SAFETY: the record is ours and that long, without padding; the verifier accepts only a seq_file pointer.
    unsafe { bpf_seq_write(seq.cast_mut().cast(), ptr::from_ref(record).cast(), size_of::<Detail>() as u32) };
}
