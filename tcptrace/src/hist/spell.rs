//! Time in a state, told when the state is left. An entry tells it of one object; a connection's state may outlive the
//! object that is in it (docs/kernel.md), and this is where the parts are joined: FIN_WAIT2 of a socket and then of the
//! minisocket that takes its place, SYN_RECV of a half-open request and then of its child.

use crate::{
    event::TcpState,
    flow::{Entry, FlowId, Known, Span, What, Who},
    sight::Kind,
};
use hashlink::LinkedHashMap;

/// Flows remembered for each of the two purposes; the oldest are forgotten first, and a time is then "at least".
const MAX_FLOWS: usize = 65_536;
/// What says how a closed socket goes on is known after this time: a close is judged within 20 ms, and the kernel is asked
/// for some 3,200 minisockets a second, of which at most 4,096 wait.
const LEAVING_NS: u64 = 5_000_000_000;

/// A length of time, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Nanoseconds from its beginning to its end.
    Exact(u64),
    /// At least so many nanoseconds: its beginning was not seen.
    AtLeast(u64),
    /// Nothing tells.
    Unknown,
}

impl From<Option<Span>> for Time {
    fn from(span: Option<Span>) -> Self {
        match span {
            Some(Span { ns, exact: true }) => Self::Exact(ns),
            Some(Span { ns, exact: false }) => Self::AtLeast(ns),
            None => Self::Unknown,
        }
    }
}

impl Time {
    /// Something was before, and nothing tells how long.
    const fn at_least(self) -> Self {
        match self {
            Self::Exact(ns) => Self::AtLeast(ns),
            other => other,
        }
    }

    /// This time, and right after it the other one.
    const fn and(self, then: Self) -> Self {
        match (self, then) {
            (Self::Exact(one), Self::Exact(two)) => Self::Exact(one.saturating_add(two)),
            (Self::Exact(one) | Self::AtLeast(one), Self::Exact(two) | Self::AtLeast(two)) => {
                Self::AtLeast(one.saturating_add(two))
            }
            (known, Self::Unknown) | (Self::Unknown, known) => known.at_least(),
        }
    }
}

/// A state that was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// The state; half-open requests are in SYN_RECV.
    pub state: TcpState,
    /// The state that came after it, of the connection: TIME_WAIT where the socket closes and its minisocket goes on.
    pub to: TcpState,
    /// Time in it.
    pub time: Time,
}

/// Makes spells of entries.
#[derive(Debug, Default)]
pub struct Spells {
    /// Sockets that have closed, until it is known whether a minisocket goes on. Oldest first.
    leaving: LinkedHashMap<FlowId, Leaving>,
    /// Time in FIN_WAIT2 before the minisocket took the place of its socket.
    orphans: LinkedHashMap<FlowId, Time>,
    /// The latest time of an entry.
    now_ns: u64,
}

#[derive(Debug)]
struct Leaving {
    who: Who,
    state: TcpState,
    time: Time,
    at_ns: u64,
}

impl Leaving {
    fn spell(&self, to: TcpState) -> Spell {
        Spell { state: self.state, to, time: self.time }
    }
}

/// The two kinds of SYN_RECV are one to people.
pub fn shown(state: TcpState) -> TcpState {
    if state == TcpState::NewSynRecv { TcpState::SynRecv } else { state }
}

/// Whether a minisocket begins, in the place of a socket that was in `old`; or a state was corrected.
fn begins(old: TcpState, new: TcpState, in_state: Option<Span>, known: Known) -> bool {
    let minisocket = matches!(new, TcpState::TimeWait | TcpState::FinWait2);
    known != Known::Event && in_state.is_none() && minisocket && old != TcpState::TimeWait
}

impl Spells {
    /// Takes an entry; what was left, and by whom, is handed to `say`, maybe later than it happened.
    pub fn entry(&mut self, entry: &Entry, say: &mut impl FnMut(&Who, Spell)) {
        self.now_ns = self.now_ns.max(entry.time_ns);
        while let Some((_, first)) = self.leaving.front()
            && (first.at_ns.saturating_add(LEAVING_NS) < self.now_ns || self.leaving.len() > MAX_FLOWS)
            && let Some((_, first)) = self.leaving.pop_front()
        {
            say(&first.who, first.spell(TcpState::Close));
        }
        match &entry.what {
            What::Transition { old, new, in_state, known, .. } => {
                self.transition(entry, (*old, *new), *in_state, *known, say);
            }
            What::Close(closed) if closed.verdict.continues_as.is_none() => self.is_gone(entry.who.id, say),
            _ => {}
        }
    }

    /// Nothing comes any more.
    pub fn finish(&mut self, say: &mut impl FnMut(&Who, Spell)) {
        for (_, leaving) in std::mem::take(&mut self.leaving) {
            say(&leaving.who, leaving.spell(TcpState::Close));
        }
    }

    /// How long a flow is in its state so far; `entry` is a [`What::State`], everything else gives `None`.
    pub fn so_far(&self, entry: &Entry) -> Option<(TcpState, Time)> {
        let What::State { state, kind, in_state, .. } = &entry.what else { return None };
        let (id, time) = (entry.who.id, Time::from(*in_state));
        let time = match (state, kind) {
            (TcpState::FinWait2, Kind::Minisocket) => match self.orphans.get(&id) {
                Some(before) => before.and(time),
                None => time.at_least(),
            },
            _ => time,
        };
        Some((shown(*state), time))
    }

    fn transition(
        &mut self,
        entry: &Entry,
        (old, new): (TcpState, TcpState),
        in_state: Option<Span>,
        known: Known,
        say: &mut impl FnMut(&Who, Spell),
    ) {
        use TcpState::{Close, FinWait2, Listen, NewSynRecv, SynRecv, TimeWait};
        let (who, id) = (&entry.who, entry.who.id);
        match (old, new) {
            // A child was no time in its listener's state; what is closed is in no state of a connection.
            (Close, _) | (Listen, SynRecv | NewSynRecv) => return self.is_gone(id, say),
            // The descriptor was closed.
            _ if known == Known::Event && old == new => return,
            // That it was in TIME_WAIT was a mistake.
            (TimeWait, FinWait2) => return,
            _ if begins(old, new, in_state, known) => return self.goes_on(entry, (old, new), say),
            _ => {}
        }
        let mut time = Time::from(in_state);
        let mut minisocket = old == TimeWait;
        match old {
            // Only a minisocket leaves it without an event, or a socket of which not everything is known.
            FinWait2 if known != Known::Event => match self.before_minisocket(id) {
                Some(before) => (time, minisocket) = (before.and(time), true),
                None => time = time.at_least(),
            },
            _ => {}
        }
        let settled = minisocket || matches!(old, Listen | NewSynRecv) || id == FlowId::None;
        self.is_gone(id, say);
        if new == Close && !settled {
            let leaving = Leaving { who: who.clone(), state: shown(old), time, at_ns: entry.time_ns };
            self.leaving.insert(id, leaving);
        } else {
            say(who, Spell { state: shown(old), to: shown(new), time });
        }
    }

    /// How long a minisocket's socket was in FIN_WAIT2; that the minisocket began may not have been told.
    fn before_minisocket(&mut self, id: FlowId) -> Option<Time> {
        if let Some(told) = self.orphans.remove(&id) {
            return Some(told);
        }
        self.leaving.get(&id).filter(|leaving| leaving.state == TcpState::FinWait2)?;
        self.leaving.remove(&id).map(|leaving| leaving.time)
    }

    /// A minisocket has begun.
    fn goes_on(
        &mut self,
        entry: &Entry,
        (old, new): (TcpState, TcpState),
        say: &mut impl FnMut(&Who, Spell),
    ) {
        let id = entry.who.id;
        match self.leaving.remove(&id) {
            Some(leaving) if leaving.state == new => {
                self.orphans.insert(id, leaving.time);
                if self.orphans.len() > MAX_FLOWS {
                    self.orphans.pop_front();
                }
            }
            Some(leaving) => say(&entry.who, leaving.spell(new)),
            // The state of a socket was corrected: that is no beginning.
            None if old != new && new == TcpState::FinWait2 => {
                say(&entry.who, Spell { state: shown(old), to: new, time: Time::Unknown });
            }
            None => {}
        }
    }

    /// A socket that has closed does not go on.
    fn is_gone(&mut self, id: FlowId, say: &mut impl FnMut(&Who, Spell)) {
        if let Some(leaving) = self.leaving.remove(&id) {
            say(&leaving.who, leaving.spell(TcpState::Close));
        }
    }
}

#[cfg(test)]
mod tests;
