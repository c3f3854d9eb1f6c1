//! State changes: `sock:inet_sock_set_state`, the one hook that tcptrace cannot do without.

use crate::{
    config,
    emit::Count,
    filter, member, offset,
    read::{Access, Btf, Raw, Read},
    required,
    sock::{self, RecordView},
};
use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use core::mem::MaybeUninit;
use tcptrace_common::{
    event::{
        Close, DEAD, DONE, ERROR_KNOWN, Established, Header, Kind, LastNumbers, NUMBERS_KNOWN,
        OwnedTransition, STALL_KNOWN, Task,
    },
    state::TcpState,
};

const IPPROTO_TCP: u16 = 6;

#[btf_tracepoint(function = "inet_sock_set_state")]
fn state_btf(ctx: BtfTracePointContext) -> i32 {
    on_state::<Btf>(ctx.arg::<*const u8>(0), ctx.arg::<i32>(1), ctx.arg::<i32>(2), None);
    0
}

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn state_raw(ctx: RawTracePointContext) -> i32 {
    on_state::<Raw>(ctx.arg::<u64>(0) as *const u8, ctx.arg::<u64>(1) as i32, ctx.arg::<u64>(2) as i32, None);
    0
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
fn state_classic(ctx: TracePointContext) -> u32 {
    let record = sock::record(&ctx);
    // SAFETY: offsets from the tracepoint's format (checked at load).
    unsafe {
        if record.get::<u16>(config!(records.set_state.protocol) as usize) == IPPROTO_TCP {
            on_state::<Raw>(
                record.get::<u64>(config!(records.set_state.sk) as usize) as *const u8,
                record.get(config!(records.set_state.old) as usize),
                record.get(config!(records.set_state.new) as usize),
                Some(&record),
            );
        }
    }
    0
}

#[inline(always)]
fn on_state<A: Access>(sk: *const u8, old: i32, new: i32, record: Option<&RecordView>) {
    // MPTCP and SCTP sockets come by here too. The classic record said so already.
    if record.is_none() && required!(A, A::at(sk), sk_protocol, u16) != IPPROTO_TCP {
        return;
    }
    let (from, to) = (old as u8, new as u8);
    let kind = kind(from, to);
    let mut head = sock::header::<A>(kind, sk, true);
    if let Some(record) = record {
        sock::take_record(&mut head.tuple, record, &config!(records.set_state));
    }
    head.pre.state = from;
    head.pre.to = to;
    if from == TcpState::Close.number() && to == TcpState::SynSent.number() {
        head.tuple.lport = sock::bound_port::<A>(sk);
    }

    // Up to 6.12 a child still carries the listener's addresses and cookie here; remote port 0 tells.
    let newborn = from == TcpState::Listen.number() && to == TcpState::SynRecv.number();
    let borrowed = newborn && head.tuple.rport == 0;
    if borrowed {
        head.pre.cookie = 0;
    }
    let incomplete = borrowed || head.tuple.lport == 0;
    if !filter::wants::<A>(&mut head, sk, true, incomplete) {
        return;
    }
    if !borrowed {
        make_cookie::<A>(&mut head, sk);
    }
    sock::stamp(&mut head);
    let Some(count) = Count::transition(kind, &head) else { return };
    match kind {
        Kind::Close => {
            head.tuple.bits |= sock::has_socket::<A>(sk);
            send_close::<A>(&count, head, sk);
        }
        Kind::OwnedTransition => send_owned::<A>(&count, head),
        Kind::Established => count.send(kind, established::<A>(head, sk)),
        _ => count.send(kind, head),
    }
}

/// The current task is the one that acts only at these transitions (docs/kernel.md).
#[inline(always)]
fn kind(from: u8, to: u8) -> Kind {
    const CLOSE: u8 = TcpState::Close.number();
    const LISTEN: u8 = TcpState::Listen.number();
    const SYN_SENT: u8 = TcpState::SynSent.number();
    const SYN_RECV: u8 = TcpState::SynRecv.number();
    const ESTABLISHED: u8 = TcpState::Established.number();
    const FIN_WAIT1: u8 = TcpState::FinWait1.number();
    const CLOSE_WAIT: u8 = TcpState::CloseWait.number();
    const LAST_ACK: u8 = TcpState::LastAck.number();
    if to == CLOSE && from != LISTEN && from != CLOSE {
        return Kind::Close;
    }
    if from == SYN_RECV && to == ESTABLISHED {
        return Kind::Established;
    }
    let owned = from == to
        || (from == CLOSE && (to == LISTEN || to == SYN_SENT))
        || (from == LISTEN && to == CLOSE)
        || (from == ESTABLISHED && to == FIN_WAIT1)
        || (from == CLOSE_WAIT && to == LAST_ACK);
    if owned { Kind::OwnedTransition } else { Kind::Transition }
}

/// Asks for the cookie at the first event, so that every later one, and sock_diag, carries the same.
#[inline(always)]
pub fn make_cookie<A: Access>(head: &mut Header, sk: *const u8) {
    if head.pre.cookie == 0 {
        head.pre.cookie = A::cookie(sk);
    }
}

#[inline(always)]
fn established<A: Access>(head: Header, sk: *const u8) -> Established {
    let Some(tcp) = A::tcp(sk) else { return Established { head, srtt_us: 0, total_retrans: 0 } };
    Established {
        head,
        srtt_us: member!(tcp, srtt_us, u32) >> 3,
        total_retrans: member!(tcp, total_retrans, u32),
    }
}

#[inline(always)]
fn send_owned<A: Access>(count: &Count, head: Header) {
    if let Some(mut entry) = count.reserve::<OwnedTransition>(Kind::OwnedTransition) {
        let slot: &mut MaybeUninit<OwnedTransition> = &mut entry;
        let slot = slot.as_mut_ptr();
        // SAFETY: reserved memory of exactly this type; every field is written.
        unsafe {
            (&raw mut (*slot).head).write(head);
            sock::task::<A>(&mut *(&raw mut (*slot).task).cast::<Task>());
        }
        count.submit(entry);
    }
}

#[inline(always)]
fn send_close<A: Access>(count: &Count, head: Header, sk: *const u8) {
    if let Some(mut entry) = count.reserve::<Close>(Kind::Close) {
        let slot: &mut MaybeUninit<Close> = &mut entry;
        let slot = slot.as_mut_ptr();
        // SAFETY: reserved memory of exactly this type; every field is written.
        unsafe {
            (&raw mut (*slot).head).write(head);
            let task = &mut *(&raw mut (*slot).task).cast::<Task>();
            // An orphan's end is the kernel's doing: whoever runs right now has nothing to do with it.
            if head.tuple.bits & DEAD == 0 {
                sock::task::<A>(task)
            } else {
                *task = sock::NOBODY
            }
            (&raw mut (*slot).numbers).write(last_numbers::<A>(sk, head.pre.state, head.tuple.bits));
        }
        count.submit(entry);
    }
}

#[inline(always)]
fn last_numbers<A: Access>(sk: *const u8, from: u8, bits: u8) -> LastNumbers {
    let sock = A::at(sk);
    let mut numbers = LastNumbers { min_rtt_us: u32::MAX, ..LastNumbers::default() };
    if A::TYPED || offset!(sk_err).is_some() {
        numbers.sk_err = required!(A, sock, sk_err, u32) as u16;
        numbers.sk_err_soft = required!(A, sock, sk_err_soft, u32) as u16;
        numbers.known |= ERROR_KNOWN;
    }
    let Some(tcp) = A::tcp(sk) else { return numbers };
    let Some(rtt_min) = offset!(rtt_min) else { return numbers };
    numbers.known |= NUMBERS_KNOWN;
    // A received FIN takes one sequence number: the kernel counts it as a byte, and nobody reads it.
    let fin = u32::from(bits & DONE != 0);
    numbers.bytes_sent = member!(tcp, bytes_sent, u64);
    numbers.bytes_acked = member!(tcp, bytes_acked, u64);
    numbers.bytes_received = member!(tcp, bytes_received, u64).saturating_sub(u64::from(fin));
    numbers.srtt_us = member!(tcp, srtt_us, u32) >> 3;
    // struct minmax: three samples of {time, value}; the first is the minimum of the window.
    // SAFETY: inside the member, whose size user space checked.
    numbers.min_rtt_us = unsafe { tcp.get(rtt_min + 4) };
    numbers.packets_out = member!(tcp, packets_out, u32);
    numbers.total_retrans = member!(tcp, total_retrans, u32);
    if numbers.total_retrans != 0 {
        numbers.bytes_retrans = member!(tcp, bytes_retrans, u64);
    }
    let last = from == TcpState::LastAck.number() || from == TcpState::Closing.number();
    let in_order = numbers.sk_err == 0 && (last || (from == TcpState::FinWait2.number() && fin != 0));
    if !in_order || numbers.packets_out != 0 {
        numbers.unsent = member!(tcp, write_seq, u32).wrapping_sub(member!(tcp, snd_nxt, u32));
        let unread = member!(tcp, rcv_nxt, u32).wrapping_sub(member!(tcp, copied_seq, u32));
        numbers.unread = unread.saturating_sub(fin);
        numbers.snd_wnd = member!(tcp, snd_wnd, u32);
        numbers.linger2 = member!(tcp, linger2, i32);
        numbers.retransmits = member!(tcp, icsk_retransmits, u8);
        numbers.backoff = member!(tcp, icsk_backoff, u8);
        numbers.probes_out = member!(tcp, icsk_probes_out, u8);
        numbers.known |= STALL_KNOWN;
    }
    numbers
}
