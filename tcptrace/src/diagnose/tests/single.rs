//! One connection at a time: limits, deadlines and the edges between the rules.

use super::made::*;
use crate::{
    diagnose::{Confidence, Deadline, Traced, history::Failed},
    event::TcpState as S_,
    flow::FlowId,
    sight::{Sight, TcpInfo, TimerKind as T},
    source::details::{Linger2, Options, SocketDetail},
};

const LOST: u32 = 700;

fn fin(tries: u8) -> Sight {
    stalled(1, S_::FinWait1, T::Retransmit, tries, 1)
}

/// 204 ms: 8 retries end with the ninth expiry, after 511 x 204 ms; 4 expiries of it and 0.1 s have passed, so 511 x 204 -
/// (15 x 204 + 100) are left. tcp_retries2 15: the sum of the time-outs to 104.448 s is 1023 x 204, and six of 120 s.
#[test]
fn a_fin_ends_by_who_has_the_socket() {
    let passed = 15 * 204 + 100;
    let of = |host: Host| {
        let finding = host.one();
        assert_eq!(finding.name, "fin-unanswered");
        (ends_ms(&finding), finding.settings[0].name, finding.settings[0].value.clone().unwrap())
    };
    let (orphan_retries, retries) = ("net.ipv4.tcp_orphan_retries", "net.ipv4.tcp_retries2");
    let closed = || Host::of([orphan(fin(4))]);
    assert_eq!(of(closed()), (511 * 204 - passed, orphan_retries, "0".into()));
    // 4: (2^5 - 1) x 0.2 = 6.2 s; (2^5 - 2) x 0.204 = 6.12 s are just too short, unless timers are late: 31 x 204 ms.
    assert_eq!(
        of(closed().set(|all| all.orphan_retries = Some(4))),
        (31 * 204 - passed, orphan_retries, "4".into())
    );
    // 5: 12.6 s; 62 x 0.204 = 12.65 s.
    assert_eq!(
        of(closed().set(|all| all.orphan_retries = Some(5))),
        (63 * 204 - passed, orphan_retries, "5".into())
    );
    assert_eq!(of(Host::of([fin(4)])), (1023 * 204 + 6 * 120_000 - passed, retries, "15".into()));
    assert_eq!(
        of(Host::of([fin(4)]).set(|all| all.retries = Some(8))),
        (511 * 204 - passed, retries, "8".into())
    );
    // 20 s after the first retransmission, which was due at 204 ms, whoever has the socket.
    for fin in [fin(4), orphan(fin(4))] {
        let host = Host::of([fin]).with(user_timeout(detail(1), 20_000));
        assert_eq!(of(host), (20_204 - passed, "TCP_USER_TIMEOUT", "20000 ms".into()));
    }
}

#[test]
fn a_fin_is_stuck_after_four_expiries_or_the_last_but_one() {
    assert_eq!(Host::of([orphan(fin(3))]).none().on_the_way[0].count, 1);
    assert_eq!(Host::of([orphan(fin(4))]).one().name, "fin-unanswered");
    assert_eq!(
        Host::of([orphan(fin(1))]).set(|all| all.orphan_retries = Some(2)).one().name,
        "fin-unanswered"
    );
    assert_eq!(Host::of([fin(1)]).set(|all| all.retries = Some(2)).one().name, "fin-unanswered");
    Host::of([fin(1)]).set(|all| all.orphan_retries = Some(2)).none();
    Host::of([fin(0)]).set(|all| (all.orphan_retries, all.retries) = (Some(1), Some(1))).none();
}

/// An orphan under 0 has no try left at the longest time-out; an ICMP error makes it so whatever is set.
#[test]
fn an_icmp_error_counts_at_the_longest_time_out() {
    let mut slow = orphan(fin(4));
    slow.timer.as_mut().unwrap().expires_ms = 7_000;
    slow.info.as_mut().unwrap().rto_us = 120_000_000;
    assert_eq!(ends_ms(&Host::of([slow]).one()), 7_000);
    let patient = |soft_error| {
        let host = Host::of([slow]).set(|all| all.orphan_retries = Some(15));
        host.with(SocketDetail { soft_error, ..detail(1) }).one()
    };
    assert!(ends_ms(&patient(0)) > 7_000);
    assert_eq!(ends_ms(&patient(113)), 7_000);
    assert!(patient(113).evidence.iter().any(|evidence| evidence.fact.contains("gives up at once")));
    // Where a program has it, it is only what the program is told.
    let held = Host::of([fin(4)]).with(SocketDetail { soft_error: 113, ..detail(1) }).one();
    assert!(held.evidence.iter().any(|evidence| evidence.fact.contains("does not end the connection")));
}

#[test]
fn what_holds_the_fin_back_decides() {
    let of = |sight: Sight, window_bytes: Option<u32>| {
        let mut host = Host::of([orphan(sight)]);
        host.details.extend(window_bytes.map(|bytes| window(detail(1), bytes)));
        host.one().name
    };
    for state in [S_::FinWait1, S_::LastAck] {
        assert_eq!(of(stalled(1, state, T::Retransmit, 4, LOST), None), "fin-behind-data");
        assert_eq!(of(stalled(1, state, T::Probe, 7, LOST), Some(0)), "fin-behind-zero-window");
        assert_eq!(of(stalled(1, state, T::Probe, 7, LOST), None), "fin-behind-zero-window");
        assert_eq!(of(stalled(1, state, T::Probe, 4, 1), Some(65_000)), "fin-cannot-leave");
    }
    assert_eq!(of(stalled(1, S_::LastAck, T::Retransmit, 4, 1), None), "last-ack-unanswered");
    assert_eq!(of(stalled(1, S_::Closing, T::Retransmit, 4, 1), None), "last-ack-unanswered");
}

/// The kernel counts the FIN among the unsent.
#[test]
fn a_fin_that_waits_alone_waits_behind_nothing() {
    let alone = Host::of([orphan(stalled(1, S_::FinWait1, T::Probe, 7, 1))]).with(window(detail(1), 0)).one();
    assert_eq!(
        alone.verdict,
        "the FIN was never sent: the peer's window is closed, its program does not read"
    );
    assert_eq!(alone.confidence, Confidence::Certain);
    let behind = Host::of([orphan(stalled(1, S_::FinWait1, T::Probe, 7, 2))]).one();
    assert!(behind.verdict.starts_with("the FIN waits behind 1 B never sent"), "{}", behind.verdict);
    assert_eq!(behind.confidence, Confidence::Likely, "nothing tells the window");
}

fn failed(host: &mut Host, errno: u16) {
    let failed = [(FlowId::Cookie(1), Failed { count: 2, errno })].into_iter().collect();
    host.around.traced = Some(Traced { failed, ..Traced::default() });
}

#[test]
fn what_events_told_of_failed_sends_comes_first() {
    for (sight, name) in [
        (orphan(fin(4)), "fin-cannot-leave"),
        (stalled(1, S_::SynSent, T::Retransmit, 5, 1), "syn-unanswered"),
    ] {
        let mut host = Host::of([sight]);
        failed(&mut host, 1);
        let finding = host.one();
        assert_eq!(finding.name, name);
        assert!(finding.verdict.ends_with("cannot leave this host: EPERM"), "{}", finding.verdict);
        assert!(finding.evidence.iter().any(|evidence| evidence.fact.contains("failed 2 times with EPERM")));
    }
}

/// Answers set the number of probes back: a program's socket is kept for ever, an orphan until the time-out is at its
/// maximum.
#[test]
fn a_zero_window_that_is_answered_lasts() {
    let answered = |sight: Sight| {
        let info = TcpInfo { probes: 0, last_ack_recv_ms: 100, ..sight.info.unwrap() };
        Sight { info: Some(info), ..sight }
    };
    let open = stalled(1, S_::Established, T::Probe, 7, LOST);
    let finding = Host::of([answered(open)]).with(window(detail(1), 0)).one();
    assert_eq!((finding.name, never(&finding)), ("zero-window-stall", true));
    // Fifteen probes in all, seven of them sent: 204 ms doubled nine times, then 120 s six times.
    let silent = Host::of([open]).with(window(detail(1), 0)).one();
    assert_eq!(ends_ms(&silent), 1023 * 204 + 6 * 120_000 - (127 * 204 + 100));
    let orphan = orphan(answered(stalled(1, S_::FinWait1, T::Probe, 7, LOST)));
    assert_eq!(ends_ms(&Host::of([orphan]).one()), 1023 * 204 + 120_000 - (127 * 204 + 100));
}

#[test]
fn a_window_that_is_open_is_another_matter() {
    let held_back = stalled(1, S_::Established, T::Probe, 7, LOST);
    let open = Host::of([held_back]).with(window(detail(1), 65_000)).one();
    assert_eq!(open.name, "retransmitting");
    assert!(open.verdict.contains("something on this host drops it"), "{}", open.verdict);
    let small = Host::of([held_back]).with(window(detail(1), 10)).one();
    assert_eq!(small.name, "zero-window-stall");
    assert!(small.verdict.contains("too small, 700 B"), "{}", small.verdict);
}

/// The window closed while data was in flight: the retransmission timer probes it, and the peer answers.
#[test]
fn a_window_that_closed_later_is_no_lossy_path() {
    let mut sight = stalled(1, S_::Established, T::Retransmit, 4, LOST);
    sight.info.as_mut().unwrap().last_ack_recv_ms = 80;
    let finding = Host::of([sight]).with(window(detail(1), 0)).one();
    assert_eq!((finding.name, never(&finding)), ("zero-window-stall", true));
    assert_eq!(Host::of([sight]).with(window(detail(1), 1000)).one().name, "retransmitting");
}

#[test]
fn an_open_connection_is_judged_by_what_is_heard() {
    let silent = stalled(1, S_::Established, T::Retransmit, 4, LOST);
    Host::of([stalled(1, S_::Established, T::Retransmit, 3, LOST)]).none();
    let dead = Host::of([silent]).one();
    assert_eq!(dead.name, "dead-peer");
    // 15 x 204 ms and 100 ms.
    assert_eq!(dead.age.unwrap().ns, 3_160 * MS);
    let mut heard = silent;
    heard.info.as_mut().unwrap().last_data_recv_ms = 40;
    assert_eq!(Host::of([heard]).one().name, "retransmitting");
}

/// What was lost has arrived, and only the back-off is left until the round trip is measured again.
#[test]
fn a_back_off_alone_is_no_trouble() {
    let mut mended = sight(1, S_::Established);
    mended.info.as_mut().unwrap().backoff = 6;
    assert!(Host::of([mended]).none().on_the_way.is_empty());
    let mut sending = stalled(1, S_::Established, T::Retransmit, 0, LOST);
    sending.info.as_mut().unwrap().backoff = 6;
    assert!(Host::of([sending]).none().on_the_way.is_empty());
}

fn probed(unanswered: u8) -> Sight {
    let mut sight = stalled(1, S_::Established, T::Keepalive, unanswered, 0);
    let timer = sight.timer.as_mut().unwrap();
    timer.expires_ms = 400;
    let info = TcpInfo {
        probes: unanswered,
        last_ack_recv_ms: 9_000,
        last_data_recv_ms: 9_000,
        ..sight.info.unwrap()
    };
    Sight { info: Some(TcpInfo { retransmits: 0, backoff: 0, unacked: 0, ..info }), ..sight }
}

#[test]
fn keepalive_ends_by_the_socket_s_own_numbers() {
    let dead = Host::of([probed(3)]).one();
    // Six more, 75 s apart.
    assert_eq!((dead.name, ends_ms(&dead)), ("dead-peer", 400 + 6 * 75_000));
    assert!(dead.missing.iter().any(|missing| missing.contains("TCP_KEEPCNT")));
    let own = Options {
        keepalive: Some(true),
        keepalive_interval_ns: Some(2 * S),
        keepalive_probes: Some(4),
        ..detail(1).options
    };
    let own = SocketDetail { options: own, ..detail(1) };
    assert_eq!(ends_ms(&Host::of([probed(3)]).with(own).one()), 400 + 2_000);
    // 9 s of silence so far, so 12 s are over at the expiry after next.
    assert_eq!(ends_ms(&Host::of([probed(3)]).with(user_timeout(own, 12_000)).one()), 400 + 2 * 2_000);
    // One probe of two: the last but one.
    let short = SocketDetail { options: Options { keepalive_probes: Some(2), ..own.options }, ..own };
    assert_eq!(Host::of([probed(1)]).with(short).one().name, "dead-peer");
    Host::of([probed(1)]).with(own).none();
    Host::of([probed(0)]).none();
    let once = Host::of([probed(1)]).older_than(S).one();
    assert!(once.verdict.contains("1 keepalive probe in vain"), "{}", once.verdict);
}

fn syn(tries: u8) -> Sight {
    stalled(1, S_::SynSent, T::Retransmit, tries, 1)
}

#[test]
fn a_syn_ends_by_its_settings() {
    let mut linear = syn(5);
    linear.timer.as_mut().unwrap().expires_ms = 2_000;
    linear.info.as_mut().unwrap().rto_us = 2_000_000;
    let of = |set: fn(&mut _), detail: SocketDetail| ends_ms(&Host::of([linear]).set(set).with(detail).one());
    // 5 s have passed: 131 s in all.
    assert_eq!(of(|_| {}, detail(1)), 126_000);
    // As the number of repetitions: 3 + 4 linear ones, which are over after 5 + 2 + 4 + 8 s; the time rule says 15 s.
    let count = SocketDetail { options: Options { syn_retries: Some(3), ..detail(1).options }, ..detail(1) };
    assert_eq!(of(|_| {}, count), 14_000);
    assert_eq!(of(|_| {}, user_timeout(detail(1), 9_000)), 4_000);
    let unknown =
        Host::of([linear]).set(|all| (all.syn_retries, all.syn_linear_timeouts) = (None, None)).one();
    assert!(
        unknown
            .missing
            .iter()
            .any(|missing| missing.contains("tcp_syn_retries: the kernel's default is assumed"))
    );
    assert_eq!(
        Host::of([syn(1)]).set(|all| (all.syn_retries, all.syn_linear_timeouts) = (Some(2), None)).one().name,
        "syn-unanswered"
    );
}

/// Only a listener at the address that is connected to has to do with it.
#[test]
fn a_full_queue_explains_syns_to_its_own_address() {
    let mut full = listener(2, 10_000, 5, 4);
    full.ends.local = v4(9);
    let blames = |listener: Sight| {
        let mut diagnosis = Host::of([syn(5), listener]).judged();
        diagnosis.findings.retain(|finding| finding.name == "syn-unanswered");
        diagnosis.findings[0].next_step.contains("must accept()")
    };
    assert!(blames(full));
    full.ends.local = [0; 16];
    assert!(!blames(full), "the address is another host's");
    full.ends.lport = 10_001;
    assert!(!blames(full));
}

#[test]
fn fin_wait_2_ends_by_who_has_the_socket() {
    let small = |left_ms| Host::of([minisocket(1, S_::FinWait2, left_ms)]);
    small(45_100).none();
    let finding = small(45_000).one();
    assert_eq!((finding.name, ends_ms(&finding)), ("peer-never-closed", 45_000));
    assert_eq!(finding.age.unwrap().ns, 15 * S);
    // 100 s: a full socket for 40 s, then a minisocket for 40 s more.
    let long = small(30_000).set(|all| all.fin_timeout_ns = Some(100 * S)).one();
    assert_eq!((long.age.unwrap().ns, ends_ms(&long)), (50 * S, 30_000));
    // A program has it: a minute, and no end.
    Host::of([sight(1, S_::FinWait2)]).aged(exactly(59 * S)).none();
    assert!(never(&Host::of([sight(1, S_::FinWait2)]).aged(exactly(61 * S)).one()));
}

#[test]
fn an_orphan_in_fin_wait_2_waits_as_a_full_socket_first() {
    let mut waits = orphan(sight(1, S_::FinWait2));
    waits.timer = stalled(1, S_::FinWait2, T::Keepalive, 0, 0).timer;
    let expires_ms = u64::from(waits.timer.unwrap().expires_ms);
    let host = || Host::of([waits]).aged(exactly(70 * S));
    assert_eq!(ends_ms(&host().one()), expires_ms);
    assert_eq!(ends_ms(&host().set(|all| all.fin_timeout_ns = Some(100 * S)).one()), expires_ms + 40_000);
    let linger2 = Some(Linger2::Time(70 * S));
    let own = SocketDetail { options: Options { linger2, ..detail(1).options }, ..detail(1) };
    let finding = host().set(|all| all.fin_timeout_ns = Some(100 * S)).with(own).one();
    assert_eq!((ends_ms(&finding), finding.settings[0].name), (expires_ms + 10_000, "TCP_LINGER2"));
}

/// A long answer to a program that has said all it has to say.
#[test]
fn a_half_closed_connection_that_receives_is_in_order() {
    let mut downloads = sight(1, S_::FinWait2);
    downloads.info = Some(TcpInfo { bytes_received: 5000, last_data_recv_ms: 20, ..TcpInfo::default() });
    let diagnosis = Host::of([downloads]).aged(exactly(600 * S)).none();
    assert_eq!((diagnosis.unexplained, diagnosis.on_the_way[0].count), (0, 1));
}

#[test]
fn close_wait_is_a_leak_or_at_work() {
    let unread = Sight { receive_queue: 28, ..sight(1, S_::CloseWait) };
    Host::of([unread]).aged(exactly(14 * S)).none();
    let leak = Host::of([unread]).aged(exactly(16 * S)).held(1, 42, "app").one();
    assert_eq!(
        leak.verdict,
        "the peer has closed, and app/42 neither reads what came (27 B unread) nor closes"
    );
    assert!(never(&leak) && leak.next_step.contains("/proc/42/fd/7"));
    // A client's idle connection may wait in a pool for its next use.
    Host::of([sight(1, S_::CloseWait)]).aged(exactly(59 * S)).none();
    let pooled = Host::of([sight(1, S_::CloseWait)]).aged(exactly(61 * S)).one();
    assert!(pooled.missing.iter().any(|missing| missing.contains("pool")), "{pooled:#?}");
    // A server that has read all may work on its answer.
    let mut served = sight(1, S_::CloseWait);
    served.ends = served.ends.turned_round();
    Host::of([served]).aged(exactly(29 * S)).none();
    assert_eq!(Host::of([served]).aged(exactly(31 * S)).one().name, "close-wait-leak");
    let busy =
        |tries| Host::of([stalled(1, S_::CloseWait, T::Retransmit, tries, LOST)]).aged(exactly(301 * S));
    busy(3).none();
    assert_eq!(busy(4).one().name, "close-wait-busy");
    let mut wrote = sight(1, S_::CloseWait);
    wrote.info = Some(TcpInfo { bytes_sent: 10, last_data_sent_ms: 500, ..TcpInfo::default() });
    let wrote = Host::of([wrote]).aged(exactly(301 * S));
    wrote.clone().none();
    assert_eq!(wrote.older_than(60 * S).one().name, "close-wait-busy");
    let waits = Host::of([orphan(unread)]).aged(exactly(61 * S)).one();
    assert!(waits.verdict.contains("no program has accepted"), "{}", waits.verdict);
}

/// What came in may be in a pool at the client's: half the time. On this host we know whether it is.
#[test]
fn a_pooled_connection_is_no_leak_at_either_end() {
    let left = |seconds: u32| minisocket(1, S_::FinWait2, seconds * 1000);
    let mut served = left(40);
    served.ends = served.ends.turned_round();
    Host::of([served]).none();
    assert_eq!(Host::of([left(40)]).one().name, "peer-never-closed");
    served = Sight { timer: left(20).timer, ..served };
    assert_eq!(Host::of([served]).one().name, "peer-never-closed");
    // Its other end, a client that has read all, 40 s in CLOSE_WAIT.
    let pooled = Sight { ends: served.ends.turned_round(), ..sight(2, S_::CloseWait) };
    let both = || Host::of([served, pooled]).aged(exactly(40 * S));
    assert_eq!(both().none().unexplained, 0);
    assert_eq!(both().older_than(30 * S).judged().findings.len(), 2);
}

/// Known to be younger: no; known to be at least so old, or not known at all: perhaps, and that is counted.
#[test]
fn older_than_takes_the_place_of_the_limits() {
    let host = || Host::of([sight(1, S_::CloseWait)]).older_than(60 * S);
    assert_eq!(host().aged(exactly(61 * S)).one().name, "close-wait-leak");
    assert_eq!(host().aged(at_least(61 * S)).one().name, "close-wait-leak");
    assert_eq!(host().aged(exactly(59 * S)).none().on_the_way[0].perhaps_older, 0);
    assert_eq!(host().aged(at_least(59 * S)).none().on_the_way[0].perhaps_older, 1);
    assert_eq!(host().aged(None).none().on_the_way[0].perhaps_older, 1);
    // Three expiries are not enough then.
    Host::of([orphan(fin(4))]).aged(exactly(3 * S)).older_than(60 * S).none();
}

#[test]
fn what_is_not_told_is_said() {
    let bare = |sight: Sight| Sight { info: None, ..sight };
    let finding = Host::of([orphan(bare(fin(4)))]).one();
    assert_eq!(finding.deadline, Deadline::Unknown("its timer is not shown"));
    let assumed = Host::of([orphan(fin(4))]).set(|all| all.orphan_retries = None).one();
    assert_eq!(ends_ms(&assumed), 511 * 204 - (15 * 204 + 100));
    assert!(
        assumed.missing.iter().any(|missing| missing.contains("tcp_orphan_retries: the kernel's default"))
    );
    assert!(assumed.missing.iter().any(|missing| missing.contains("who closed it")));
    assert!(assumed.missing.iter().any(|missing| missing.contains("TCP_USER_TIMEOUT")));
    let known = Host::of([orphan(fin(4))]).with(detail(1)).one();
    assert!(!known.missing.iter().any(|missing| missing.contains("TCP_USER_TIMEOUT")), "{known:#?}");
}
