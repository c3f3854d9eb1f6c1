//! RST sent: `tcp:tcp_send_reset`. From 6.10 on also for packets that meet no socket, a request or a timewait
//! minisocket, and with the kernel's reason.

use super::state::make_cookie;
use crate::{
    config,
    emit::count,
    ends, filter, member, offset,
    read::{Access, Btf, Probed, Raw, Read},
    sock::{self, RecordView},
};
use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use network_types::{
    ip::{Ipv4Hdr, Ipv6Hdr},
    tcp::TcpHdr,
};
use tcptrace_common::{
    address::Address,
    event::{Carrier, Header, Kind, Prefix, REASON_UNKNOWN, Reset, SENT, Tuple},
    layout::NO_FIELD,
    state::TcpState,
};

#[btf_tracepoint(function = "tcp_send_reset")]
fn send_reset_btf(ctx: BtfTracePointContext) -> i32 {
    let reason = if config!(reset_reason) != 0 { ctx.arg::<u32>(2) } else { REASON_UNKNOWN };
    on_reset::<Btf>(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), reason, None);
    0
}

#[raw_tracepoint(tracepoint = "tcp_send_reset")]
fn send_reset_raw(ctx: RawTracePointContext) -> i32 {
    let reason = if config!(reset_reason) != 0 { ctx.arg::<u64>(2) as u32 } else { REASON_UNKNOWN };
    on_reset::<Raw>(ctx.arg::<u64>(0) as *const u8, ctx.arg::<u64>(1) as *const u8, reason, None);
    0
}

#[tracepoint(category = "tcp", name = "tcp_send_reset")]
fn send_reset_classic(ctx: TracePointContext) -> u32 {
    let record = sock::record(&ctx);
    // SAFETY: offsets from the tracepoint's format (checked at load).
    unsafe {
        let sk = record.get::<u64>(config!(records.send_reset.sk) as usize);
        let skb = record.get::<u64>(config!(records.send_reset.skb) as usize);
        let reason = match config!(records.send_reset.detail) as u16 {
            NO_FIELD => REASON_UNKNOWN,
            at => record.get(at as usize),
        };
        on_reset::<Raw>(sk as *const u8, skb as *const u8, reason, Some(&record));
    }
    0
}

#[inline(always)]
fn on_reset<A: Access>(sk: *const u8, skb: *const u8, reason: u32, record: Option<&RecordView>) {
    let mut answer = Answer::NONE;
    let mut carrier = Carrier::None;
    let mut head = socketless();
    if !sk.is_null() {
        // What kind of socket decides how much of it may be read (docs/kernel.md).
        let state = match (offset!(skc_state), record) {
            (Some(_), _) => member!(A::at(sk), skc_state, u8),
            // SAFETY: offset from the tracepoint's format (checked at load).
            (None, Some(record)) => unsafe {
                record.get::<u32>(config!(records.send_reset.state) as usize) as u8
            },
            (None, None) => 0,
        };
        carrier = if state == TcpState::TimeWait.number() {
            Carrier::TimeWait
        } else if state == TcpState::NewSynRecv.number() {
            Carrier::Request
        } else if state == TcpState::Listen.number() {
            Carrier::Listener
        } else {
            Carrier::Full
        };
        head = if matches!(carrier, Carrier::Full | Carrier::Listener) {
            sock::header::<A>(Kind::Reset, sk, true)
        } else {
            sock::header::<A>(Kind::Reset, sk, false)
        };
        head.pre.state = state;
    }
    if let Some(record) = record {
        sock::take_record(&mut head.tuple, record, &ends!(send_reset));
    }
    if !skb.is_null() {
        if head.pre.netns == 0 {
            head.pre.netns = device_netns::<A>(skb);
        }
        answer = Answer::to::<A>(skb, &mut head.tuple, matches!(carrier, Carrier::None | Carrier::Listener));
    }
    let full = matches!(carrier, Carrier::Full);
    if !filter::wants::<A>(&mut head, sk, full, false) {
        return;
    }
    match carrier {
        Carrier::None => {}
        // The listener's identity is not the connection's.
        Carrier::Listener => head.pre.cookie = 0,
        _ => make_cookie::<A>(&mut head, sk),
    }
    sock::stamp(&mut head);
    let Some(count) = count(Kind::Reset) else { return };
    count.send(
        Kind::Reset,
        Reset {
            head,
            reason,
            seq: answer.seq,
            direction: SENT,
            carrier: carrier as u8,
            tcp_flags: answer.flags,
            spare: [0; 5],
        },
    );
}

#[inline(always)]
fn socketless() -> Header {
    Header {
        pre: Prefix {
            kind: Kind::Reset as u8,
            flags: 0,
            state: 0,
            to: 0,
            netns: 0,
            time_ns: 0,
            sock: 0,
            cookie: 0,
        },
        tuple: Tuple {
            local: Address::from_words([0; 2]),
            remote: Address::from_words([0; 2]),
            lport: 0,
            rport: 0,
            family: 0,
            bits: 0,
            shutdown: 0,
            spare: 0,
        },
    }
}

#[inline(always)]
fn device_netns<A: Access>(skb: *const u8) -> u32 {
    let device = member!(A::at(skb), skb_dev, *const u8);
    if device.is_null() { 0 } else { sock::netns::<A>(member!(A::at(device), dev_net, *const u8)) }
}

/// The packet that an RST answers.
struct Answer {
    seq: u32,
    flags: u8,
}

impl Answer {
    const NONE: Self = Self { seq: 0, flags: 0 };

    /// Parses its headers; where `take` is set the connection's ends are taken from it, turned round.
    #[inline(always)]
    fn to<A: Access>(skb: *const u8, tuple: &mut Tuple, take: bool) -> Self {
        if config!(probe_read) == 0 || offset!(skb_head).is_none() {
            return Self::NONE;
        }
        let view = A::at(skb);
        let head = member!(view, skb_head, u64);
        let network = (head + u64::from(member!(view, skb_network_header, u16))) as *const u8;
        let transport = (head + u64::from(member!(view, skb_transport_header, u16))) as *const u8;
        // SAFETY: plain bytes; the helper checks the addresses.
        let tcp: TcpHdr = unsafe { Probed(transport).get(0) };
        if take {
            tuple.lport = u16::from_be_bytes(tcp.dest);
            tuple.rport = u16::from_be_bytes(tcp.source);
            // SAFETY: as above.
            let first: u8 = unsafe { Probed(network).get(0) };
            if first >> 4 == 6 {
                // SAFETY: as above.
                let ip: Ipv6Hdr = unsafe { Probed(network).get(0) };
                tuple.local = Address::from_bytes(ip.dst_addr);
                tuple.remote = Address::from_bytes(ip.src_addr);
                tuple.family = 6;
            } else {
                // SAFETY: as above.
                let ip: Ipv4Hdr = unsafe { Probed(network).get(0) };
                tuple.local = Address::from_v4(u32::from_ne_bytes(ip.dst_addr));
                tuple.remote = Address::from_v4(u32::from_ne_bytes(ip.src_addr));
                tuple.family = 4;
            }
        }
        Self { seq: u32::from_be_bytes(tcp.seq), flags: flags(&tcp) }
    }
}

/// FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
#[inline(always)]
fn flags(tcp: &TcpHdr) -> u8 {
    (tcp.fin() | tcp.syn() << 1 | tcp.rst() << 2 | tcp.psh() << 3 | tcp.ack() << 4) as u8
}
