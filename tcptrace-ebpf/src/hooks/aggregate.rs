//! Adding up in the kernel instead of sending records: transitions by pair of states, times in states, segments sent
//! again, by port class. Only `tp_btf`: socket storage takes typed pointers, and kernels without types are not those that
//! have too much to count.

use super::retransmit::{Segment, segment};
use crate::{
    change::Change,
    config,
    config::opaque,
    filter::{self, About},
    maps,
    read::{Access, Btf, CommonCopy},
    required, sock,
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_SK_STORAGE_GET_F_CREATE},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use core::ptr;
use tcptrace_common::{
    aggregate::{
        BUCKETS, Cell, OTHER_CLASS, RESENT, RESENT_DATA, RESENT_FIN, RESENT_SYN, RESENT_SYN_ACK,
        RESENT_UNKNOWN, Since, bucket,
    },
    event::{DEAD, DONE, Kind, SEGMENT_KNOWN, UNDECIDED},
    state::{STATES, TcpState},
};

const IPPROTO_TCP: u16 = 6;
const CLOSE: u8 = TcpState::Close.number();
const SYN_SENT: u8 = TcpState::SynSent.number();
const SYN_RECV: u8 = TcpState::SynRecv.number();
const FIN_WAIT2: u8 = TcpState::FinWait2.number();

#[btf_tracepoint(function = "inet_sock_set_state")]
fn aggregate_btf(ctx: BtfTracePointContext) -> i32 {
    on_state(ctx.arg::<*const u8>(0), ctx.arg::<i32>(1) as u8, ctx.arg::<i32>(2) as u8);
    0
}

#[btf_tracepoint(function = "tcp_retransmit_skb")]
fn aggregate_resent(ctx: BtfTracePointContext) -> i32 {
    let err = if config!(retransmit_err) != 0 { ctx.arg::<i32>(2) } else { 0 };
    on_retransmit(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), err);
    0
}

#[btf_tracepoint(function = "tcp_retransmit_synack")]
fn aggregate_synack(ctx: BtfTracePointContext) -> i32 {
    let request = ctx.arg::<*const u8>(1);
    let mut head = sock::header::<Btf>(Kind::SynAck, request, false);
    if filter::wants::<Btf>(&mut head, request, false, false)
        && let Some(cell) = cell(class_of(head.tuple.lport, head.tuple.rport, false))
    {
        // SAFETY: the entry exists and is this CPU's.
        unsafe { (*cell).resent[RESENT_SYN_ACK] += 1 };
    }
    0
}

#[inline(always)]
fn on_state(sk: *const u8, from: u8, to: u8) {
    if required!(Btf, Btf::at(sk), sk_protocol, u16) != IPPROTO_TCP {
        return;
    }
    let common = Btf::common(sk, &mut CommonCopy::uninit());
    let change = Change::<Btf>::new(sk, common, (from, to), None);
    let about = About { kind: Kind::Transition, state: from, to, netns: change.netns };
    let Some(flags) = filter::flags::<Btf>(about, sk, true, || change.ends()) else { return };
    let undecided = flags & UNDECIDED != 0;
    let Some(since) = Kept::of(sk, to != CLOSE) else { return change.without_room(undecided) };
    // SAFETY: the value exists, and the socket's lock, which every caller of the tracepoint holds, keeps others off it.
    let mut known = unsafe { *since };
    if known.state != from {
        // Of another socket that had the address before, and whose end the filter kept from us, or from before such a gap.
        known = Since::NOTHING;
    }
    let class = if known.state != 0 { known.class } else { change.class() };
    // What the filter could not decide now is wanted if it was wanted before.
    let wanted = !undecided || (known.state != 0 && known.owed == 0);
    let now_ns = sock::now();
    if wanted && let Some(cell) = cell(class) {
        if known.owed != 0 {
            count(cell, known.owed, from);
        }
        count(cell, from, to);
        if change.ends_what_began(&known) {
            record(cell, from, now_ns.wrapping_sub(known.time_ns));
        }
    }
    if to == CLOSE {
        return Kept::forget(sk, since);
    }
    let time_ns = match from == to {
        true => known.time_ns,
        // Its SYN_RECV began with the request that it was made of.
        false if change.is_newborn() => 0,
        false => now_ns,
    };
    let owed = if wanted { 0 } else { from };
    // SAFETY: as above.
    unsafe { *since = Since { time_ns, state: to, owed, class, spare: [0; 5] } };
}

impl Change<'_, Btf> {
    #[inline(always)]
    fn class(&self) -> u8 {
        let mut lport = required!(Btf, self.common, skc_num, u16);
        if lport == 0 && self.to == CLOSE {
            // Released already, and nothing was seen of the socket before.
            lport = self.ends().0.lport;
        }
        let rport = u16::from_be(required!(Btf, self.common, skc_dport, u16));
        class_of(lport, rport, self.connects())
    }

    /// Whether the time in the state that is left is known, and ends here.
    #[inline(always)]
    fn ends_what_began(&self, known: &Since) -> bool {
        if known.time_ns == 0 || self.from == self.to || self.from == CLOSE {
            return false;
        }
        if self.from != FIN_WAIT2 || self.to != CLOSE {
            return true;
        }
        // An orphan that waits for the peer's FIN: a minisocket may take its place, and its FIN_WAIT2 go on unseen.
        sock::bits::<Btf>(self.common) & (DEAD | DONE) != DEAD
    }

    /// The transition alone is counted.
    #[inline(always)]
    fn without_room(&self, undecided: bool) {
        let Some(cell) = cell(self.class()) else { return };
        if !undecided {
            count(cell, self.from, self.to);
        }
        if self.to != CLOSE {
            // SAFETY: the entry exists and is this CPU's.
            unsafe { (*cell).unkept += 1 };
        }
    }
}

#[inline(always)]
fn on_retransmit(sk: *const u8, skb: *const u8, err: i32) {
    let mut head = sock::header::<Btf>(Kind::Retransmit, sk, true);
    if !filter::wants::<Btf>(&mut head, sk, true, false) {
        return;
    }
    // SAFETY: as in `on_state`.
    let known = Kept::of(sk, false).map(|since| unsafe { *since }).filter(|since| since.state != 0);
    let class = match known {
        Some(since) => since.class,
        None => class_of(head.tuple.lport, head.tuple.rport, head.pre.state == SYN_SENT),
    };
    let Some(cell) = cell(class) else { return };
    let sent = segment::<Btf>(skb);
    let segments = if sent.segments == 0 { 1 } else { u64::from(sent.segments) };
    // SAFETY: the entry exists and is this CPU's; the mask keeps the index inside.
    unsafe {
        if err != 0 {
            (*cell).failed += segments;
        } else {
            let kind = opaque(kind(&sent, head.pre.state)) & (RESENT - 1);
            *(&raw mut (*cell).resent).cast::<u64>().add(kind) += segments;
        }
    }
}

/// As user space tells them apart (`decode.rs`).
#[inline(always)]
fn kind(sent: &Segment, state: u8) -> usize {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let (syn, fin) = (sent.tcp_flags & SYN != 0, sent.tcp_flags & FIN != 0);
    if sent.known & SEGMENT_KNOWN == 0 {
        return if state == SYN_SENT { RESENT_SYN } else { RESENT_UNKNOWN };
    }
    if syn {
        return if sent.tcp_flags & ACK != 0 || state == SYN_RECV { RESENT_SYN_ACK } else { RESENT_SYN };
    }
    if fin && sent.end_seq.wrapping_sub(sent.seq) <= 1 { RESENT_FIN } else { RESENT_DATA }
}

/// The class of the service's port: of who connects the remote one, else the local one if it has a class of its own.
#[inline(always)]
fn class_of(lport: u16, rport: u16, connects: bool) -> u8 {
    let of = |port: u16| maps::PORT_CLASSES.get(u32::from(port)).copied().unwrap_or(OTHER_CLASS);
    let local = if connects { OTHER_CLASS } else { of(lport) };
    if local != OTHER_CLASS { local } else { of(rport) }
}

#[inline(always)]
fn cell(class: u8) -> Option<*mut Cell> {
    maps::CELLS.get_ptr_mut(u32::from(class))
}

#[inline(always)]
fn count(cell: *mut Cell, from: u8, to: u8) {
    let at = (from as usize * STATES + to as usize) & (STATES * STATES - 1);
    // SAFETY: the entry exists and is this CPU's; the mask keeps the index inside.
    unsafe { *(&raw mut (*cell).matrix).cast::<u64>().add(at) += 1 };
}

#[inline(always)]
fn record(cell: *mut Cell, state: u8, ns: u64) {
    let state = state as usize & (STATES - 1);
    let at = (state * BUCKETS + bucket(ns)) & (STATES * BUCKETS - 1);
    // SAFETY: as above.
    unsafe {
        *(&raw mut (*cell).dwell).cast::<u64>().add(at) += 1;
        *(&raw mut (*cell).sum_ns).cast::<u64>().add(state) += ns;
    }
}

/// Where the beginning of a socket's state is kept: in the socket itself, or beside it by its address.
struct Kept;

impl Kept {
    /// What is kept of this socket; `make`: room is made where there is nothing yet.
    #[inline(always)]
    fn of(sk: *const u8, make: bool) -> Option<*mut Since> {
        if config!(socket_storage) != 0 {
            let flags = if make { BPF_SK_STORAGE_GET_F_CREATE } else { 0 };
            let map = ptr::from_ref(&maps::SOCKET_BEGINNINGS).cast_mut().cast();
            // SAFETY: the verifier accepts only a socket pointer here; what is made begins with zeros.
            let since =
                unsafe { bpf_sk_storage_get(map, sk.cast_mut().cast(), ptr::null_mut(), u64::from(flags)) };
            return if since.is_null() { None } else { Some(since.cast()) };
        }
        let address = sk as u64;
        let there = maps::BEGINNINGS.get_ptr_mut(address);
        if there.is_some() || !make {
            return there;
        }
        // Full, it forgets what was not used for longest.
        maps::BEGINNINGS.insert(address, Since::NOTHING, u64::from(BPF_ANY)).ok()?;
        maps::BEGINNINGS.get_ptr_mut(address)
    }

    /// The socket is closed: what comes after it is another connection. What is in the socket goes with it.
    #[inline(always)]
    fn forget(sk: *const u8, since: *mut Since) {
        if config!(socket_storage) != 0 {
            // SAFETY: as in `on_state`.
            unsafe { *since = Since::NOTHING };
        } else {
            let _ = maps::BEGINNINGS.remove(sk as u64);
        }
    }
}
