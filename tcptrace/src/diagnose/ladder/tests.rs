//! The ladder beside what was measured (docs/kernel.md).

use super::*;

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const TICK: Option<u64> = Some(4 * MS);
const DEFAULT: Rule = Rule::Orphan { retries: 0, soft_error: false };

fn fresh(rto_ns: u64) -> Stall {
    Stall { tries: 0, rto_ns, expires_ns: rto_ns, elapsed_ns: None, rto_max_ns: RTO_MAX_NS, tick_ns: TICK }
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
    assert_eq!(end(&retransmission(fresh(204 * MS), DEFAULT)), 511 * 204 * MS);
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

/// An orphan that has reached the longest time-out dies at the next expiry, if tcp_orphan_retries is 0.
#[test]
fn a_slow_orphan_dies_at_the_longest_timeout() {
    let stall = Stall { tries: 2, rto_ns: RTO_MAX_NS, expires_ns: 7 * S, ..fresh(RTO_MAX_NS) };
    assert_eq!(end(&retransmission(stall, DEFAULT)), 7 * S);
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
    assert_eq!(end(&syn_ack(0, S, 5, RTO_MAX_NS, TICK)), 63 * S);
    assert_eq!(end(&syn_ack(1, 2 * S, 2, RTO_MAX_NS, TICK)), 6 * S);
}

/// Eight probes for an orphan whose peer is silent; for ever for a program whose peer answers.
#[test]
fn probes_end_or_do_not() {
    let how = Probing {
        backoff: 0,
        most_backoff: 15,
        answered: false,
        orphan: true,
        rule: DEFAULT,
        user_timeout_ns: None,
    };
    assert_eq!(end(&probing(fresh(204 * MS), how)), 511 * 204 * MS);
    let answered = Probing { answered: true, ..how };
    let program = Probing { orphan: false, rule: Rule::Retries(15), ..answered };
    assert_eq!(probing(fresh(204 * MS), program).end, None);
    let sum: u64 = (0..10).map(|n| (204 * MS) << n).sum();
    assert_eq!(end(&probing(fresh(204 * MS), answered)), sum + RTO_MAX_NS);
    let few = Probing { rule: Rule::Orphan { retries: 6, soft_error: false }, most_backoff: 2, ..how };
    assert_eq!(end(&probing(fresh(204 * MS), few)), (1 + 2 + 5 * 4) * 204 * MS);
    // From the first probe on, with the last wait shortened; or when the probes are used up.
    let timed = Probing { user_timeout_ns: Some(4 * S), ..answered };
    assert_eq!(end(&probing(fresh(204 * MS), timed)), 204 * MS + 4 * S);
    let both = Probing { user_timeout_ns: Some(40 * S), rule: Rule::Retries(3), orphan: false, ..how };
    assert_eq!(end(&probing(fresh(204 * MS), both)), 15 * 204 * MS);
}

#[test]
fn keepalive_ends_after_its_probes() {
    let stall = Stall { tries: 3, rto_ns: S, expires_ns: 500 * MS, elapsed_ns: Some(4 * S), ..fresh(S) };
    assert_eq!(end(&keepalive(stall, 9, None)), 6 * S + 500 * MS);
    // TCP_USER_TIMEOUT instead of the number: at the first probe after it.
    assert_eq!(end(&keepalive(stall, 2, Some(6 * S))), 2 * S + 500 * MS);
}

/// 4 retries are 6.2 s, and 30 time-outs of 204 ms are 6.12 s: lateness decides between two expiries.
#[test]
fn a_close_decision_is_said_to_be_one() {
    let ladder = retransmission(fresh(204 * MS), Rule::Retries(4));
    let End { in_ns, latest_ns } = ladder.end.expect("an end");
    assert_eq!(in_ns, 31 * 204 * MS);
    assert!(latest_ns > 63 * 204 * MS && latest_ns < 15 * S, "{latest_ns}");
    assert_eq!(ladder.rungs.len(), 4);
}

#[test]
fn the_wheel_is_as_coarse_as_the_kernels() {
    let ticks = |count: u64| slack(count * 4 * MS, TICK) / (4 * MS);
    assert_eq!([62, 63, 503, 504, 4031, 4032].map(ticks), [1, 8, 8, 64, 64, 512]);
    assert_eq!(slack(63 * S, None), 8 * S);
}

/// An ICMP error ends an orphan at the longest time-out, whatever the setting.
#[test]
fn a_soft_error_shortens_it_at_the_maximum() {
    let stall = Stall { tries: 2, rto_ns: RTO_MAX_NS, expires_ns: 7 * S, ..fresh(RTO_MAX_NS) };
    let rule = |soft_error| Rule::Orphan { retries: 12, soft_error };
    assert_eq!(end(&retransmission(stall, rule(true))), 7 * S);
    assert!(end(&retransmission(stall, rule(false))) > RTO_MAX_NS);
}
