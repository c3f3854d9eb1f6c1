//! The rest of a connection's retries: when each is due, and at which of them the kernel gives up. Pure arithmetic over
//! the kernel's rules (tcp_timer.c, inet_connection_sock.c; docs/kernel.md), for the socket as it stands.

/// TCP_RTO_MIN: the time rule counts in it, whatever the connection's own time-out is (5.10 to 7.3).
pub const RTO_MIN_NS: u64 = 200_000_000;
/// The first time-out of a SYN and of a SYN-ACK (TCP_TIMEOUT_INIT).
const RTO_FIRST_NS: u64 = 1_000_000_000;
/// TCP_RTO_MAX, where no setting says otherwise (`tcp_rto_max_ms`, 6.15).
pub const RTO_MAX_NS: u64 = 120_000_000_000;
/// No timer is shorter: a tick or two (TCP_TIMEOUT_MIN).
const TIMER_MIN_NS: u64 = 1_000_000;
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
    /// If every timer is punctual; where a time decides, that of the first expiry that comes late enough if timers are late.
    pub in_ns: u64,
    /// If every timer is as late as the wheel allows (an eighth of its time).
    pub latest_ns: u64,
}

/// What ends a stall of a connection that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A program has it: so many retries, turned into a time (tcp_retries2).
    Retries(u64),
    /// Nobody has it: `retries` likewise (tcp_orphan_retries, 0 means 8), and once the time-out has reached its maximum
    /// only `at_maximum`: 0 where the setting is 0, or after an ICMP error (tcp_orphan_retries()).
    Orphan {
        /// While the time-out still grows.
        retries: u64,
        /// When it does not grow any more.
        at_maximum: u64,
    },
    /// TCP_USER_TIMEOUT, in nanoseconds.
    UserTimeout(u64),
}

impl Rule {
    /// tcp_orphan_retries 0.
    pub const ORPHAN_DEFAULT: Self = Self::Orphan { retries: 8, at_maximum: 0 };

    /// The retries that count at an expiry of a timer of `rto_ns`; `None`: a time counts.
    fn retries(self, rto_ns: u64, rto_max_ns: u64) -> Option<u64> {
        match self {
            Self::Retries(retries) => Some(retries),
            Self::Orphan { retries, .. } if rto_ns < rto_max_ns => Some(retries),
            Self::Orphan { at_maximum, .. } => Some(at_maximum),
            Self::UserTimeout(_) => None,
        }
    }
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
    // What is reckoned leaves out how late the timers were so far.
    let past_slack_ns = if stall.elapsed_ns.is_none() { elapsed / 8 } else { 0 };
    // The clock starts at the first retransmission.
    let mut began: Option<u64> = (stall.tries > 0).then_some(0);
    while walk.goes_on() {
        let since = began.map(|began| elapsed.saturating_add(walk.at_ns - began));
        let limit_ns = match (rule, rule.retries(walk.rto_ns, stall.rto_max_ns)) {
            (Rule::UserTimeout(ns), _) => ns,
            (_, retries) => model_timeout(retries.unwrap_or(0), RTO_MIN_NS, stall.rto_max_ns),
        };
        let dead = since.is_some_and(|since| since >= limit_ns);
        walk.may_end(since.is_some_and(|since| {
            since.saturating_add(walk.slack_ns).saturating_add(past_slack_ns) >= limit_ns
        }));
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
            let spent = if stall.tries > 0 { elapsed.saturating_add(walk.at_ns) } else { walk.at_ns - began };
            next = next.min(ns.saturating_sub(spent).max(TIMER_MIN_NS));
        }
        walk.step(next, doubled);
    }
    walk.cut()
}

/// What decides how a row of window probes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Doublings so far (icsk_backoff).
    pub backoff: u32,
    /// The peer acknowledges the probes: their count begins anew each time, the back-off goes on.
    pub answered: bool,
    /// How many probes; never [`Rule::UserTimeout`], which counts beside them.
    pub rule: Rule,
    /// TCP_USER_TIMEOUT, in nanoseconds.
    pub user_timeout_ns: Option<u64>,
    /// tcp_retries2: beyond so many doublings the pace stays (tcp_send_probe0).
    pub most_doublings: u64,
}

/// A zero window: the probe timer (tcp_probe_timer). Without an end where the peer answers and a program has the socket,
/// which the kernel keeps for ever (RFC 9293, 3.8.6.1).
pub fn probing(stall: Stall, how: Probing) -> Ladder {
    let mut walk = Walk::new(stall.tries, stall.rto_ns, stall.expires_ns);
    let mut probes = if how.answered { 0 } else { stall.tries };
    let mut backoff = how.backoff;
    // The clock of TCP_USER_TIMEOUT starts at the first expiry (5.11).
    let mut began = (stall.tries > 0 || backoff > 0).then_some(0);
    let elapsed = stall.elapsed_ns.unwrap_or_else(|| stall.elapsed());
    while walk.goes_on() {
        let alive = walk.rto_ns < stall.rto_max_ns;
        let most = how.rule.retries(walk.rto_ns, stall.rto_max_ns).unwrap_or(u64::MAX);
        let spent = began
            .map(|began| if began == 0 { elapsed.saturating_add(walk.at_ns) } else { walk.at_ns - began });
        let timed = how.user_timeout_ns.is_some_and(|ns| spent.is_some_and(|spent| spent >= ns));
        let orphan = matches!(how.rule, Rule::Orphan { .. });
        if timed || u64::from(probes) >= most || (orphan && !alive && u64::from(backoff) >= most) {
            return walk.ends();
        }
        let began_at = *began.get_or_insert(walk.at_ns);
        if !how.answered {
            probes += 1;
        }
        let grows = u64::from(backoff) < how.most_doublings;
        backoff += u32::from(grows);
        let full = walk.rto_ns.saturating_mul(if grows { 2 } else { 1 }).min(stall.rto_max_ns);
        // The kernel shortens the last step (tcp_clamp_probe0_to_user_timeout, 5.11).
        let spent = if began_at == 0 { elapsed.saturating_add(walk.at_ns) } else { walk.at_ns - began_at };
        let next =
            how.user_timeout_ns.map_or(full, |ns| full.min(ns.saturating_sub(spent).max(TIMER_MIN_NS)));
        walk.step(next, full);
    }
    walk.cut()
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
/// the first (6.5), or the time that the doublings alone would take, whichever is over first. TCP_USER_TIMEOUT takes the
/// place of that time.
pub fn syn(stall: Stall, retries: u64, linear: u64, user_timeout_ns: Option<u64>) -> Ladder {
    let elapsed = syn_elapsed(stall, linear);
    let limit = user_timeout_ns.unwrap_or_else(|| model_timeout(retries, RTO_FIRST_NS, stall.rto_max_ns));
    let mut walk = Walk::new(stall.tries, stall.rto_ns, stall.expires_ns);
    while walk.goes_on() {
        let counted = u64::from(walk.number) >= retries.saturating_add(linear);
        // Not at the first expiry: nothing has been sent again yet (retransmits_timed_out).
        let timed = walk.number > 0 && elapsed.saturating_add(walk.at_ns) >= limit;
        if counted || timed {
            return walk.ends();
        }
        let full = syn_interval(&stall, u64::from(walk.number) + 2, linear);
        let spent = elapsed.saturating_add(walk.at_ns);
        let next = user_timeout_ns.map_or(full, |ns| full.min(ns.saturating_sub(spent).max(TIMER_MIN_NS)));
        walk.step(next, full);
    }
    walk.cut()
}

/// The least time since the SYN came, from what is left of the timer of its SYN-ACK: each wait is twice the one before,
/// and the present one is no shorter than that.
pub fn syn_ack_age(expires_ns: u64, rto_max_ns: u64) -> u64 {
    let mut wait_ns = RTO_FIRST_NS;
    let mut before_ns = 0_u64;
    while wait_ns < expires_ns.min(rto_max_ns) {
        before_ns = before_ns.saturating_add(wait_ns);
        wait_ns = wait_ns.saturating_mul(2).min(rto_max_ns);
    }
    before_ns.saturating_add(wait_ns.saturating_sub(expires_ns))
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

/// Keepalive probes (tcp_keepalive_timer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// In a row so far.
    pub unanswered: u32,
    /// The next, from now.
    pub expires_ns: u64,
    /// Then one every so often.
    pub interval_ns: u64,
    /// So many are the end.
    pub most: u64,
    /// Since something was heard; `None`: not told.
    pub silent_ns: Option<u64>,
    /// TCP_USER_TIMEOUT, in nanoseconds: takes the place of their number, and counts from the last that was heard.
    pub user_timeout_ns: Option<u64>,
}

/// When keepalive ends a connection. Not told what TCP_USER_TIMEOUT needs, it has no end.
pub fn keepalive(how: Keepalive) -> Ladder {
    let mut walk = Walk::new(how.unanswered, how.interval_ns, how.expires_ns);
    while walk.goes_on() {
        let silent_ns = how.silent_ns.map(|silent_ns| silent_ns.saturating_add(walk.at_ns));
        let dead = match how.user_timeout_ns {
            Some(ns) => walk.number > 0 && silent_ns.is_some_and(|silent_ns| silent_ns >= ns),
            None => u64::from(walk.number) >= how.most.max(1),
        };
        if dead {
            return walk.ends();
        }
        walk.step(how.interval_ns, how.interval_ns);
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
    /// The same, no more than needed.
    slack_ns: u64,
    /// The first expiry that may be the last, if timers are late.
    may_end_ns: Option<u64>,
    rungs: Vec<Rung>,
}

impl Walk {
    fn new(number: u32, rto_ns: u64, expires_ns: u64) -> Self {
        // The timer that runs was set for a point of the wheel already: the kernel shows that point.
        Self {
            number,
            rto_ns,
            at_ns: expires_ns,
            late_ns: 0,
            slack_ns: 0,
            may_end_ns: None,
            rungs: Vec::new(),
        }
    }

    fn goes_on(&self) -> bool {
        self.rungs.len() < MAX_RUNGS
    }

    fn step(&mut self, next_ns: u64, rto_ns: u64) {
        self.number += 1;
        self.rungs.push(Rung { number: self.number, in_ns: self.at_ns });
        self.at_ns = self.at_ns.saturating_add(next_ns);
        self.late_ns = self.late_ns.saturating_add(next_ns / 8);
        self.slack_ns = self.slack_ns.saturating_add(slack(next_ns));
        self.rto_ns = rto_ns;
    }

    fn ends(self) -> Ladder {
        // Softirqs, and what reading the clocks of two sides costs.
        const LATENCY_NS: u64 = 50_000_000;
        let latest_ns = self.at_ns.saturating_add(self.late_ns).saturating_add(LATENCY_NS);
        let in_ns = self.may_end_ns.unwrap_or(self.at_ns);
        Ladder { rungs: self.rungs, end: Some(End { in_ns, latest_ns }) }
    }

    /// Whether this expiry may be the last.
    fn may_end(&mut self, may: bool) {
        if may {
            self.may_end_ns.get_or_insert(self.at_ns);
        }
    }

    fn cut(self) -> Ladder {
        Ladder { rungs: self.rungs, end: None }
    }
}

/// How late a timer may be: the wheel has 64 slots a level, each level's eight times as long (kernel/time/timer.c). Ticks
/// of all usual kernels, as nothing here tells which it is.
fn slack(ns: u64) -> u64 {
    let of = |hz: u64| {
        let ticks = ns / (1_000_000_000 / hz);
        let mut slot = 1_u64;
        while slot < 1 << 24 && ticks >= slot * 63 {
            slot *= 8;
        }
        slot * (1_000_000_000 / hz)
    };
    [100, 250, 300, 1000].into_iter().map(of).max().unwrap_or(0)
}

#[cfg(test)]
mod tests;
