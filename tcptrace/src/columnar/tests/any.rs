//! Any entry: whatever the ledger could say, and more.

use crate::{
    event::{Carrier, Direction, Ends, Head, LastNumbers, Reason, Reset, Retransmit, Segment, TcpState},
    flow::{
        Bound, Closed, DWELL_STATES, Entry, FlowId, Known, Role, Seen, Span, What, Who,
        cause::{Cause, Verdict},
        owner::{Owner, Process, Source},
    },
    sight::{Kind, Sight, TcpInfo, Timer, TimerKind},
};
use proptest::{option, prelude::*, sample::select};
use std::rc::Rc;
use tcptrace_common::event::{ERROR_KNOWN, NUMBERS_KNOWN, STALL_KNOWN};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..2_000_000_000_u64, any::<u64>()]
}

fn state() -> impl Strategy<Value = TcpState> {
    select(TcpState::ALL.to_vec())
}

fn span() -> impl Strategy<Value = Option<Span>> {
    option::of((number(), any::<bool>()).prop_map(|(ns, exact)| Span { ns, exact }))
}

/// Names that programs give themselves, empty and strange ones, too. The cgroup is none that exists.
fn process() -> impl Strategy<Value = Rc<Process>> {
    let comm = prop_oneof![Just("curl".to_owned()), "\\PC{0,15}"];
    (1 << 23..u32::MAX, any::<u32>(), comm).prop_map(|(pid, uid, comm)| {
        Rc::new(Process { pid, uid, cgroup: u64::from(uid % 2) * (u64::MAX - 7), comm: comm.into() })
    })
}

fn owner() -> impl Strategy<Value = Option<Owner>> {
    let sources = vec![Source::Connect, Source::Accept, Source::Descriptor, Source::Listener, Source::Close];
    option::of((process(), select(sources)).prop_map(|(process, source)| Owner { process, source }))
}

fn ends() -> impl Strategy<Value = Ends> {
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|v4| std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()),
        any::<[u8; 16]>(),
        Just([0; 16]),
    ];
    (address.clone(), address, any::<(u16, u16)>()).prop_map(|(local, remote, (lport, rport))| Ends {
        local,
        remote,
        lport,
        rport,
    })
}

fn who() -> impl Strategy<Value = Who> {
    let id = prop_oneof![
        number().prop_map(FlowId::Cookie),
        number().prop_map(FlowId::Generation),
        Just(FlowId::None),
    ];
    let role = select(vec![Role::Active, Role::Passive, Role::Listen, Role::Unknown]);
    (id, 0..3_u32, ends(), role, owner()).prop_map(|(id, netns, ends, role, owner)| Who {
        id,
        netns: netns * 0x7000_0000,
        ends,
        role,
        owner,
    })
}

fn head() -> Head {
    Head { time_ns: 0, sock: 0, cookie: 0, netns: 0, undecided: false, ends: Ends::default() }
}

fn transition() -> impl Strategy<Value = What> {
    let known = select(vec![Known::Event, Known::Probe, Known::Seen, Known::Rule, Known::Timer]);
    (state(), state(), span(), option::of(process()), known)
        .prop_map(|(old, new, in_state, by, known)| What::Transition { old, new, in_state, by, known })
}

prop_compose! {
    fn retransmit()(
        state in option::of(state()),
        segment in select(Segment::ALL.to_vec()),
        reason in select(Reason::ALL.to_vec()),
        tcp_flags in option::of(any::<u8>()),
        sequence in option::of(any::<(u32, u32)>()),
        numbers in any::<(u16, u8, u8, bool)>(),
        err in option::of(-200..1_i32),
    ) -> What {
        let (segments, stalled, backoff, from_call) = numbers;
        What::Retransmit(Box::new(Retransmit {
            head: head(), state, segment, reason, evidence: "timer", tcp_flags, sequence, segments, err, stalled, backoff,
            handshake_ns: None,
            from_call,
        }))
    }
}

prop_compose! {
    fn reset()(
        direction in select(vec![Direction::Sent, Direction::Received]),
        reason in option::of("[a-z-]{1,20}"),
        carrier in select(vec![Carrier::None, Carrier::Full, Carrier::Listener, Carrier::TimeWait]),
        state in option::of(state()),
        answers in option::of(any::<u8>()),
    ) -> What {
        let reason = reason.map(Into::into);
        What::Reset(Box::new(Reset { head: head(), direction, reason, carrier, state, dead: None, answers }))
    }
}

prop_compose! {
    fn numbers()(
        bytes in (number(), number(), number(), number()),
        times in any::<(u32, u32)>(),
        never in any::<bool>(),
        counts in any::<(u32, u32, u32)>(),
        stall in any::<bool>(),
    ) -> LastNumbers {
        LastNumbers {
            bytes_sent: bytes.0,
            bytes_acked: bytes.1,
            bytes_received: bytes.2,
            bytes_retrans: bytes.3,
            srtt_us: if never { 0 } else { times.0 },
            min_rtt_us: if never { u32::MAX } else { times.1 },
            total_retrans: counts.0,
            packets_out: 0,
            unsent: counts.1,
            unread: counts.2,
            snd_wnd: 0,
            linger2: 0,
            sk_err: 0,
            sk_err_soft: 0,
            retransmits: 0,
            backoff: 0,
            probes_out: 0,
            known: NUMBERS_KNOWN | ERROR_KNOWN | if stall { STALL_KNOWN } else { 0 },
        }
    }
}

prop_compose! {
    fn close()(
        cause in select(vec![Cause::Orderly, Cause::Timeout, Cause::Unseen, Cause::Unknown]),
        continues_as in option::of(select(vec![TcpState::TimeWait, TcpState::FinWait2])),
        old in state(),
        err in option::of(any::<u16>()),
        duration_ns in option::of(number()),
        dwell in proptest::collection::vec(number(), DWELL_STATES.len()),
        numbers in option::of(numbers()),
        closed_by in owner(),
    ) -> What {
        let mut dwell_ns = [0; DWELL_STATES.len()];
        dwell_ns.copy_from_slice(&dwell);
        let verdict = Verdict { cause, continues_as };
        let retransmits = Default::default();
        What::Close(Box::new(Closed { verdict, old, err, duration_ns, dwell_ns, numbers, retransmits, closed_by }))
    }
}

prop_compose! {
    fn info()(
        bytes in (number(), number()),
        numbers in any::<(u32, u32, u32)>(),
        rtt in prop_oneof![Just((0, 0)), any::<(u32, u32)>()],
    ) -> TcpInfo {
        TcpInfo {
            bytes_acked: bytes.0,
            bytes_received: bytes.1,
            notsent_bytes: numbers.0,
            total_retrans: numbers.1,
            rto_us: numbers.2,
            rtt_us: rtt.0,
            min_rtt_us: rtt.1,
            ..TcpInfo::default()
        }
    }
}

prop_compose! {
    fn sight()(
        state in state(),
        kind in select(vec![Kind::Full, Kind::Request, Kind::Minisocket]),
        ends in ends(),
        owned in (any::<u32>(), prop_oneof![Just(0), any::<u32>()], option::of(number())),
        queues in any::<(u32, u32)>(),
        timer in option::of((any::<u32>(), any::<u8>())),
        info in option::of(info()),
        age in span(),
        bound in select(vec![Bound::Watched, Bound::LastAck, Bound::Retransmits, Bound::Timer]),
    ) -> What {
        let timer = timer.map(|(expires_ms, retransmits)| Timer { kind: TimerKind::Probe, expires_ms, retransmits });
        let sight = Sight {
            cookie: 1, netns: 1, kind, state, ends, uid: owned.0, inode: owned.1, receive_queue: queues.0,
            send_queue: queues.1, timer, shutdown: None, cgroup: owned.2, memory: None, info,
        };
        What::Sight(Box::new(Seen { sight, age, bound }))
    }
}

fn believed() -> impl Strategy<Value = What> {
    (state(), select(vec![Kind::Full, Kind::Minisocket]), span(), option::of(number()))
        .prop_map(|(state, kind, in_state, left_ns)| What::State { state, kind, in_state, left_ns })
}

/// Any entry of this century.
pub fn entry() -> impl Strategy<Value = Entry> {
    let what = prop_oneof![transition(), retransmit(), reset(), close(), sight(), believed()];
    (0..2_000_000_000_000_000_000_u64, who(), what).prop_map(|(time_ns, who, what)| Entry {
        time_ns,
        who,
        what,
    })
}
