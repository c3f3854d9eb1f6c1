//! The arithmetic of the deadlines, against what kernels did and what their source says.

use super::*;

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

fn fresh(rto_ns: u64) -> Stall {
    Stall { tries: 0, rto_ns, expires_ns: rto_ns, elapsed_ns: None, rto_max_ns: RTO_MAX_NS }
}

fn end(ladder: &Ladder) -> u64 {
    ladder.end.expect("an end").in_ns
}

/// kernel-facts: n = 8 is 102.2 s, so with a time-out of 204 ms 104 s; 1.5 s gives 190 s; n = 2: 3.1 s.
#[test]
fn the_time_rule_is_the_measured_one() {
    assert_eq!(model_timeout(8, RTO_MIN_NS, RTO_MAX_NS), 102_200 * MS);
    assert_eq!(model_timeout(15, RTO_MIN_NS, RTO_MAX_NS), 924_600 * MS);
    assert_eq!(end(&retransmission(fresh(204 * MS), Rule::Retries(8))), 511 * 204 * MS);
    assert_eq!(end(&retransmission(fresh(204 * MS), Rule::ORPHAN_DEFAULT)), 511 * 204 * MS);
    assert_eq!(end(&retransmission(fresh(1_500 * MS), Rule::Retries(8))), 127 * 1_500 * MS);
    assert_eq!(end(&retransmission(fresh(204 * MS), Rule::Retries(2))), 15 * 204 * MS);
}

/// Looked at in the middle, the end is the same moment.
#[test]
fn a_stall_looked_at_later_ends_at_the_same_time() {
    let rto = 204 * MS;
    let all = end(&retransmission(fresh(rto), Rule::Retries(8)));
    for tries in 1..8_u32 {
        let at = ((1 << tries) - 1) * rto + 50 * MS;
        let now = rto << tries;
        let stall = Stall { tries, rto_ns: now, expires_ns: now - 50 * MS, ..fresh(rto) };
        assert_eq!(at + end(&retransmission(stall, Rule::Retries(8))), all, "after {tries}");
    }
}

#[test]
fn a_user_timeout_counts_from_the_first_retransmission() {
    let ladder = retransmission(fresh(204 * MS), Rule::UserTimeout(5 * S));
    assert_eq!(end(&ladder), 204 * MS + 5 * S);
}

/// 1.6 s: at the sixth expiry, after 100.8 s, 62 x 1.6 = 99.2 s have passed since the first retransmission, and 102.2 are
/// the limit: timers that are a little late make it the last, else the seventh is, after 203.2 s.
#[test]
fn an_expiry_just_before_the_limit_may_be_the_last() {
    let close = retransmission(fresh(1_600 * MS), Rule::Retries(8)).end.expect("an end");
    assert_eq!(close.in_ns, 100_800 * MS);
    assert!(close.latest_ns > 203_200 * MS, "{close:?}");
    // 1.2 s: 126 x 1.2 = 151.2 s, and 62 x 1.2 = 74.4 s before: no doubt.
    assert_eq!(end(&retransmission(fresh(1_200 * MS), Rule::Retries(8))), 127 * 1_200 * MS);
}

/// 250 Hz: 750 ticks are counted in slots of 64, 256 ms. 100 Hz: 4800 ticks in slots of 512, 5.12 s.
#[test]
fn timers_are_as_late_as_a_slot() {
    assert_eq!(slack(3 * S), 256 * MS);
    assert_eq!(slack(48 * S), 5_120 * MS);
    assert_eq!(slack(100 * MS), 10 * MS); // 100 Hz: ten ticks, exact to one
}

/// An orphan that has reached the longest time-out dies at the next expiry, if tcp_orphan_retries is 0.
#[test]
fn a_slow_orphan_dies_at_the_longest_timeout() {
    let stall = Stall { tries: 2, rto_ns: RTO_MAX_NS, expires_ns: 7 * S, ..fresh(RTO_MAX_NS) };
    assert_eq!(end(&retransmission(stall, Rule::ORPHAN_DEFAULT)), 7 * S);
}

/// 131 s from 6.5 on, 127 s before; few retries end by time, not by number.
#[test]
fn syns_end_as_measured() {
    assert_eq!(end(&syn(fresh(S), 6, 4, None)), 131 * S);
    assert_eq!(end(&syn(fresh(S), 6, 0, None)), 127 * S);
    assert_eq!(end(&syn(fresh(S), 2, 4, None)), 7 * S);
    assert_eq!(end(&syn(fresh(S), 1, 0, None)), 3 * S);
    let times: Vec<_> = syn(fresh(S), 6, 4, None).rungs.iter().map(|rung| rung.in_ns / S).collect();
    assert_eq!(times, [1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    let later = Stall { tries: 5, rto_ns: 2 * S, expires_ns: S, ..fresh(S) };
    assert_eq!(6 * S + end(&syn(later, 6, 4, None)), 131 * S);
}

#[test]
fn syn_acks_end_as_measured() {
    assert_eq!(end(&syn_ack(0, S, 5, RTO_MAX_NS)), 63 * S);
    assert_eq!(end(&syn_ack(1, 2 * S, 2, RTO_MAX_NS)), 6 * S);
}

fn probes(rule: Rule, answered: bool) -> Probing {
    Probing { backoff: 0, answered, rule, user_timeout_ns: None, most_doublings: 15 }
}

/// Eight probes for an orphan whose peer is silent; for ever for a program whose peer answers.
#[test]
fn probes_end_or_do_not() {
    let silent = probing(fresh(204 * MS), probes(Rule::ORPHAN_DEFAULT, false));
    assert_eq!(end(&silent), 511 * 204 * MS);
    let answered = probing(fresh(204 * MS), probes(Rule::Retries(15), true));
    assert_eq!(answered.end, None);
    let orphan = probing(fresh(204 * MS), probes(Rule::ORPHAN_DEFAULT, true));
    let sum: u64 = (0..10).map(|n| (204 * MS) << n).sum();
    assert_eq!(end(&orphan), sum + RTO_MAX_NS);
}

/// The window probes of an orphan go on after an ICMP error until the time-out is at its maximum, and no longer.
#[test]
fn a_hint_counts_at_the_longest_timeout() {
    let hinted = Rule::Orphan { retries: 12, at_maximum: 0 };
    let sum: u64 = (0..10).map(|n| (204 * MS) << n).sum();
    assert_eq!(end(&probing(fresh(204 * MS), probes(hinted, false))), sum + RTO_MAX_NS);
    let plain = Rule::Orphan { retries: 12, at_maximum: 12 };
    assert_eq!(end(&probing(fresh(204 * MS), probes(plain, false))), sum + 3 * RTO_MAX_NS);
    let slow = Stall { tries: 2, rto_ns: RTO_MAX_NS, expires_ns: 7 * S, ..fresh(RTO_MAX_NS) };
    assert_eq!(end(&retransmission(slow, hinted)), 7 * S);
}

/// tcp_send_probe0 doubles no more often than tcp_retries2 says: with 3, 0.2 s becomes 1.6 s and stays. Nine expiries:
/// 0.2 + 0.4 + 0.8 + 6 x 1.6 s. An orphan whose peer answers then never reaches the maximum.
#[test]
fn doublings_stop_at_tcp_retries2() {
    let few = |answered| Probing { most_doublings: 3, ..probes(Rule::ORPHAN_DEFAULT, answered) };
    assert_eq!(end(&probing(fresh(200 * MS), few(false))), 11 * S);
    assert_eq!(probing(fresh(200 * MS), few(true)).end, None);
}

/// It counts from the first expiry, answered or not, and shortens the last step; the number of probes counts beside it.
#[test]
fn a_user_timeout_ends_probes() {
    let five = |rule, answered| Probing { user_timeout_ns: Some(5 * S), ..probes(rule, answered) };
    for answered in [false, true] {
        assert_eq!(end(&probing(fresh(200 * MS), five(Rule::Retries(15), answered))), 5200 * MS);
    }
    // 0.2 + 0.4 + 0.8 + 1.6 s: the fourth expiry is the end of three probes.
    assert_eq!(end(&probing(fresh(200 * MS), five(Rule::Retries(3), false))), 3 * S);
    // In the middle: the first expiry was 3 s ago, so 2 s are left.
    let later = Stall { tries: 4, rto_ns: 3200 * MS, expires_ns: S, elapsed_ns: Some(3 * S), ..fresh(S) };
    let how = Probing { backoff: 4, ..five(Rule::Retries(15), false) };
    assert_eq!(end(&probing(later, how)), 2 * S);
}

fn dead_air() -> Keepalive {
    let silent_ns = Some(4 * S);
    Keepalive {
        unanswered: 3,
        expires_ns: 500 * MS,
        interval_ns: S,
        most: 9,
        silent_ns,
        user_timeout_ns: None,
    }
}

#[test]
fn keepalive_ends_after_its_probes() {
    assert_eq!(end(&keepalive(dead_air())), 6 * S + 500 * MS);
    assert_eq!(end(&keepalive(Keepalive { unanswered: 9, ..dead_air() })), 500 * MS);
}

/// TCP_USER_TIMEOUT takes the place of the number: at the first expiry after 10 s of silence, 6.5 s from now. Without a
/// single probe in vain never.
#[test]
fn a_user_timeout_ends_keepalive() {
    let ten = Keepalive { user_timeout_ns: Some(10 * S), ..dead_air() };
    assert_eq!(end(&keepalive(ten)), 6 * S + 500 * MS);
    assert_eq!(end(&keepalive(Keepalive { user_timeout_ns: Some(S), ..dead_air() })), 500 * MS);
    let fresh = Keepalive { unanswered: 0, user_timeout_ns: Some(S), ..dead_air() };
    assert_eq!(end(&keepalive(fresh)), S + 500 * MS);
    assert_eq!(keepalive(Keepalive { silent_ns: None, ..ten }).end, None);
}

/// Two retries and four linear time-outs: 7 s by the time rule; with a long TCP_USER_TIMEOUT only the number counts, the
/// sixth repetition is due at 11 s, and what is not answered then ends at its time-out (1, 2, 3, 4, 5, 7, 11). A short
/// one is looked at no earlier than at the second expiry.
#[test]
fn a_user_timeout_ends_syns() {
    assert_eq!(end(&syn(fresh(S), 2, 4, Some(60 * S))), 11 * S);
    assert_eq!(end(&syn(fresh(S), 2, 4, Some(3500 * MS))), 3500 * MS);
    assert_eq!(end(&syn(fresh(S), 6, 4, Some(500 * MS))), S + MS);
}
