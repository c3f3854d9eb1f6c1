//! The rest of a connection's retries: when each is due, and at which of them the kernel gives up. Pure arithmetic over
//! the kernel's rules (tcp_timer.c, inet_connection_sock.c; docs/kernel.md), for the socket as it stands.

/// TCP_RTO_MIN: the time rule counts in it, whatever the connection's own time-out is (5.10 to 7.3).
const RTO_MIN_NS: u64 = 200_000_000;
/// The first time-out of a SYN and of a SYN-ACK (TCP_TIMEOUT_INIT).
const RTO_FIRST_NS: u64 = 1_000_000_000;
/// TCP_RTO_MAX, where no setting says otherwise (`tcp_rto_max_ms`, 6.15).
pub const RTO_MAX_NS: u64 = 120_000_000_000;
/// No rule allows more; a ladder that does not end before is cut.
const MAX_RUNGS: usize = 64;

/// One expiry of the timer that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The how many-th in this stall.
    pub number: u32,
    /// From now, in nanoseconds, if every timer is punctual.
    pub in_ns: u64,
}

/// What is still to come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    /// Expiries at which the segment is sent again.
    pub rungs: Vec<Rung>,
    /// The expiry at which the kernel gives up; `None`: it goes on for ever, or the ladder was cut.
    pub end: Option<End>,
}

/// When the kernel gives up, from now, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// If every timer is punctual.
    pub in_ns: u64,
    /// If every timer is as late as the wheel allows (an eighth of its time).
    pub latest_ns: u64,
}

/// What ends a stall of a connection that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// So many retries, turned into a time (tcp_retries2, tcp_orphan_retries).
    Retries(u64),
    /// An orphan under tcp_orphan_retries 0: 8, but none any more once the time-out has reached its maximum.
    OrphanDefault,
    /// TCP_USER_TIMEOUT, in nanoseconds.
    UserTimeout(u64),
}

/// A stall: the timer as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Expiries so far.
    pub tries: u32,
    /// The time-out that runs now, back-off included.
    pub rto_ns: u64,
    /// Until it expires.
    pub expires_ns: u64,
    /// Since the first retransmission; `None`: reckoned from the time-outs.
    pub elapsed_ns: Option<u64>,
    /// The longest time-out.
    pub rto_max_ns: u64,
}

impl Stall {
    /// Since the first retransmission: known, or the sum of the time-outs since then.
    fn elapsed(&self) -> u64 {
        if self.tries == 0 {
            return 0;
        }
        self.elapsed_ns.unwrap_or_else(|| {
            let earlier = (1..self.tries).map(|back| self.rto_ns >> back.min(63)).sum::<u64>();
            earlier + self.rto_ns.saturating_sub(self.expires_ns)
        })
    }
}

/// The limit of the time rule: `n` doublings of the shortest time-out, then steps of the longest (tcp_model_timeout).
pub fn model_timeout(retries: u64, base_ns: u64, rto_max_ns: u64) -> u64 {
    let threshold = u64::from((rto_max_ns / base_ns).max(1).ilog2());
    let doubled = |n: u64| ((2_u64 << n.min(62)) - 1).saturating_mul(base_ns);
    if retries <= threshold {
        doubled(retries)
    } else {
        doubled(threshold).saturating_add((retries - threshold).saturating_mul(rto_max_ns))
    }
}

/// Data or a FIN that is not acknowledged: the retransmission timer (tcp_write_timeout).
pub fn retransmission(stall: Stall, rule: Rule) -> Ladder {
    let mut walk = Walk::new(stall.tries, stall.rto_ns, stall.expires_ns);
    let elapsed = stall.elapsed();
    // The clock starts at the first retransmission.
    let mut began: Option<u64> = (stall.tries > 0).then_some(0);
    while walk.goes_on() {
        let since = began.map(|began| elapsed + walk.at_ns - began);
        let dead = since.is_some_and(|since| match rule {
            Rule::Retries(retries) => since >= model_timeout(retries, RTO_MIN_NS, stall.rto_max_ns),
            Rule::OrphanDefault => {
                let retries = if walk.rto_ns < stall.rto_max_ns { 8 } else { 0 };
                since >= model_timeout(retries, RTO_MIN_NS, stall.rto_max_ns)
            }
            Rule::UserTimeout(ns) => since >= ns,
        });
        if dead {
            return walk.ends();
        }
        if began.is_none() {
            began = Some(walk.at_ns);
        }
        let mut next = walk.rto_ns.saturating_mul(2).min(stall.rto_max_ns);
        let doubled = next;
        if let (Rule::UserTimeout(ns), Some(began)) = (rule, began) {
            // The kernel shortens the last step (tcp_clamp_rto_to_user_timeout).
            let spent = if stall.tries > 0 { elapsed + walk.at_ns } else { walk.at_ns - began };
            next = next.min(ns.saturating_sub(spent).max(1_000_000));
        }
        walk.step(next, doubled);
    }
    walk.cut()
}

/// A zero window: the probe timer (tcp_probe_timer). `answered`: the peer acknowledges the probes, so only the back-off
/// grows. `retries`: `None` for a program's socket whose peer answers, which the kernel keeps for ever.
pub fn probing(stall: Stall, backoff: u32, answered: bool, rule: Rule, orphan: bool) -> Ladder {
    let mut walk = Walk::new(stall.tries, stall.rto_ns, stall.expires_ns);
    let mut probes = if answered { 0 } else { stall.tries };
    let mut backoff = backoff;
    while walk.goes_on() {
        let alive = walk.rto_ns < stall.rto_max_ns;
        let dead = match rule {
            Rule::UserTimeout(ns) => stall.elapsed_ns.unwrap_or_else(|| stall.elapsed()) + walk.at_ns >= ns,
            Rule::Retries(most) => {
                u64::from(probes) >= most || (orphan && !alive && u64::from(backoff) >= most)
            }
            Rule::OrphanDefault => probes >= 8 || !alive,
        };
        if dead {
            return walk.ends();
        }
        if !answered {
            probes += 1;
        }
        backoff += 1;
        let next = walk.rto_ns.saturating_mul(2).min(stall.rto_max_ns);
        walk.step(next, next);
    }
    if answered && !orphan && !matches!(rule, Rule::UserTimeout(_)) {
        Ladder { end: None, ..walk.cut() }
    } else {
        walk.cut()
    }
}

/// How long the SYN's time-out number `number` is: the first `linear` repetitions keep the pace of the first (6.5).
pub fn syn_interval(stall: &Stall, number: u64, linear: u64) -> u64 {
    let base = RTO_FIRST_NS.min(stall.rto_ns.max(1));
    let doublings = number.saturating_sub(linear + 1).min(40);
    base.saturating_mul(1 << doublings).min(stall.rto_max_ns)
}

/// Since the first SYN was sent.
pub fn syn_elapsed(stall: Stall, linear: u64) -> u64 {
    let tries = u64::from(stall.tries);
    let sent: u64 = (1..=tries).map(|number| syn_interval(&stall, number, linear)).sum();
    sent + syn_interval(&stall, tries + 1, linear).saturating_sub(stall.expires_ns)
}

/// A SYN that is not answered (tcp_write_timeout, SYN_SENT): a number of tries, of which `linear` come at the pace of
/// the first (6.5), or the time that the doublings alone would take, whichever is over first.
pub fn syn(stall: Stall, retries: u64, linear: u64) -> Ladder {
    let elapsed = syn_elapsed(stall, linear);
    let limit = model_timeout(retries, RTO_FIRST_NS, stall.rto_max_ns);
    let mut walk = Walk::new(stall.tries, stall.rto_ns, stall.expires_ns);
    while walk.goes_on() {
        let counted = u64::from(walk.number) >= retries + linear;
        let timed = walk.number > 0 && elapsed + walk.at_ns >= limit;
        if counted || timed {
            return walk.ends();
        }
        let next = syn_interval(&stall, u64::from(walk.number) + 2, linear);
        walk.step(next, next);
    }
    walk.cut()
}

/// A SYN-ACK that is not answered (reqsk_timer_handler).
pub fn syn_ack(timeouts: u32, expires_ns: u64, retries: u64, rto_max_ns: u64) -> Ladder {
    let interval = |number: u32| RTO_FIRST_NS.saturating_mul(1 << number.min(30)).min(rto_max_ns);
    let mut walk = Walk::new(timeouts, interval(timeouts), expires_ns);
    while walk.goes_on() {
        if u64::from(walk.number) >= retries {
            return walk.ends();
        }
        let next = interval(walk.number + 1);
        walk.step(next, next);
    }
    walk.cut()
}

/// Keepalive probes (tcp_keepalive_timer): `unanswered` so far, the next in `expires_ns`, one every `interval_ns`.
pub fn keepalive(unanswered: u32, expires_ns: u64, interval_ns: u64, most: u64) -> Ladder {
    let mut walk = Walk::new(unanswered, interval_ns, expires_ns);
    while walk.goes_on() {
        if u64::from(walk.number) >= most.max(1) {
            return walk.ends();
        }
        walk.step(interval_ns, interval_ns);
    }
    walk.cut()
}

/// A timer that expires once.
pub fn single(expires_ns: u64) -> Ladder {
    Walk::new(0, expires_ns, expires_ns).ends()
}

/// Walks from expiry to expiry.
struct Walk {
    /// Expiries before the one at `at_ns`.
    number: u32,
    /// The time-out of the expiry at `at_ns`, without what shortens it.
    rto_ns: u64,
    at_ns: u64,
    late_ns: u64,
    rungs: Vec<Rung>,
}

impl Walk {
    fn new(number: u32, rto_ns: u64, expires_ns: u64) -> Self {
        // The timer that runs was set for a point of the wheel already: the kernel shows that point.
        Self { number, rto_ns, at_ns: expires_ns, late_ns: 0, rungs: Vec::new() }
    }

    fn goes_on(&self) -> bool {
        self.rungs.len() < MAX_RUNGS
    }

    fn step(&mut self, next_ns: u64, rto_ns: u64) {
        self.number += 1;
        self.rungs.push(Rung { number: self.number, in_ns: self.at_ns });
        self.at_ns = self.at_ns.saturating_add(next_ns);
        self.late_ns = self.late_ns.saturating_add(next_ns / 8);
        self.rto_ns = rto_ns;
    }

    fn ends(self) -> Ladder {
        // Softirqs, and what reading the clocks of two sides costs.
        const LATENCY_NS: u64 = 50_000_000;
        let latest_ns = self.at_ns.saturating_add(self.late_ns).saturating_add(LATENCY_NS);
        Ladder { rungs: self.rungs, end: Some(End { in_ns: self.at_ns, latest_ns }) }
    }

    fn cut(self) -> Ladder {
        Ladder { rungs: self.rungs, end: None }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(end(&retransmission(fresh(204 * MS), Rule::OrphanDefault)), 511 * 204 * MS);
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
        assert_eq!(end(&retransmission(stall, Rule::OrphanDefault)), 7 * S);
    }

    /// 131 s from 6.5 on, 127 s before; few retries end by time, not by number.
    #[test]
    fn syns_end_as_measured() {
        assert_eq!(end(&syn(fresh(S), 6, 4)), 131 * S);
        assert_eq!(end(&syn(fresh(S), 6, 0)), 127 * S);
        assert_eq!(end(&syn(fresh(S), 2, 4)), 7 * S);
        assert_eq!(end(&syn(fresh(S), 1, 0)), 3 * S);
        let times: Vec<_> = syn(fresh(S), 6, 4).rungs.iter().map(|rung| rung.in_ns / S).collect();
        assert_eq!(times, [1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
        let later = Stall { tries: 5, rto_ns: 2 * S, expires_ns: S, ..fresh(S) };
        assert_eq!(6 * S + end(&syn(later, 6, 4)), 131 * S);
    }

    #[test]
    fn syn_acks_end_as_measured() {
        assert_eq!(end(&syn_ack(0, S, 5, RTO_MAX_NS)), 63 * S);
        assert_eq!(end(&syn_ack(1, 2 * S, 2, RTO_MAX_NS)), 6 * S);
    }

    /// Eight probes for an orphan whose peer is silent; for ever for a program whose peer answers.
    #[test]
    fn probes_end_or_do_not() {
        let silent = probing(fresh(204 * MS), 0, false, Rule::OrphanDefault, true);
        assert_eq!(end(&silent), 511 * 204 * MS);
        let answered = probing(fresh(204 * MS), 0, true, Rule::Retries(15), false);
        assert_eq!(answered.end, None);
        let orphan = probing(fresh(204 * MS), 0, true, Rule::OrphanDefault, true);
        let sum: u64 = (0..10).map(|n| (204 * MS) << n).sum();
        assert_eq!(end(&orphan), sum + RTO_MAX_NS);
    }

    #[test]
    fn keepalive_ends_after_its_probes() {
        assert_eq!(end(&keepalive(3, 500 * MS, S, 9)), 6 * S + 500 * MS);
    }
}
