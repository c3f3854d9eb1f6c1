//! State changes: `sock:inet_sock_set_state`, the one hook that tcptrace cannot do without.

use crate::{
    change::Change,
    config,
    emit::Count,
    filter::{self, About},
    member, offset,
    read::{Access, Btf, CommonCopy, Raw, Read},
    required,
    sock::{self, RecordView},
};
use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use tcptrace_common::{
    event::{
        Close, DEAD, DONE, ERROR_KNOWN, Established, Header, Kind, LastNumbers, NUMBERS_KNOWN,
        OwnedTransition, STALL_KNOWN, Transition,
    },
    state::{STATES, TcpState},
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
    let mut room = CommonCopy::uninit();
    let common = A::common(sk, &mut room);
    let change = Change::<A>::new(sk, common, (old as u8, new as u8), record);
    let kind = kind(change.from, change.to);
    let about = About { kind, state: change.from, to: change.to, netns: change.netns };
    let Some(flags) = filter::flags::<A>(about, sk, true, || change.ends()) else { return };
    let Some(count) = Count::transition(kind, flags, change.from, change.to) else { return };
    match kind {
        Kind::Close => count.send_with::<Close>(kind, |slot| {
            // SAFETY: room for one record; every field is written.
            unsafe {
                let bits = change.write(&raw mut (*slot).head, kind, flags);
                (*slot).head.tuple.bits = bits | sock::has_socket::<A>(sk);
                let task = &mut (*slot).task;
                // An orphan's end is the kernel's doing: whoever runs right now has nothing to do with it.
                if bits & DEAD == 0 {
                    sock::task::<A>(task)
                } else {
                    *task = sock::NOBODY
                }
                (*slot).numbers = LastNumbers { min_rtt_us: u32::MAX, ..LastNumbers::default() };
                last_numbers::<A>(&mut (*slot).numbers, sk, change.from, bits);
            }
        }),
        Kind::OwnedTransition => count.send_with::<OwnedTransition>(kind, |slot| {
            // SAFETY: as above.
            unsafe {
                change.write(&raw mut (*slot).head, kind, flags);
                sock::task::<A>(&mut (*slot).task);
            }
        }),
        Kind::Established => count.send_with::<Established>(kind, |slot| {
            // SAFETY: as above.
            unsafe {
                change.write(&raw mut (*slot).head, kind, flags);
                ((*slot).srtt_us, (*slot).total_retrans) = handshake::<A>(sk);
            }
        }),
        _ => count.send_with::<Transition>(kind, |slot| {
            // SAFETY: as above.
            unsafe { change.write(slot, kind, flags) };
        }),
    }
}

impl<A: Access> Change<'_, A> {
    /// Writes all that every record of a change has, and says the bits.
    ///
    /// # Safety
    /// There is room for it.
    #[inline(always)]
    unsafe fn write(&self, head: *mut Header, kind: Kind, flags: u8) -> u8 {
        // SAFETY: the caller's.
        unsafe {
            (*head).pre.time_ns = sock::now();
            (*head).pre.kind = kind as u8;
            (*head).pre.flags = flags;
            (*head).pre.state = self.from;
            (*head).pre.to = self.to;
            (*head).pre.netns = self.netns;
            (*head).pre.sock = self.sk as u64;
            let borrowed = self.write_ends(&raw mut (*head).tuple);
            (*head).pre.cookie = if borrowed { 0 } else { self.cookie() };
            (*head).tuple.bits
        }
    }

    /// Made at the first event, so that every later one, and sock_diag, carries the same.
    #[inline(always)]
    fn cookie(&self) -> u64 {
        match required!(A, self.common, skc_cookie, u64) {
            0 => A::cookie(self.sk),
            cookie => cookie,
        }
    }
}

/// What is sent of each change: a look into a table costs less than the comparisons that it was made by.
static KINDS: [Kind; STATES * STATES] = {
    let mut kinds = [Kind::Transition; STATES * STATES];
    let mut change = 0;
    while change < kinds.len() {
        kinds[change] = kind_of((change / STATES) as u8, (change % STATES) as u8);
        change += 1;
    }
    kinds
};

#[inline(always)]
fn kind(from: u8, to: u8) -> Kind {
    KINDS[(from as usize * STATES + to as usize) % KINDS.len()]
}

/// The current task is the one that acts only at these transitions (docs/kernel.md).
const fn kind_of(from: u8, to: u8) -> Kind {
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

/// The round-trip time of the SYN-ACK in microseconds, and how often it was repeated.
#[inline(always)]
fn handshake<A: Access>(sk: *const u8) -> (u32, u32) {
    A::tcp(sk).map_or((0, 0), |tcp| (member!(tcp, srtt_us, u32) >> 3, member!(tcp, total_retrans, u32)))
}

#[inline(always)]
fn last_numbers<A: Access>(numbers: &mut LastNumbers, sk: *const u8, from: u8, bits: u8) {
    let sock = A::at(sk);
    if A::TYPED || offset!(sk_err).is_some() {
        numbers.sk_err = required!(A, sock, sk_err, u32) as u16;
        numbers.sk_err_soft = required!(A, sock, sk_err_soft, u32) as u16;
        numbers.known |= ERROR_KNOWN;
    }
    let Some(tcp) = A::tcp(sk) else { return };
    let Some(rtt_min) = offset!(rtt_min) else { return };
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
}
