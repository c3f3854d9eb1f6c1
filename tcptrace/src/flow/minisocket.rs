//! What goes on after CLOSE: the timewait minisockets, in TIME_WAIT or (orphans that wait for the peer's FIN) in
//! FIN_WAIT2. No tracepoint ever mentions them (docs/kernel.md). They begin by the rule of `cause.rs`, end by the
//! kernel's timers, and whoever can ask the kernel in between is told what to ask: [`Question`].

mod asking;
mod due;
mod table;

pub(super) use table::{Begun, Minisocket, Minisockets};

use super::{
    Entry, FlowId, Known, Ledger, Role, Span, What, Who,
    cause::{Cause, Verdict},
    owner::{Owner, Process, Source},
};
use crate::{
    event::{Ends, TcpState},
    sight::{Kind, Sight, Taken},
};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// TIME_WAIT lasts this long, whatever anybody configures (TCP_TIMEWAIT_LEN, every kernel).
pub const TIME_WAIT_NS: u64 = 60_000_000_000;
/// `tcp_fin_timeout`, if nobody changed it.
pub const FIN_TIMEOUT_NS: u64 = 60_000_000_000;
/// Timers this long expire late: the wheel's steps are 2 s wide at 60 s (5.10 to 7.3 took 60 to 62 s).
pub const TIMER_SLACK_NS: u64 = 2_200_000_000;
/// A minisocket that is due is asked for again after this time.
const ASK_AGAIN_NS: u64 = 200_000_000;
/// An orphan in FIN_WAIT2 is asked for again after one part in this many of its age,
const LOOKS_A_LIFE: u64 = 8;
/// but not before this.
const LEAST_PAUSE_NS: u64 = 20_000_000;
/// An RST, or a SYN, is traced before it is sent: a minisocket that it may remove is asked for after this time,
const SETTLE_NS: u64 = 5_000_000;
/// and in at most so many namespaces, where several use the same addresses.
const MAX_PEERS: usize = 8;

/// What the namespace's settings say about minisockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `tcp_fin_timeout`, in nanoseconds.
    pub fin_timeout_ns: u64,
    /// `tcp_max_tw_buckets`; beyond it the kernel makes none. `None`: unknown.
    pub max_minisockets: Option<u64>,
}

impl Default for Limits {
    /// The kernel's own, where a namespace could not be asked.
    fn default() -> Self {
        Self { fin_timeout_ns: FIN_TIMEOUT_NS, max_minisockets: None }
    }
}

impl Limits {
    /// How long a minisocket lasts from its beginning. With a tcp_fin_timeout above 60 s an orphan first stays a full
    /// socket; the minisocket then gets the part above 60 s (seen on 5.10, 6.18, 7.3).
    fn life(&self, state: TcpState) -> u64 {
        match (state, self.fin_timeout_ns) {
            (TcpState::TimeWait, _) => TIME_WAIT_NS,
            (_, ns @ ..=TIME_WAIT_NS) => ns,
            (_, ns) => ns - TIME_WAIT_NS,
        }
    }
}

/// Something only the kernel knows: is this socket there, and in which state?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom the answer is for.
    pub(super) subject: Subject,
    /// Where to ask.
    pub netns: u32,
    /// The socket's ends.
    pub ends: Ends,
    /// Its cookie; 0: unknown.
    pub cookie: u64,
}

/// Whom a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A minisocket, by its number.
    Minisocket(u64),
    /// A flow, by its key.
    Flow(u64),
}

/// A socket that leaves its place to a minisocket.
pub(super) struct Beginning {
    pub who: Who,
    pub closed: Option<Owner>,
    /// The state it left.
    pub old: TcpState,
    /// The minisocket's state.
    pub state: TcpState,
    pub time_ns: u64,
    /// Nobody had asked for the socket's cookie before the event of its end. The kernel copies the cookie into the
    /// minisocket before that event (tcp_time_wait), so there it is another one.
    pub nameless: bool,
    /// What a probe said of it.
    pub begun: Option<Begun>,
}

impl Ledger {
    /// What a namespace's settings say. Without them the kernel's defaults are assumed.
    pub fn set_limits(&mut self, netns: u32, limits: Limits) {
        self.minisockets.set_limits(netns, limits);
    }

    /// A minisocket takes the place of a socket: so says the rule. The kernel is to be asked.
    pub(super) fn begin_minisocket(&mut self, beginning: Beginning, out: &mut Vec<Entry>) {
        let Beginning { who, closed, old, state, time_ns, nameless, begun } = beginning;
        if nameless && let Some(number) = self.minisockets.at(who.netns, &who.ends) {
            // A dump has shown it already.
            self.minisockets.ask_now(number);
            return;
        }
        let limits = self.minisockets.limits(who.netns);
        let there = self.minisockets.count.get(&who.netns).copied().unwrap_or(0);
        // The settings may have changed since, and our count need not be the kernel's: asking is better.
        let doubtful = begun.is_none() && limits.max_minisockets.is_some_and(|most| there >= most);
        self.replaced(who.netns, &who.ends, time_ns, out);
        self.make_room();
        let ends_ns = match begun {
            Some(begun) => self.minisockets.expiry(&begun, limits),
            None => time_ns.saturating_add(limits.life(state)),
        };
        let probed = begun.is_some() && self.capabilities.minisockets;
        let (opened, opened_source) = split(who.owner);
        let (closed, closed_source) = split(closed);
        let number = self.minisockets.insert(Minisocket {
            id: who.id,
            ends: who.ends,
            netns: who.netns,
            role: who.role,
            state,
            since_ns: time_ns,
            exact: true,
            ends_ns,
            opened,
            opened_source,
            closed,
            closed_source,
            untold: Some(old),
            doubtful,
            nameless,
            ask_ns: 0,
            probed,
            round: self.round,
        });
        self.minisockets.plan_end(number);
        if begun.is_some() {
            self.tell_beginning(number, Known::Probe, out);
        } else if !self.minisockets.ask_now(number) {
            self.believe_beginning(number, out);
        }
    }

    /// Nobody can be asked whether it has begun. `false`: then it has not.
    fn believe_beginning(&mut self, number: u64, out: &mut Vec<Entry>) -> bool {
        let begun = !self.minisockets.known.get(&number).is_some_and(|m| m.untold.is_some() && m.doubtful);
        if begun {
            self.tell_beginning(number, Known::Rule, out);
        } else {
            self.totals.unmade += 1;
            self.minisockets.remove(number);
        }
        begun
    }

    /// The peer, which we see too, sends its FIN: the minisocket changes now, or soon.
    pub(super) fn peer_closes(&mut self, netns: u32, peer: &Ends) {
        if let Some(number) = self.waiting_for(netns, peer, u64::MAX) {
            self.minisockets.ask_now(number);
        }
    }

    /// The minisocket that waits for this peer's FIN.
    fn waiting_for(&self, netns: u32, peer: &Ends, time_ns: u64) -> Option<u64> {
        let ours = peer.turned_round();
        let waits =
            |(_, m): &(u64, &Minisocket)| m.state == TcpState::FinWait2 && m.since_ns <= time_ns && !m.probed;
        let mut candidates = self.minisockets.with_ends(&ours).filter(waits);
        // Another namespace may use the same addresses: without a choice it is the one, with a choice nobody knows.
        let first = candidates.next().filter(|_| candidates.next().is_none());
        let here = self.minisockets.with_ends(&ours).filter(waits).find(|(_, m)| m.netns == netns);
        here.or(first).map(|(number, _)| number)
    }

    /// The peer's FIN reached the minisocket: the peer, which we see too, was told so.
    pub(super) fn peer_closed(&mut self, netns: u32, peer: &Ends, time_ns: u64, out: &mut Vec<Entry>) {
        let Some(number) = self.waiting_for(netns, peer, time_ns) else { return };
        self.become_time_wait(number, time_ns, time_ns.saturating_add(TIME_WAIT_NS), Known::Peer, out);
        self.minisockets.ask_now(number);
    }

    pub(super) fn become_time_wait(
        &mut self,
        number: u64,
        since_ns: u64,
        ends_ns: u64,
        known: Known,
        out: &mut Vec<Entry>,
    ) {
        let Some(minisocket) = self.minisockets.known.get_mut(&number) else { return };
        let since_ns = since_ns.max(minisocket.since_ns);
        minisocket.untold = None;
        out.push(minisocket.enter(TcpState::TimeWait, since_ns, known));
        self.totals.inferred(TcpState::FinWait2, TcpState::TimeWait);
        minisocket.ends_ns = ends_ns;
        self.minisockets.plan_end(number);
    }

    /// A new connection has these ends: the kernel took them from the minisocket (tcp_tw_reuse, or a SYN that came in).
    pub(super) fn replaced(&mut self, netns: u32, ends: &Ends, time_ns: u64, out: &mut Vec<Entry>) {
        let here = |(_, m): &(u64, &Minisocket)| m.netns == netns && m.since_ns <= time_ns;
        let found = self.minisockets.with_ends(ends).find(here).map(|(number, _)| number);
        if let Some(number) = found {
            self.end_minisocket(number, time_ns, Known::Reuse, out);
        }
    }

    /// A minisocket sent an RST, or somebody wants to connect with its ends: the kernel may remove it now.
    pub(super) fn doubt_minisocket(&mut self, netns: u32, ends: &Ends, time_ns: u64) {
        let asks = |(_, m): &(u64, &Minisocket)| m.netns == netns && !m.probed;
        let found = self.minisockets.with_ends(ends).find(asks).map(|(number, _)| number);
        if let Some(number) = found {
            self.minisockets.plan(number, time_ns.saturating_add(SETTLE_NS));
        }
    }

    /// The other end sends an RST, or a SYN: it may remove the minisocket at this end, wherever that is.
    pub(super) fn doubt_peer(&mut self, netns: u32, peer: &Ends, time_ns: u64) {
        let ours = peer.turned_round();
        let asks = |(_, m): &(u64, &Minisocket)| !m.probed;
        let all = self.minisockets.with_ends(&ours).filter(asks).map(|(number, m)| (number, m.netns));
        let all: Vec<_> = all.collect();
        let here = all.iter().any(|(_, there)| *there == netns);
        for (number, _) in all.into_iter().filter(|(_, there)| !here || *there == netns).take(MAX_PEERS) {
            self.minisockets.plan(number, time_ns.saturating_add(SETTLE_NS));
        }
    }

    pub(super) fn end_minisocket(&mut self, number: u64, now_ns: u64, known: Known, out: &mut Vec<Entry>) {
        self.tell_beginning(number, Known::Rule, out);
        let Some(mut minisocket) = self.minisockets.remove(number) else { return };
        self.depart(minisocket.cookie());
        let old = minisocket.state;
        out.push(minisocket.enter(TcpState::Close, now_ns.max(minisocket.since_ns), known));
        self.totals.inferred(old, TcpState::Close);
    }

    /// Says that it began, unless that is told already. An orphan's FIN_WAIT2 goes on: it is told as a change to the same
    /// state, so that who follows the changes does not take it for closed.
    fn tell_beginning(&mut self, number: u64, known: Known, out: &mut Vec<Entry>) {
        let Some(minisocket) = self.minisockets.known.get_mut(&number) else { return };
        let Some(old) = minisocket.untold.take() else { return };
        let (new, who) = (minisocket.state, minisocket.who());
        let what = What::Transition { old, new, in_state: None, by: None, known };
        out.push(Entry { time_ns: minisocket.since_ns, who, what });
        self.totals.inferred(old, new);
    }

    /// A minisocket as the kernel shows it.
    fn see_minisocket(&mut self, number: u64, sight: &Sight, taken: Taken, out: &mut Vec<Entry>) {
        let round = self.round;
        let left_ns = left_ns(sight);
        let Some(minisocket) = self.minisockets.known.get_mut(&number) else { return };
        minisocket.round = round;
        if std::mem::take(&mut minisocket.nameless) {
            minisocket.id = FlowId::Cookie(sight.cookie);
        }
        // What we inferred may be younger than what was seen.
        if minisocket.since_ns >= taken.from_ns && minisocket.untold.is_none() {
            return;
        }
        let ends_ns = left_ns.map_or(minisocket.ends_ns, |left| taken.to_ns.saturating_add(left));
        match (minisocket.state, sight.state) {
            (TcpState::FinWait2, TcpState::TimeWait) => {
                // A repeated FIN restarts the 60 s: it began then, or before.
                let since_ns = ends_ns.saturating_sub(TIME_WAIT_NS).min(taken.to_ns);
                self.become_time_wait(number, since_ns, ends_ns, Known::Seen, out);
            }
            (TcpState::TimeWait, TcpState::FinWait2) => {
                // The rule was wrong: no FIN had come.
                self.totals.corrected += 1;
                minisocket.state = TcpState::FinWait2;
                minisocket.ends_ns = ends_ns;
                if minisocket.untold.take().is_none() {
                    let known = Known::Seen;
                    let (old, new) = (TcpState::TimeWait, TcpState::FinWait2);
                    let who = minisocket.who();
                    let what = What::Transition { old, new, in_state: None, by: None, known };
                    out.push(Entry { time_ns: taken.from_ns, who, what });
                }
            }
            _ => {
                minisocket.ends_ns = ends_ns;
                self.tell_beginning(number, Known::Seen, out);
            }
        }
        self.plan_next(number, taken.to_ns);
    }

    /// When to ask for it again, after an answer.
    fn plan_next(&mut self, number: u64, now_ns: u64) {
        let Some(minisocket) = self.minisockets.known.get(&number) else { return };
        let soon_ns = now_ns.saturating_add(ASK_AGAIN_NS);
        let mut again_ns = minisocket.last_call_ns().max(soon_ns);
        if !minisocket.probed && minisocket.state == TcpState::FinWait2 {
            // The peer's FIN may come any time, and no event tells: the older, the rarer we look.
            let age_ns = now_ns.saturating_sub(minisocket.since_ns);
            again_ns = again_ns.min(now_ns.saturating_add(LEAST_PAUSE_NS.max(age_ns / LOOKS_A_LIFE)));
        }
        self.minisockets.plan(number, again_ns);
    }

    /// A minisocket in a dump.
    pub(super) fn sight_minisocket(&mut self, sight: &Sight, taken: Taken, out: &mut Vec<Entry>) -> bool {
        if let Some(number) = self.minisockets.find(sight) {
            self.see_minisocket(number, sight, taken, out);
            return false;
        }
        if let Some(flow) = self.flows.get_mut(&sight.cookie) {
            // Its socket's close waits to be judged: the minisocket begins then. Or the sight is the older.
            if flow.closing().is_some() || flow.known_ns() >= taken.from_ns {
                return false;
            }
            if flow.is_undecided() {
                self.flows.remove(&sight.cookie);
            } else {
                self.succeed(sight, taken, out);
            }
            if let Some(number) = self.minisockets.find(sight) {
                self.see_minisocket(number, sight, taken, out);
                return false;
            }
        }
        if self.dump.has_departed(sight.cookie) {
            return false;
        }
        self.make_room();
        let left_ns = left_ns(sight).unwrap_or(0);
        let life = self.minisockets.limits(sight.netns).life(sight.state);
        let ends_ns = taken.to_ns.saturating_add(left_ns);
        // TCP_LINGER2 may have given an orphan another time: then this is no bound, and 0 is one.
        let since_ns = ends_ns.saturating_sub(life).min(taken.from_ns);
        let since_ns = if sight.state == TcpState::TimeWait { since_ns } else { taken.from_ns };
        let number = self.minisockets.insert(Minisocket {
            id: FlowId::Cookie(sight.cookie),
            ends: sight.ends,
            netns: sight.netns,
            role: Role::Unknown,
            state: sight.state,
            since_ns,
            exact: false,
            ends_ns,
            opened: None,
            opened_source: Source::Connect,
            closed: None,
            closed_source: Source::Close,
            untold: None,
            doubtful: false,
            nameless: false,
            ask_ns: 0,
            probed: self.capabilities.minisockets,
            round: self.round,
        });
        self.plan_next(number, taken.to_ns);
        true
    }

    /// A minisocket is seen where we believed in a socket: its close was lost. What the kernel shows tells how it ended.
    fn succeed(&mut self, sight: &Sight, taken: Taken, out: &mut Vec<Entry>) {
        let Some(flow) = self.flows.get(&sight.cookie) else { return };
        let earliest_ns = flow.since_ns.max(flow.at_least_since_ns).max(flow.met_ns).min(taken.from_ns);
        let since_ns = match (sight.state, left_ns(sight)) {
            (TcpState::TimeWait, Some(left_ns)) => {
                taken.to_ns.saturating_add(left_ns).saturating_sub(TIME_WAIT_NS)
            }
            _ => taken.from_ns,
        };
        let cause = match sight.state {
            TcpState::TimeWait => Cause::Orderly,
            _ => Cause::FinWait2Minisocket,
        };
        let verdict = Verdict { cause, continues_as: Some(sight.state) };
        self.correct_to_end(sight.cookie, since_ns.clamp(earliest_ns, taken.from_ns), verdict, out);
        if let Some(number) = self.minisockets.find(sight)
            && let Some(minisocket) = self.minisockets.known.get_mut(&number)
        {
            minisocket.exact = false;
        }
    }

    /// Minisockets of these namespaces that a complete dump did not show.
    pub(super) fn unseen_minisockets(&self, covered: &dyn Fn(u32) -> bool, from_ns: u64) -> Vec<Question> {
        let unseen = |m: &Minisocket| m.round != self.round && covered(m.netns) && m.since_ns < from_ns;
        let numbers = self.minisockets.known.iter().filter(|(_, m)| unseen(m)).map(|(number, _)| *number);
        numbers.filter_map(|number| self.question(Subject::Minisocket(number))).collect()
    }

    /// Every minisocket, as the ledger believes.
    pub(super) fn minisocket_states(&self, now_ns: u64, mut take: impl FnMut(Entry)) {
        for (_, minisocket) in self.minisockets.known.iter().filter(|(_, m)| m.untold.is_none()) {
            let span = Span { ns: now_ns.saturating_sub(minisocket.since_ns), exact: minisocket.exact };
            let what = What::State {
                state: minisocket.state,
                kind: Kind::Minisocket,
                in_state: Some(span),
                left_ns: Some(minisocket.ends_ns.saturating_sub(now_ns)),
            };
            take(Entry { time_ns: now_ns, who: minisocket.who(), what });
        }
    }
}

fn split(owner: Option<Owner>) -> (Option<Rc<Process>>, Source) {
    owner.map_or((None, Source::Close), |owner| (Some(owner.process), owner.source))
}

fn left_ns(sight: &Sight) -> Option<u64> {
    sight.timer.map(|timer| u64::from(timer.expires_ms) * 1_000_000)
}
