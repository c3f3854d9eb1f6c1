//! From the kernel's units and stamps to ours: pure but for [`tick_hz`].

use super::{Linger2, Options, Part, Queue, Request, SocketDetail, Stall};
use crate::{event::TcpState, source::btf::Btf};
use nix::time::{ClockId, clock_getres};
use tcptrace_common::{
    detail::{Detail, REQUEST, SOCKET},
    layout::{ABSENT, Offsets},
};

const SECOND_NS: u64 = 1_000_000_000;
/// Bits of `skc_flags`: the same numbers on every kernel since 5.8 (docs/kernel.md).
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;

/// How often the kernel's timer ticks in a second (its CONFIG_HZ): the coarse clocks advance once a tick, and say so.
/// `None`: not a frequency that a kernel has.
pub fn tick_hz() -> Option<u64> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).ok()?;
    hz((tick.tv_sec() as u64).checked_mul(SECOND_NS)?.checked_add(tick.tv_nsec() as u64)?)
}

fn hz(tick_ns: u64) -> Option<u64> {
    let hz = (SECOND_NS + tick_ns / 2).checked_div(tick_ns)?;
    (10..=10_000).contains(&hz).then_some(hz)
}

/// What this kernel has, and how it counts.
pub struct Convert {
    offsets: Offsets,
    hz: Option<u64>,
    /// Masks of single bits; 0: this kernel has none, or does not show it.
    keepopen: u64,
    acked: u8,
    usec_ts: u8,
}

/// The same at the end of a walk.
pub struct At<'a> {
    convert: &'a Convert,
    monotonic_ns: u64,
    jiffies: u64,
    slept_ns: u64,
}

impl Convert {
    pub fn new(btf: &Btf, offsets: &Offsets, hz: Option<u64>) -> Self {
        let flag = btf.enum_names("sock_flags").into_iter().find(|(_, name)| name == "SOCK_KEEPOPEN");
        let bit = |of, path| btf.member(of, path).and_then(|place| place.bits);
        let mask = |bits: Option<(u32, u32)>| bits.and_then(|(bit, _)| 1u8.checked_shl(bit)).unwrap_or(0);
        Self {
            offsets: *offsets,
            hz,
            keepopen: flag.and_then(|(bit, _)| 1u64.checked_shl(bit)).unwrap_or(0),
            acked: mask(bit("inet_request_sock", "acked")),
            usec_ts: mask(bit("tcp_sock", "tcp_usec_ts")),
        }
    }

    /// `clock`: the record at the end of the walk. `slept_ns`: from its clock to the boot-time clock.
    pub fn at(&self, clock: &Detail, slept_ns: u64) -> At<'_> {
        At { convert: self, monotonic_ns: clock.cookie, jiffies: clock.flags, slept_ns }
    }
}

impl At<'_> {
    /// `None`: a record that no program of ours wrote.
    pub fn detail(&self, raw: &Detail, netns: u32) -> Option<SocketDetail> {
        let state = TcpState::from_number(raw.state)?;
        let (options, part) = match (raw.kind, state) {
            (REQUEST, _) => (Options::default(), Part::Request(self.request(raw))),
            (SOCKET, TcpState::Listen) => (self.options(raw), Part::Listener(self.queue(raw))),
            (SOCKET, _) => (self.options(raw), Part::Connection(self.stall(raw, state))),
            _ => return None,
        };
        Some(SocketDetail {
            cookie: raw.cookie,
            netns,
            state,
            orphan: raw.flags & SOCK_DEAD != 0,
            fin_received: raw.flags & SOCK_DONE != 0,
            error: raw.err,
            soft_error: raw.err_soft,
            options,
            part,
        })
    }

    fn options(&self, raw: &Detail) -> Options {
        let (at, jiffies_ns) = (&self.convert.offsets, |jiffies| self.jiffies_ns(jiffies));
        Options {
            user_timeout_ms: known(at.icsk_user_timeout, raw.user_timeout),
            syn_retries: known(at.icsk_syn_retries, raw.syn_retries),
            linger2: known(at.linger2, raw.linger2).and_then(|linger2| self.linger2(linger2)),
            keepalive: (self.convert.keepopen != 0).then_some(raw.flags & self.convert.keepopen != 0),
            keepalive_time_ns: known(at.keepalive_time, raw.keepalive_time).and_then(jiffies_ns),
            keepalive_interval_ns: known(at.keepalive_intvl, raw.keepalive_intvl).and_then(jiffies_ns),
            keepalive_probes: known(at.keepalive_probes, raw.keepalive_probes),
            rto_max_us: known(at.icsk_rto_max, raw.rto_max).and_then(jiffies_ns).map(|ns| ns / 1000),
        }
    }

    fn stall(&self, raw: &Detail, state: TcpState) -> Stall {
        let at = &self.convert.offsets;
        // The stamp of a stall that is over may stay. In SYN_SENT it is set when the connection begins.
        let stalled = at.icsk_retransmits != ABSENT && raw.retransmits > 0 || state == TcpState::SynSent;
        let ends = [at.snd_una, at.snd_nxt, at.write_seq].iter().all(|offset| *offset != ABSENT);
        Stall {
            retransmits: known(at.icsk_retransmits, raw.retransmits),
            backoff: known(at.icsk_backoff, raw.backoff),
            probes_out: known(at.icsk_probes_out, raw.probes_out),
            rto_us: known(at.icsk_rto, raw.rto)
                .and_then(|jiffies| self.jiffies_ns(jiffies))
                .map(|ns| ns / 1000),
            began_ns: if stalled && raw.retrans_stamp != 0 { self.retransmitted_ns(raw) } else { None },
            probes_began_ns: if raw.probes_tstamp != 0 { self.probed_ns(raw.probes_tstamp) } else { None },
            peer_window: known(at.snd_wnd, raw.snd_wnd),
            packets_out: known(at.packets_out, raw.packets_out),
            unacked: ends.then(|| raw.snd_nxt.wrapping_sub(raw.snd_una)),
            unsent: ends.then(|| raw.write_seq.wrapping_sub(raw.snd_nxt)),
            total_retrans: known(at.total_retrans, raw.total_retrans),
        }
    }

    fn queue(&self, raw: &Detail) -> Queue {
        let at = &self.convert.offsets;
        Queue {
            length: known(at.sk_ack_backlog, raw.ack_backlog),
            limit: known(at.sk_max_ack_backlog, raw.max_ack_backlog),
            half_open: known(at.queue_qlen, raw.qlen),
            young: known(at.queue_young, raw.young),
            defer_accept: known(at.queue_defer_accept, raw.defer_accept),
            drops: known(at.sk_drops, raw.drops),
        }
    }

    fn request(&self, raw: &Detail) -> Request {
        let at = &self.convert.offsets;
        Request {
            retransmits: known(at.req_num_retrans, raw.num_retrans),
            timeouts: known(at.req_num_timeout, raw.num_timeout),
            acked: known(at.req_acked, raw.acked & self.convert.acked != 0)
                .filter(|_| self.convert.acked != 0),
        }
    }

    fn linger2(&self, jiffies: i32) -> Option<Linger2> {
        match u32::try_from(jiffies) {
            Ok(0) => Some(Linger2::Sysctl),
            Ok(jiffies) => self.jiffies_ns(jiffies).map(Linger2::Time),
            Err(_) => Some(Linger2::Abort),
        }
    }

    fn jiffies_ns(&self, jiffies: u32) -> Option<u64> {
        self.convert.hz.map(|hz| u64::from(jiffies) * SECOND_NS / hz)
    }

    /// When `retrans_stamp` was taken, on the boot-time clock.
    fn retransmitted_ns(&self, raw: &Detail) -> Option<u64> {
        let usec = raw.tcp_usec_ts & self.convert.usec_ts != 0;
        let unit_ns = if usec { 1000 } else { 1_000_000 };
        let at = &self.convert.offsets;
        // Without the member that says so (before 6.7) every connection counts milliseconds.
        if at.retrans_stamp == ABSENT || at.tcp_usec_ts != ABSENT && self.convert.usec_ts == 0 {
            return None;
        }
        let now = self.monotonic_ns / unit_ns;
        let stamp = now.saturating_sub(age(now, raw.retrans_stamp, 10 * SECOND_NS / unit_ns));
        Some(self.boot_ns(stamp * unit_ns))
    }

    /// When `icsk_probes_tstamp` was taken, on the boot-time clock.
    fn probed_ns(&self, stamp: u32) -> Option<u64> {
        if self.convert.offsets.icsk_probes_tstamp == ABSENT {
            return None;
        }
        let hz = self.convert.hz?;
        let age_ns = age(self.jiffies, stamp, 10 * hz) * SECOND_NS / hz;
        Some(self.boot_ns(self.monotonic_ns.saturating_sub(age_ns)))
    }

    /// From CLOCK_MONOTONIC. What lies before a suspend is told as if the machine had slept before it: neither TCP's clock
    /// nor its timers count sleep, so what is left until a deadline comes out right.
    fn boot_ns(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add(self.slept_ns)
    }
}

/// The value of a member that this kernel has.
fn known<T>(offset: u32, value: T) -> Option<T> {
    (offset != ABSENT).then_some(value)
}

/// How long ago a stamp of 32 bits was taken, in its own unit: it has wrapped around at most once since. A paced segment is
/// stamped with the time when it is to leave; a stamp that is up to `ahead` in the future is taken for now.
fn age(now: u64, stamp: u32, ahead: u64) -> u64 {
    let age = (now as u32).wrapping_sub(stamp);
    if u64::from(age.wrapping_neg()) <= ahead { 0 } else { u64::from(age) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A kernel that has every member.
    fn convert() -> Convert {
        let mut next = 0;
        let offsets = Offsets::resolve(|_| {
            next += 8;
            Some(next)
        });
        Convert { offsets, hz: Some(250), keepopen: 1 << 3, acked: 1 << 4, usec_ts: 1 << 2 }
    }

    fn raw(state: TcpState) -> Detail {
        Detail { kind: SOCKET, state: state.number(), cookie: 7, ..Detail::ZERO }
    }

    fn at(convert: &Convert, monotonic_ns: u64, jiffies: u64) -> At<'_> {
        At { convert, monotonic_ns, jiffies, slept_ns: 0 }
    }

    fn stall(at: &At<'_>, raw: &Detail) -> Stall {
        *at.detail(raw, 1).unwrap().stall().unwrap()
    }

    #[test]
    fn the_tick_tells_the_frequency() {
        let ticks = [
            (10_000_000, 100),
            (4_000_000, 250),
            (3_333_333, 300),
            (1_000_000, 1000),
            (976_563, 1024),
            (833_333, 1200),
        ];
        for (tick_ns, expected) in ticks {
            assert_eq!(hz(tick_ns), Some(expected));
        }
        assert_eq!((hz(0), hz(1), hz(SECOND_NS)), (None, None, None));
    }

    #[test]
    fn stamps_wrap_around() {
        assert_eq!(age(5, 5, 10), 0);
        assert_eq!(age(1 << 32, u32::MAX, 10), 1);
        assert_eq!(age((3 << 32) + 1000, u32::MAX - 999, 10), 2000);
        assert_eq!(age(0x1_0000_0000, 1, 0), u64::from(u32::MAX));
        // A paced segment that leaves soon, beside one that is as old as can be.
        assert_eq!(age(100, 110, 10), 0);
        assert_eq!(age(100, 111, 10), u64::from(u32::MAX) - 10);
    }

    #[test]
    fn a_stall_begins_when_its_stamp_says() {
        let convert = convert();
        // 60 days after boot: milliseconds have wrapped once, microseconds many times.
        let now = 60 * 86400 * SECOND_NS;
        let began = now - 90 * SECOND_NS;
        let mut socket = Detail { retransmits: 4, ..raw(TcpState::FinWait1) };
        socket.retrans_stamp = (began / MS) as u32;
        assert_eq!(stall(&at(&convert, now, 0), &socket).began_ns, Some(began));
        socket.tcp_usec_ts = 0xff;
        socket.retrans_stamp = (began / 1000) as u32;
        assert_eq!(stall(&at(&convert, now, 0), &socket).began_ns, Some(began));
        // Other bits of the same byte say nothing.
        socket.tcp_usec_ts = !(1 << 2);
        socket.retrans_stamp = (began / MS) as u32;
        let slept = At { slept_ns: 5, ..at(&convert, now, 0) };
        assert_eq!(stall(&slept, &socket).began_ns, Some(began + 5));
    }

    #[test]
    fn the_stamp_of_a_stall_that_is_over_says_nothing() {
        let convert = convert();
        let at = at(&convert, 100 * SECOND_NS, 0);
        let stamped = |state| Detail { retrans_stamp: 40_000, ..raw(state) };
        assert_eq!(stall(&at, &stamped(TcpState::Established)).began_ns, None);
        // But a connection that is being made has one from the start.
        assert_eq!(stall(&at, &stamped(TcpState::SynSent)).began_ns, Some(40 * SECOND_NS));
    }

    #[test]
    fn probes_are_stamped_in_ticks() {
        let convert = convert();
        let jiffies = (1 << 32) + 250;
        let socket = Detail { probes_tstamp: 250u32.wrapping_sub(500), ..raw(TcpState::Established) };
        let at = at(&convert, 10 * SECOND_NS, jiffies);
        assert_eq!(stall(&at, &socket).probes_began_ns, Some(8 * SECOND_NS));
        assert_eq!(stall(&at, &raw(TcpState::Established)).probes_began_ns, None);
    }

    #[test]
    fn options_come_in_our_units() {
        let convert = convert();
        let at = at(&convert, 0, 0);
        let socket = Detail {
            user_timeout: 1500,
            keepalive_time: 250,
            keepalive_intvl: 500,
            keepalive_probes: 3,
            rto_max: 30_000,
            flags: 0b1001,
            ..raw(TcpState::Listen)
        };
        let options = at.detail(&socket, 1).unwrap().options;
        assert_eq!((options.user_timeout_ms, options.keepalive), (Some(1500), Some(true)));
        assert_eq!(options.keepalive_time_ns, Some(SECOND_NS));
        assert_eq!((options.keepalive_interval_ns, options.keepalive_probes), (Some(2 * SECOND_NS), Some(3)));
        assert_eq!(options.rto_max_us, Some(120_000_000));
        let linger2 = |linger2| at.detail(&Detail { linger2, ..socket }, 1).unwrap().options.linger2;
        assert_eq!(linger2(0), Some(Linger2::Sysctl));
        assert_eq!(linger2(-1), Some(Linger2::Abort));
        assert_eq!(linger2(7 * 250), Some(Linger2::Time(7 * SECOND_NS)));
    }

    /// A kernel without the members, and one whose tick is unknown.
    #[test]
    fn what_the_kernel_does_not_tell_is_unknown() {
        let mut convert = convert();
        convert.hz = None;
        let socket = Detail { probes_tstamp: 1, rto: 50, ..raw(TcpState::Established) };
        let at = |convert| At { convert, monotonic_ns: 0, jiffies: 0, slept_ns: 0 };
        let detail = at(&convert).detail(&socket, 1).unwrap();
        assert_eq!((detail.options.keepalive_time_ns, detail.options.rto_max_us), (None, None));
        assert_eq!(detail.options.linger2, Some(Linger2::Sysctl), "0 is 0 in any unit");
        let stall = detail.stall().unwrap();
        assert_eq!((stall.rto_us, stall.probes_began_ns, stall.packets_out), (None, None, Some(0)));

        let nothing = Convert { offsets: Offsets::NONE, hz: Some(250), keepopen: 0, acked: 0, usec_ts: 0 };
        let socket = Detail { retrans_stamp: 1, retransmits: 1, flags: u64::MAX, ..socket };
        let detail = at(&nothing).detail(&socket, 1).unwrap();
        assert_eq!((detail.options, *detail.stall().unwrap()), (Options::default(), Stall::default()));
        let listener = at(&nothing).detail(&raw(TcpState::Listen), 1).unwrap();
        assert_eq!(listener.queue(), Some(&Queue::default()));
        let request = Detail { kind: REQUEST, acked: 0xff, ..raw(TcpState::NewSynRecv) };
        assert_eq!(at(&nothing).detail(&request, 1).unwrap().request(), Some(&Request::default()));
    }

    #[test]
    fn sequence_numbers_wrap_around() {
        let convert = convert();
        let socket = Detail { snd_una: u32::MAX, snd_nxt: 4, write_seq: 10, ..raw(TcpState::LastAck) };
        let stall = stall(&at(&convert, 0, 0), &socket);
        assert_eq!((stall.unacked, stall.unsent), (Some(5), Some(6)));
    }

    #[test]
    fn foreign_records_are_no_sockets() {
        let convert = convert();
        let at = at(&convert, 0, 0);
        assert_eq!(at.detail(&Detail { kind: 9, ..raw(TcpState::Listen) }, 1), None);
        assert_eq!(at.detail(&Detail { state: 99, ..raw(TcpState::Listen) }, 1), None);
    }
}
