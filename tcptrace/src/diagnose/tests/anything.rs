//! Sockets that make no sense: nothing panics, and whatever is found can be shown.

use super::made::*;
use crate::{
    diagnose::{Deadline, RULES},
    event::{Ends, TcpState},
    flow::Span,
    sight::{Kind, Sight, TcpInfo, Timer, TimerKind},
    source::details::{Options, Part, Queue, Request, SocketDetail, Stall},
};
use proptest::{option, prelude::*, sample::select};

prop_compose! {
    fn any_info()(
        counts in any::<(u8, u8, u8)>(),
        rto_us in select(vec![0, 1000, 204_000, 120_000_000, u32::MAX]),
        times in any::<(u32, u32, u32)>(),
        sizes in any::<(u32, u32, u32)>(),
        bytes in any::<(u64, u64)>(),
    ) -> TcpInfo {
        TcpInfo {
            retransmits: counts.0,
            probes: counts.1,
            backoff: counts.2,
            rto_us,
            last_data_sent_ms: times.0,
            last_data_recv_ms: times.1,
            last_ack_recv_ms: times.2,
            unacked: sizes.0,
            notsent_bytes: sizes.1,
            snd_wnd: sizes.2,
            bytes_received: bytes.0,
            bytes_sent: bytes.1,
            ..TcpInfo::default()
        }
    }
}

fn any_timer() -> impl Strategy<Value = Timer> {
    let kind =
        select(vec![TimerKind::Retransmit, TimerKind::Keepalive, TimerKind::TimeWait, TimerKind::Probe]);
    let expires_ms = prop_oneof![0..5000_u32, any::<u32>()];
    (kind, expires_ms, any::<u8>()).prop_map(|(kind, expires_ms, retransmits)| Timer {
        kind,
        expires_ms,
        retransmits,
    })
}

prop_compose! {
    fn any_sight()(
        cookie in 1..40_u64,
        netns in 1..3_u32,
        kind in select(vec![Kind::Full, Kind::Request, Kind::Minisocket]),
        state in select(TcpState::ALL.to_vec()),
        hosts in (0..3_u8, 0..3_u8),
        ports in (79..82_u16, 79..82_u16),
        inode in 0..2_u32,
        queues in prop_oneof![(0..3_u32, 0..3_u32), any::<(u32, u32)>()],
        timer in option::of(any_timer()),
        info in option::of(any_info()),
    ) -> Sight {
        let ends = Ends { local: v4(hosts.0), remote: v4(hosts.1), lport: ports.0, rport: ports.1 };
        let (receive_queue, send_queue) = queues;
        Sight { cookie, netns, kind, state, ends, inode, receive_queue, send_queue, timer, info, ..sight(cookie, state) }
    }
}

prop_compose! {
    fn any_options()(
        user_timeout_ms in option::of(any::<u32>()),
        small in (option::of(any::<u8>()), option::of(any::<u8>())),
        keepalive in option::of(any::<bool>()),
        interval in option::of(any::<u64>()),
        rto_max_us in option::of(select(vec![0, 1, 1_000_000, 120_000_000, u64::MAX])),
    ) -> Options {
        Options {
            user_timeout_ms,
            syn_retries: small.0,
            keepalive_probes: small.1,
            keepalive,
            keepalive_interval_ns: interval,
            rto_max_us,
            ..Options::default()
        }
    }
}

fn any_detail() -> impl Strategy<Value = SocketDetail> {
    let time = || option::of(prop_oneof![NOW_NS - 200 * S..NOW_NS, any::<u64>()]);
    let connection =
        (time(), time(), option::of(any::<u32>())).prop_map(|(began_ns, probes_began_ns, peer_window)| {
            Part::Connection(Stall { began_ns, probes_began_ns, peer_window, ..Stall::default() })
        });
    let listener = (option::of(any::<u32>()), option::of(any::<u32>()))
        .prop_map(|(half_open, young)| Part::Listener(Queue { half_open, young, ..Queue::default() }));
    let request = option::of(any::<u8>())
        .prop_map(|timeouts| Part::Request(Request { timeouts, ..Request::default() }));
    let part = prop_oneof![connection, listener, request];
    (1..40_u64, any_options(), part, 0..2_u32).prop_map(|(cookie, options, part, soft_error)| SocketDetail {
        options,
        part,
        soft_error,
        ..detail(cookie)
    })
}

prop_compose! {
    fn any_host()(
        sights in prop::collection::vec((any_sight(), option::of(any::<(u64, bool)>())), 0..40),
        details in prop::collection::vec(any_detail(), 0..40),
        older_than_ns in option::of(prop_oneof![Just(0), 0..100 * S, any::<u64>()]),
        settings in prop::collection::vec(option::of(prop_oneof![0..20_u64, any::<u64>()]), 16),
        ports in option::of((70..80_u16, 80..90_u16)),
    ) -> Host {
        let mut host = Host::of([]).set(|all| {
            let mut settings = settings.into_iter();
            for setting in [
                &mut all.fin_timeout_ns,
                &mut all.max_tw_buckets,
                &mut all.synack_retries,
                &mut all.syn_retries,
                &mut all.syn_linear_timeouts,
                &mut all.retries,
                &mut all.orphan_retries,
                &mut all.keepalive_time_ns,
                &mut all.keepalive_interval_ns,
                &mut all.keepalive_probes,
                &mut all.rto_max_ns,
                &mut all.syncookies,
                &mut all.abort_on_overflow,
                &mut all.max_syn_backlog,
                &mut all.somaxconn,
                &mut all.tw_reuse,
            ] {
                *setting = settings.next().flatten();
            }
            all.ports = ports;
        });
        host.sights = sights
            .into_iter()
            .map(|(sight, age)| (sight, told(age.map(|(ns, exact)| Span { ns, exact }))))
            .collect();
        host.details = details;
        host.older_than_ns = older_than_ns;
        host
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_there_is_can_be_judged(mut host in any_host()) {
        let seen = host.judged();
        host.now_ns += S;
        let again = host.judged();
        for finding in seen.findings.iter().chain(&again.findings) {
            prop_assert!(!finding.verdict.is_empty() && !finding.next_step.is_empty(), "{finding:#?}");
            prop_assert!(RULES.iter().any(|rule| rule.name == finding.name), "{finding:#?}");
            prop_assert!(finding.age.is_none() || !finding.age_from.is_empty(), "{finding:#?}");
            if let Deadline::In { earliest_ns, latest_ns, then, .. } = finding.deadline {
                prop_assert!(earliest_ns <= latest_ns && !then.is_empty(), "{finding:#?}");
            }
        }
    }
}
