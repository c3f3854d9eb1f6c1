//! Dumps: what sock_diag shows, joined with what the events told. An event is believed before a sight that may be older;
//! a sight is believed before silence.

use super::{
    Entry, FlowId, Known, Ledger, MAX_SIDE_TABLE, Role, Span, What,
    cause::{Cause, Verdict},
    connection::Flow,
    minisocket::{Question, Subject, TIMER_SLACK_NS},
    owner::{Process, Source},
    who,
};
use crate::{
    event::{Ends, Head, TcpState},
    sight::{Kind, Sight, Taken, TimerKind},
};
use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// A half-open request that nobody can ask about is taken for gone after this: the kernel's own limit with the default
/// of 5 repetitions is 63 s (docs/kernel.md).
const HALF_OPEN_NS: u64 = 63_000_000_000 + TIMER_SLACK_NS;
/// A half-open request is asked for again after this time, at least.
const HALF_OPEN_AGAIN_NS: u64 = 250_000_000;

/// How the age of a state is known that began before we looked. Each is a lower bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// We have watched it that long.
    Watched,
    /// The state is entered by a segment that is, or carries, an ACK; the last one came that long ago.
    LastAck,
    /// Only the FIN, or the SYN, is in flight: it was first sent that long ago, by its retransmissions and their
    /// back-off.
    Retransmits,
    /// The timer of a TIME_WAIT minisocket runs 60 s in all.
    Timer,
}

impl Bound {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Watched => "watched",
            Self::LastAck => "last-ack",
            Self::Retransmits => "retransmits",
            Self::Timer => "timer",
        }
    }
}

/// What a dump came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    /// Sockets that passed the filter.
    pub sockets: u64,
    /// Of those, unknown before.
    pub found: u64,
    /// States that were not what we believed.
    pub corrected: u64,
    /// Flows that were gone.
    pub vanished: u64,
}

/// What crosses a dump: its batches come after events that are younger.
#[derive(Debug, Default)]
pub(super) struct Dump {
    running: bool,
    /// Cookies whose end was told meanwhile.
    departed: HashSet<u64>,
    /// Children that were born meanwhile. sock_diag makes the cookie of a request when it shows it; a child that was made
    /// from it a moment before has none of it, and gets its own (6.18, beside a listener with 20,000 connections a second).
    born: HashSet<(u32, Ends)>,
    /// Half-open requests that were met, and their cookies: likewise, where the dump was quicker than the events.
    requests: HashMap<(u32, Ends), u64>,
}

impl Dump {
    /// The end of this socket or minisocket was told while the dump runs.
    pub(super) fn has_departed(&self, cookie: u64) -> bool {
        self.departed.contains(&cookie)
    }
}

/// The least age of a socket's state, and what tells it.
pub fn least_age(sight: &Sight) -> (u64, Bound) {
    use TcpState::{CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, SynSent, TimeWait};
    let ms = |ms: u32| u64::from(ms) * 1_000_000;
    match (sight.state, sight.info, sight.timer) {
        (TimeWait, _, Some(timer)) if timer.kind == TimerKind::TimeWait => {
            (super::minisocket::TIME_WAIT_NS.saturating_sub(ms(timer.expires_ms)), Bound::Timer)
        }
        // Entered by a segment of the peer; `rcv_tstamp` is written for every acceptable ACK, so also for that one.
        (Established | FinWait2 | CloseWait | Closing, Some(info), _) => {
            (ms(info.last_ack_recv_ms), Bound::LastAck)
        }
        // Entered by our own SYN or FIN. Nothing else may be in flight: then the timer is that segment's. Each earlier
        // time-out was half of the next, or (linear SYN time-outs, 6.5) longer than that. The one that runs may have been
        // shortened by TCP_USER_TIMEOUT, which is not in a sight: what it adds is [`running_ns`].
        (SynSent | FinWait1 | LastAck, Some(info), Some(timer))
            if timer.kind == TimerKind::Retransmit && info.unacked == 1 && sight.send_queue <= 1 =>
        {
            let rto_ns = u64::from(info.rto_us) * 1000;
            let earlier: u64 = (1..=u32::from(timer.retransmits)).map(|n| rto_ns >> n.min(63)).sum();
            (earlier, Bound::Retransmits)
        }
        _ => (0, Bound::Watched),
    }
}

/// What the timer that runs adds to an age that is known by retransmissions, where the program has set no
/// TCP_USER_TIMEOUT.
pub fn running_ns(sight: &Sight) -> u64 {
    let set_ns = sight.info.map_or(0, |info| u64::from(info.rto_us) * 1000);
    let left_ns = sight.timer.map_or(set_ns, |timer| u64::from(timer.expires_ms) * 1_000_000);
    set_ns.saturating_sub(left_ns)
}

impl Ledger {
    /// A dump begins: what is not seen until [`Ledger::unseen`] may be gone.
    pub fn begin_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.reconciled = Reconciled::default();
        self.dump = Dump { running: true, ..Dump::default() };
    }

    /// The dump is over, and its questions are answered.
    pub fn end_round(&mut self) {
        // The events of children that were made while it ran may still come.
        let requests = std::mem::take(&mut self.dump.requests);
        self.dump = Dump { requests, ..Dump::default() };
    }

    /// A socket or a minisocket is gone. Events are folded up to a later time than that of the batch that comes next, so
    /// the batch may still show it.
    pub(super) fn depart(&mut self, cookie: u64) {
        if self.dump.running && self.dump.departed.len() < MAX_SIDE_TABLE {
            self.dump.departed.insert(cookie);
        }
    }

    /// A child is born. A request that a dump showed under another cookie is this child's, and no connection of its own.
    pub(super) fn bear(&mut self, key: u64, head: &Head) {
        let dump = &mut self.dump;
        if !dump.running && dump.requests.is_empty() {
            return;
        }
        let place = (head.netns, head.ends);
        if dump.running && dump.born.len() < MAX_SIDE_TABLE {
            dump.born.insert(place);
        }
        let Some(request) = dump.requests.remove(&place).filter(|request| *request != key) else { return };
        let same = |flow: &Flow| {
            flow.state == TcpState::NewSynRecv
                && head.time_ns <= flow.met_ns.saturating_add(HALF_OPEN_AGAIN_NS)
        };
        if self.flows.get(&request).is_some_and(same) {
            self.flows.remove(&request);
        }
    }

    /// A socket in a dump, or the answer to a question. Every event before `taken` began must have been folded. `holder`:
    /// who has its descriptor, where that was looked up.
    pub fn sight(&mut self, sight: &Sight, taken: Taken, holder: Option<&Process>, out: &mut Vec<Entry>) {
        self.reconciled.sockets += 1;
        if sight.kind == Kind::Minisocket {
            if self.sight_minisocket(sight, taken, out) {
                self.tell_sight(sight, taken, None, out);
            }
            return;
        }
        // Without cookies in the events there is nothing to join the two by; with a state filter most events never come.
        if !self.capabilities.cookies || !self.capabilities.all_states {
            return self.tell_sight(sight, taken, None, out);
        }
        let key = sight.cookie;
        let round = self.round;
        let Some(flow) = self.flows.get_mut(&key) else {
            let place = (sight.netns, sight.ends);
            let request = sight.state == TcpState::NewSynRecv;
            if self.dump.has_departed(key) || (request && self.dump.born.contains(&place)) {
                return;
            }
            if request && self.dump.requests.len() < MAX_SIDE_TABLE {
                self.dump.requests.insert(place, key);
            }
            return self.meet(sight, taken, holder, out);
        };
        flow.round = round;
        if let Some(holder) = holder
            && (flow.opened.is_none() || flow.opened_source == Source::Listener)
        {
            // A guess that was right names the thread that listens, too.
            if flow.opened.as_ref().is_none_or(|guess| guess.pid != holder.pid) {
                flow.opened = Some(self.processes.copy_of(holder));
            }
            flow.opened_source = Source::Descriptor;
        }
        if flow.is_undecided() || flow.closing().is_some() || flow.known_ns() >= taken.from_ns {
            return;
        }
        // The port that connect() picked may have been a minisocket's.
        let picked = flow.ends.lport == 0;
        flow.ends.complete(&sight.ends);
        if picked {
            self.replaced(sight.netns, &sight.ends, taken.from_ns, out);
            self.doubt_peer(sight.netns, &sight.ends, taken.from_ns);
        }
        if sight.state == TcpState::NewSynRecv {
            self.ask_half_open_again(key, sight, taken);
        } else if self.flows.get(&key).is_some_and(|flow| flow.state != sight.state) {
            self.correct(key, sight, taken, out);
        }
    }

    /// A socket that no event told of: older than we are, lost, or half open.
    fn meet(&mut self, sight: &Sight, taken: Taken, holder: Option<&Process>, out: &mut Vec<Entry>) {
        let head = Head {
            time_ns: taken.from_ns,
            sock: 0,
            cookie: sight.cookie,
            netns: sight.netns,
            undecided: false,
            ends: sight.ends,
        };
        let role = match sight.state {
            TcpState::Listen => Role::Listen,
            TcpState::NewSynRecv => Role::Passive,
            TcpState::SynSent => Role::Active,
            _ => Role::Unknown,
        };
        self.reconciled.found += 1;
        self.replaced(sight.netns, &sight.ends, taken.from_ns, out);
        self.insert(sight.cookie, &head, sight.state, role, 0);
        let (age_ns, _) = least_age(sight);
        let round = self.round;
        let place = (sight.netns, sight.ends.lport);
        let Some(flow) = self.flows.get_mut(&sight.cookie) else { return };
        flow.at_least_since_ns = taken.from_ns.saturating_sub(age_ns);
        flow.met_ns = taken.from_ns;
        flow.round = round;
        if let Some(holder) = holder {
            let holder = self.processes.copy_of(holder);
            (flow.opened, flow.opened_source) = (Some(Rc::clone(&holder)), Source::Descriptor);
            if role == Role::Listen {
                self.remember_listener(place, &holder);
            }
        }
        if sight.state == TcpState::NewSynRecv {
            self.ask_half_open_again(sight.cookie, sight, taken);
        }
        self.tell_sight(sight, taken, Some(sight.cookie), out);
    }

    fn tell_sight(&mut self, sight: &Sight, taken: Taken, key: Option<u64>, out: &mut Vec<Entry>) {
        self.totals.sights += 1;
        let (age_ns, bound) = least_age(sight);
        let who = match key.and_then(|key| self.flows.get(&key)) {
            Some(flow) => who(flow),
            None => super::Who {
                id: FlowId::Cookie(sight.cookie),
                netns: sight.netns,
                ends: sight.ends,
                role: Role::Unknown,
                owner: None,
            },
        };
        let age = (age_ns > 0).then_some(Span { ns: age_ns, exact: false });
        let what = What::Sight(Box::new(super::Seen { sight: *sight, age, bound }));
        out.push(Entry { time_ns: taken.from_ns, who, what });
    }

    /// The events told another state: some were lost.
    fn correct(&mut self, key: u64, sight: &Sight, taken: Taken, out: &mut Vec<Entry>) {
        let (age_ns, _) = least_age(sight);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        self.reconciled.corrected += 1;
        self.totals.corrected += 1;
        let old = flow.state;
        // When it happened nobody knows: between the last event and now.
        let in_state = flow.span(taken.from_ns).map(|span| Span { exact: false, ..span });
        flow.enter_late(sight.state, taken.from_ns);
        flow.at_least_since_ns = taken.from_ns.saturating_sub(age_ns);
        flow.met_ns = taken.from_ns;
        let what = What::Transition { old, new: sight.state, in_state, by: None, known: Known::Seen };
        self.totals.inferred(old, sight.state);
        out.push(Entry { time_ns: taken.from_ns, who: who(flow), what });
    }

    fn ask_half_open_again(&mut self, key: u64, sight: &Sight, taken: Taken) {
        let left_ns = sight.timer.map_or(0, |timer| u64::from(timer.expires_ms) * 1_000_000);
        let again_ns = taken.to_ns.saturating_add(left_ns.max(HALF_OPEN_AGAIN_NS));
        self.minisockets.look_at(again_ns, Subject::Flow(key));
    }

    /// A flow in SYN_RECV that no event will end: to be asked for.
    pub(super) fn watch_half_open(&mut self, key: u64, now_ns: u64) {
        self.minisockets.look_at(now_ns.saturating_add(HALF_OPEN_AGAIN_NS), Subject::Flow(key));
    }

    pub(super) fn unasked_half_open(&mut self, key: u64, now_ns: u64, out: &mut Vec<Entry>) {
        let Some(flow) = self.flows.get(&key) else { return };
        if flow.state != TcpState::NewSynRecv {
            return;
        }
        let since_ns = flow.met_ns.max(flow.since_ns).max(flow.at_least_since_ns);
        if now_ns >= since_ns.saturating_add(HALF_OPEN_NS) {
            self.vanish(key, now_ns, Known::Timer, out);
        } else {
            self.minisockets.look_at(since_ns.saturating_add(HALF_OPEN_NS), Subject::Flow(key));
        }
    }

    /// Flows that should have been in the dump of these namespaces, and were not. A dump may miss what moves while it
    /// runs: ask for each of them.
    pub fn unseen(&self, covered: impl Fn(u32) -> bool, from_ns: u64) -> Vec<Question> {
        let mut unseen = self.unseen_minisockets(&covered, from_ns);
        if !self.capabilities.cookies || !self.capabilities.all_states {
            return unseen;
        }
        let quiet = |flow: &Flow| {
            let waits = flow.rare.as_ref().is_some_and(|rare| rare.closing.is_some() || rare.first.is_some());
            !waits && flow.known_ns() < from_ns && flow.state != TcpState::Close
        };
        let gone = |flow: &Flow| flow.round != self.round && covered(flow.netns) && quiet(flow);
        let flows = self.flows.iter().filter(|(_, flow)| gone(flow));
        unseen.extend(flows.map(|(key, flow)| Question {
            subject: Subject::Flow(*key),
            netns: flow.netns,
            ends: flow.ends,
            cookie: *key,
        }));
        unseen
    }

    /// The kernel has no such socket.
    pub(super) fn absent(&mut self, key: u64, taken: Taken, out: &mut Vec<Entry>) {
        let Some(flow) = self.flows.get_mut(&key) else { return };
        if flow.known_ns() >= taken.from_ns || flow.closing().is_some() || flow.is_undecided() {
            return;
        }
        let request = flow.state == TcpState::NewSynRecv;
        if request && self.unpromoted.iter().any(|(_, ended)| *ended == key) {
            return; // a probe told its end, to the nanosecond: that is said once it is no child's
        }
        if !request {
            self.reconciled.vanished += 1;
            self.totals.vanished += 1;
        }
        self.vanish(key, taken.from_ns, Known::Seen, out);
    }

    pub(super) fn vanish(&mut self, key: u64, now_ns: u64, known: Known, out: &mut Vec<Entry>) {
        let half_open = self.flows.get(&key).is_some_and(|flow| flow.state == TcpState::NewSynRecv);
        let cause = if half_open { Cause::HalfOpenGone } else { Cause::Unseen };
        self.end_untold(key, now_ns, known, Verdict { cause, continues_as: None }, out);
    }

    /// A minisocket was seen in a flow's place.
    pub(super) fn correct_to_end(&mut self, key: u64, now_ns: u64, verdict: Verdict, out: &mut Vec<Entry>) {
        self.reconciled.corrected += 1;
        self.totals.corrected += 1;
        self.end_untold(key, now_ns, Known::Seen, verdict, out);
    }

    /// The end of a flow of which no event told.
    fn end_untold(&mut self, key: u64, now_ns: u64, known: Known, verdict: Verdict, out: &mut Vec<Entry>) {
        let Some(flow) = self.flows.get(&key) else { return };
        let (old, who) = (flow.state, who(flow));
        let exact = known == Known::Probe;
        let in_state = flow.span(now_ns).map(|span| Span { exact: span.exact && exact, ..span });
        let what = What::Transition { old, new: TcpState::Close, in_state, by: None, known };
        out.push(Entry { time_ns: now_ns, who, what });
        self.totals.inferred(old, TcpState::Close);
        self.end_as(key, now_ns, verdict, out);
    }

    /// What the last dump came to.
    pub fn reconciled(&self) -> Reconciled {
        self.reconciled
    }

    /// Every socket, as the ledger believes it to be.
    pub fn states(&self, now_ns: u64, mut take: impl FnMut(Entry)) {
        for (_, flow) in self.flows.iter() {
            let rare = flow.rare.as_ref();
            if flow.is_undecided() || rare.is_some_and(|rare| rare.closing.is_some()) {
                continue;
            }
            let kind = if flow.state == TcpState::NewSynRecv { Kind::Request } else { Kind::Full };
            let what = What::State { state: flow.state, kind, in_state: flow.span(now_ns), left_ns: None };
            take(Entry { time_ns: now_ns, who: who(flow), what });
        }
        self.minisocket_states(now_ns, take);
    }
}
