//! The rest of a connection's retries: when each is due, and at which of them the kernel gives up. Pure arithmetic over
//! the kernel's rules (tcp_timer.c, inet_connection_sock.c; docs/kernel.md), for the socket as it stands.

/// TCP_RTO_MIN: the time rule counts in it, whatever the connection's own time-out is (5.10 to 7.3).
pub const RTO_MIN_NS: u64 = 200_000_000;
/// The first time-out of a SYN and of a SYN-ACK (TCP_TIMEOUT_INIT).
const RTO_FIRST_NS: u64 = 1_000_000_000;
/// TCP_RTO_MAX, where no setting says otherwise (`tcp_rto_max_ms`, 6.15).
pub const RTO_MAX_NS: u64 = 120_000_000_000;
/// A step that a time-out of the program shortens is this long at least: a tick or two.
const SHORTEST_NS: u64 = 1_000_000;
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
    /// If every timer is punctual; where the lateness of timers decides which expiry is the last, the first of them.
    pub in_ns: u64,
    /// If every timer is as late as the wheel allows ([`slack`]).
    pub latest_ns: u64,
}

/// What ends a stall of a connection that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// So many retries, turned into a time (tcp_retries2).
    Retries(u64),
    /// An orphan under tcp_orphan_retries: 0 means 8, but none any more once the time-out has reached its maximum.
    Orphan {
        /// tcp_orphan_retries.
        retries: u64,
        /// An ICMP message came, or there is no route (sk_err_soft): none at the maximum, whatever the setting.
        soft_error: bool,
    },
    /// TCP_USER_TIMEOUT, in nanoseconds.
    UserTimeout(u64),
}

impl Rule {
    /// How many retries there are (tcp_orphan_retries()). `alive`: the time-out has not reached its maximum.
    fn retries(self, alive: bool) -> u64 {
        match self {
            Self::Retries(retries) => retries,
            Self::Orphan { soft_error: true, .. } if !alive => 0,
            Self::Orphan { retries: 0, .. } if alive => 8,
            Self::Orphan { retries, .. } => retries,
            Self::UserTimeout(_) => u64::MAX,
        }
    }

    /// The time since the first retransmission at which an expiry is the last.
    fn limit_ns(self, stall: &Stall, rto_ns: u64) -> u64 {
        match self {
            Self::UserTimeout(ns) => ns,
            _ => model_timeout(self.retries(rto_ns < stall.rto_max_ns), RTO_MIN_NS, stall.rto_max_ns),
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
    /// How long a tick of the kernel's clock is; `None`: unknown.
    pub tick_ns: Option<u64>,
}

impl Stall {
    /// Since the first retransmission, and how much longer it may be: known, or the sum of the time-outs since then.
    fn elapsed(&self) -> (u64, u64) {
        if self.tries == 0 {
            return (0, 0);
        }
        // As the kernel shows it: exact to a millisecond.
        self.elapsed_ns.map_or_else(
            || {
                let earlier = (1..self.tries).map(|back| self.rto_ns >> back.min(63));
                let (sum, late) = earlier.fold((0_u64, 0_u64), |(sum, late), ns| {
                    (sum.saturating_add(ns), late.saturating_add(slack(ns, self.tick_ns)))
                });
                (sum.saturating_add(self.rto_ns.saturating_sub(self.expires_ns)), late)
            },
            |known| (known, 1_000_000),
        )
    }
}

/// How late a timer that was set for so long may run: the wheel's slots are 1, 8, 64 ... ticks wide, from 63, 504, 4032 ...
/// ticks on, and it rounds up (kernel/time/timer.c, calc_wheel_index; 5.10 to 7.3).
pub fn slack(ns: u64, tick_ns: Option<u64>) -> u64 {
    let Some(tick_ns) = tick_ns.filter(|tick| *tick > 0) else {
        // 8 of 63, at worst.
        return ns / 63 * 8;
    };
    let ticks = ns.div_ceil(tick_ns);
    let levels = (0..7_u32).take_while(|level| ticks >= 63 << (3 * level)).count();
    tick_ns.saturating_mul(1 << (3 * levels))
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
    let mut walk = Walk::new(&stall);
    let (elapsed, doubt) = stall.elapsed();
    // The clock starts at the first retransmission: when, and how late that may be.
    let mut began = (stall.tries > 0).then_some((0, 0));
    while walk.goes_on() {
        let (began_ns, began_late) = *began.get_or_insert((walk.at_ns, walk.late_ns));
        if walk.number > 0 {
            let since = elapsed.saturating_add(walk.at_ns - began_ns);
            let limit = rule.limit_ns(&stall, walk.rto_ns);
            let late = doubt.saturating_add(walk.late_ns.saturating_sub(began_late));
            if walk.is_last(since >= limit, since.saturating_add(late) >= limit) {
                return walk.ends();
            }
        }
        let doubled = walk.rto_ns.saturating_mul(2).min(stall.rto_max_ns);
        // The kernel shortens the last step (tcp_clamp_rto_to_user_timeout).
        let left = match rule {
            Rule::UserTimeout(ns) => Some(ns.saturating_sub(elapsed.saturating_add(walk.at_ns - began_ns))),
            _ => None,
        };
        walk.step(doubled, left);
    }
    walk.cut()
}

/// What ends the probing of a closed window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probing {
    /// Doublings so far.
    pub backoff: u32,
    /// There are no more doublings than this (tcp_retries2), whoever has the socket.
    pub most_backoff: u64,
    /// The peer acknowledges the probes, so that their count starts again, but not the doublings.
    pub answered: bool,
    /// Nobody has the socket.
    pub orphan: bool,
    /// How many probes; never [`Rule::UserTimeout`].
    pub rule: Rule,
    /// TCP_USER_TIMEOUT, in nanoseconds: beside the number.
    pub user_timeout_ns: Option<u64>,
}

/// A closed window: the probe timer (tcp_probe_timer). A program's socket whose peer answers goes on for ever.
pub fn probing(stall: Stall, how: Probing) -> Ladder {
    let mut walk = Walk::new(&stall);
    let mut probes = if how.answered { 0 } else { stall.tries };
    let mut backoff = how.backoff;
    let base_ns = stall.rto_ns >> how.backoff.min(63);
    // The clock starts when the timer expires for the first time.
    let (elapsed, _) = Stall { tries: how.backoff, ..stall }.elapsed();
    let mut began = (how.backoff > 0).then_some(0);
    while walk.goes_on() {
        let began_ns = *began.get_or_insert(walk.at_ns);
        let since = elapsed.saturating_add(walk.at_ns - began_ns);
        let alive = walk.rto_ns < stall.rto_max_ns;
        let most = how.rule.retries(alive);
        let timed_out = since > 0 && how.user_timeout_ns.is_some_and(|ns| since >= ns);
        let dead =
            timed_out || u64::from(probes) >= most || (how.orphan && !alive && u64::from(backoff) >= most);
        if walk.is_last(dead, dead) {
            return walk.ends();
        }
        if !how.answered {
            probes += 1;
        }
        backoff += u32::from(u64::from(backoff) < how.most_backoff);
        // Ten doublings at most (tcp_probe0_when).
        let next = base_ns.saturating_mul(1 << backoff.min(10)).min(stall.rto_max_ns);
        walk.step(next, how.user_timeout_ns.map(|ns| ns.saturating_sub(since)));
    }
    walk.cut()
}

/// How long the SYN's time-out number `number` is: the first `linear` repetitions keep the pace of the first (6.5).
pub fn syn_interval(stall: &Stall, number: u64, linear: u64) -> u64 {
    let base = RTO_FIRST_NS.min(stall.rto_ns.max(1));
    let doublings = number.saturating_sub(linear + 1).min(40);
    base.saturating_mul(1 << doublings).min(stall.rto_max_ns)
}

/// Since the first SYN was sent, and how much longer it may be.
pub fn syn_elapsed(stall: &Stall, linear: u64) -> (u64, u64) {
    if let Some(known) = stall.elapsed_ns {
        return (known, 1_000_000);
    }
    let tries = u64::from(stall.tries);
    let sent = (1..=tries).map(|number| syn_interval(stall, number, linear));
    let (sum, late) = sent.fold((0, 0), |(sum, late), ns| (sum + ns, late + slack(ns, stall.tick_ns)));
    (sum + syn_interval(stall, tries + 1, linear).saturating_sub(stall.expires_ns), late)
}

/// A SYN that is not answered (tcp_write_timeout, SYN_SENT): a number of tries, of which `linear` come at the pace of
/// the first (6.5), or the time that the doublings alone would take, or TCP_USER_TIMEOUT, whichever is over first. The
/// clock of all starts with the first SYN.
pub fn syn(stall: Stall, retries: u64, linear: u64, user_timeout_ns: Option<u64>) -> Ladder {
    let (elapsed, doubt) = syn_elapsed(&stall, linear);
    let modelled = model_timeout(retries, RTO_FIRST_NS, stall.rto_max_ns);
    // With a TCP_USER_TIMEOUT the kernel does not ask for the other time.
    let limit = user_timeout_ns.unwrap_or(modelled);
    let mut walk = Walk::new(&stall);
    while walk.goes_on() {
        let since = elapsed.saturating_add(walk.at_ns);
        let counted = u64::from(walk.number) >= retries.saturating_add(linear);
        let timed = |since: u64| walk.number > 0 && since >= limit;
        let (surely, perhaps) =
            (timed(since), timed(since.saturating_add(doubt).saturating_add(walk.late_ns)));
        if walk.is_last(counted || surely, counted || perhaps) {
            return walk.ends();
        }
        let next = syn_interval(&stall, u64::from(walk.number) + 2, linear);
        walk.step(next, user_timeout_ns.map(|ns| ns.saturating_sub(since)));
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
pub fn syn_ack(
    timeouts: u32,
    expires_ns: u64,
    retries: u64,
    rto_max_ns: u64,
    tick_ns: Option<u64>,
) -> Ladder {
    let interval = |number: u32| RTO_FIRST_NS.saturating_mul(1 << number.min(30)).min(rto_max_ns);
    let rto_ns = interval(timeouts);
    let mut walk =
        Walk::new(&Stall { tries: timeouts, rto_ns, expires_ns, elapsed_ns: None, rto_max_ns, tick_ns });
    while walk.goes_on() {
        let counted = u64::from(walk.number) >= retries;
        if walk.is_last(counted, counted) {
            return walk.ends();
        }
        walk.step(interval(walk.number + 1), None);
    }
    walk.cut()
}

/// Keepalive probes (tcp_keepalive_timer): `tries` unanswered so far, one every `rto_ns`, `most` of them; or, and then
/// whatever their number, until the peer has been silent for TCP_USER_TIMEOUT. `elapsed_ns`: its silence so far.
pub fn keepalive(stall: Stall, most: u64, user_timeout_ns: Option<u64>) -> Ladder {
    let mut walk = Walk::new(&stall);
    let silent = stall.elapsed_ns.unwrap_or(0);
    while walk.goes_on() {
        let dead = |late: u64| match user_timeout_ns {
            Some(ns) => walk.number > 0 && silent.saturating_add(walk.at_ns).saturating_add(late) >= ns,
            None => u64::from(walk.number) >= most.max(1),
        };
        let (surely, perhaps) = (dead(0), dead(walk.late_ns));
        if walk.is_last(surely, perhaps) {
            return walk.ends();
        }
        walk.step(stall.rto_ns, None);
    }
    walk.cut()
}

/// A timer that expires once, after `whole_ns` in all.
pub fn single(expires_ns: u64, whole_ns: u64, tick_ns: Option<u64>) -> Ladder {
    let rto_ns = whole_ns.max(expires_ns);
    let stall = Stall { tries: 0, rto_ns, expires_ns, elapsed_ns: None, rto_max_ns: rto_ns, tick_ns };
    Walk::new(&stall).ends()
}

/// Walks from expiry to expiry.
struct Walk {
    /// Expiries before the one at `at_ns`.
    number: u32,
    /// The time-out of the expiry at `at_ns`, without what shortens it.
    rto_ns: u64,
    at_ns: u64,
    late_ns: u64,
    tick_ns: Option<u64>,
    rungs: Vec<Rung>,
    /// The first expiry that may be the last.
    first_ns: Option<u64>,
}

impl Walk {
    fn new(stall: &Stall) -> Self {
        // The kernel shows for when the timer was set, not the slot of the wheel that it is in.
        let late_ns = slack(stall.rto_ns.max(stall.expires_ns), stall.tick_ns);
        Self {
            number: stall.tries,
            rto_ns: stall.rto_ns,
            at_ns: stall.expires_ns,
            late_ns,
            tick_ns: stall.tick_ns,
            rungs: Vec::new(),
            first_ns: None,
        }
    }

    fn goes_on(&self) -> bool {
        self.rungs.len() < MAX_RUNGS
    }

    /// Whether this expiry is the last, surely or if the timers before it are late.
    fn is_last(&mut self, surely: bool, perhaps: bool) -> bool {
        if perhaps {
            self.first_ns.get_or_insert(self.at_ns);
        }
        surely
    }

    /// To the next expiry, `rto_ns` later; `left_ns`: or sooner, when a time is over.
    fn step(&mut self, rto_ns: u64, left_ns: Option<u64>) {
        self.number += 1;
        self.rungs.push(Rung { number: self.number, in_ns: self.at_ns });
        self.rto_ns = rto_ns;
        match left_ns.map(|ns| ns.max(SHORTEST_NS)).filter(|left| *left < rto_ns) {
            Some(left) => {
                self.at_ns = self.at_ns.saturating_add(left);
                // What was late before has been taken off, as far as it was not later than that.
                let before = self.late_ns.saturating_sub(left);
                self.late_ns = slack(left, self.tick_ns).max(before);
            }
            None => {
                self.at_ns = self.at_ns.saturating_add(rto_ns);
                self.late_ns = self.late_ns.saturating_add(slack(rto_ns, self.tick_ns));
            }
        }
    }

    fn ends(self) -> Ladder {
        // Softirqs, and what reading the clocks of two sides costs.
        const LATENCY_NS: u64 = 50_000_000;
        let latest_ns = self.at_ns.saturating_add(self.late_ns).saturating_add(LATENCY_NS);
        let in_ns = self.first_ns.unwrap_or(self.at_ns);
        let rungs = self.rungs.into_iter().filter(|rung| rung.in_ns < in_ns);
        Ladder { rungs: rungs.collect(), end: Some(End { in_ns, latest_ns }) }
    }

    fn cut(self) -> Ladder {
        Ladder { rungs: self.rungs, end: None }
    }
}

#[cfg(test)]
mod tests;
