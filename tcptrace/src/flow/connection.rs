//! One connection, as the ledger remembers it.

use super::{
    cause::SentReset,
    owner::{Owner, Process, Source},
    spare::Spare,
};
use crate::event::{Bits, Ends, LastNumbers, Reset, Segment, TcpState, Transition};
use std::rc::Rc;

/// Identity of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowId {
    /// The socket's cookie: the same for its half-open request, the socket and its timewait minisocket, and the one
    /// that sock_diag shows.
    Cookie(u64),
    /// Our own number, where the kernel gives no cookies: the n-th socket we saw at any address.
    Generation(u64),
    /// No socket, or none that we can tell from others.
    None,
}

/// Which side opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// This socket called connect().
    Active,
    /// This socket came out of a listener.
    Passive,
    /// This socket listens.
    Listen,
    /// It is older than we are.
    Unknown,
}

impl Role {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Listen => "listen",
            Self::Unknown => "unknown",
        }
    }
}

/// A length of time in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Nanoseconds.
    pub ns: u64,
    /// `false`: at least that long; the state is older than our watching.
    pub exact: bool,
}

/// The states that a socket can spend time in, in the order of [`Flow::dwell_ns`].
pub const DWELL_STATES: [TcpState; 9] = [
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::CloseWait,
    TcpState::Closing,
    TcpState::LastAck,
    TcpState::Listen,
];

/// Kept small: there may be a million of them. Rare parts are boxed.
#[derive(Debug)]
pub(super) struct Flow {
    pub id: FlowId,
    pub ends: Ends,
    pub netns: u32,
    pub state: TcpState,
    pub role: Role,
    pub opened_source: Source,
    pub closed_source: Source,
    /// 0: older than we are.
    pub born_ns: u64,
    /// When it entered `state`; 0: unknown.
    pub since_ns: u64,
    /// Since when it is known to be in `state` where `since_ns` is not; 0: not at all.
    pub at_least_since_ns: u64,
    pub dwell_ns: [u64; DWELL_STATES.len()],
    pub opened: Option<Rc<Process>>,
    pub closed: Option<Rc<Process>>,
    /// The last dump it was seen in.
    pub round: u32,
    /// When it was met or corrected by a dump; 0: never.
    pub met_ns: u64,
    pub rare: Option<Box<Rare>>,
}

/// What few flows have, and for a moment each that closes: what hardly any of those has is boxed in turn.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Segments sent again, by [`Segment`].
    pub retransmits: [u32; Segment::ALL.len()],
    /// Segments that could not be sent again.
    pub failed_sends: u32,
    /// The last RST it sent, and when.
    pub sent: Option<(u64, SentReset)>,
    /// When it last received an RST (or data after close).
    pub received_ns: Option<u64>,
    /// A close that waits for what may explain it.
    pub closing: Option<Closing>,
    /// The first event, while the filter is undecided about it.
    pub first: Option<Box<Transition>>,
    /// An RST that may not have been one, until the next events tell.
    pub doubtful_reset: Option<Box<Reset>>,
}

/// A close that waits.
#[derive(Debug)]
pub(super) struct Closing {
    pub time_ns: u64,
    pub old: TcpState,
    pub bits: Option<Bits>,
    pub shutdown: u8,
    pub numbers: LastNumbers,
    pub sent_after: Option<SentReset>,
    /// The current task; the closer only if the cause says so.
    pub task: Option<Rc<Process>>,
    /// Nothing was known of the socket before: [`super::minisocket::Beginning::nameless`].
    pub nameless: bool,
}

impl Flow {
    /// Room for the rare parts.
    pub fn rare(&mut self, spare: &mut Spare) -> &mut Rare {
        self.rare.get_or_insert_with(|| spare.rare())
    }

    /// Nothing of it has passed the filter for certain.
    pub fn is_undecided(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.first.is_some())
    }

    /// The close that waits, if one does.
    pub fn closing(&mut self) -> Option<&mut Closing> {
        self.rare.as_mut()?.closing.as_mut()
    }

    /// How long it is in its state at this time.
    pub fn span(&self, now_ns: u64) -> Option<Span> {
        match (self.since_ns, self.at_least_since_ns) {
            (0, 0) => None,
            (0, since) => Some(Span { ns: now_ns.saturating_sub(since), exact: false }),
            (since, _) => Some(Span { ns: now_ns.saturating_sub(since), exact: true }),
        }
    }

    /// When it was known to be in its state, by an event or a dump: a dump from before that says nothing of it.
    pub fn known_ns(&self) -> u64 {
        self.since_ns.max(self.met_ns).max(self.at_least_since_ns)
    }

    /// Somebody opened it, or closed it.
    pub fn acted(&mut self, owner: &Owner) {
        let process = Some(Rc::clone(&owner.process));
        if matches!(owner.source, Source::Connect | Source::Listen) {
            (self.opened, self.opened_source) = (process, owner.source);
        } else {
            (self.closed, self.closed_source) = (process, owner.source);
        }
    }

    /// Enters a state.
    pub fn enter(&mut self, state: TcpState, now_ns: u64) {
        if let (Some(span), Some(slot)) = (self.span(now_ns), dwell_slot(self.state)) {
            self.dwell_ns[slot] += span.ns;
        }
        self.state = state;
        self.since_ns = now_ns;
    }

    /// Enters a state that it was in before this time, nobody knows since when.
    pub fn enter_late(&mut self, state: TcpState, now_ns: u64) {
        self.enter(state, now_ns);
        (self.since_ns, self.at_least_since_ns) = (0, now_ns);
    }

    /// The kernel says since when it is in its state; what is known stays.
    pub fn began(&mut self, since_ns: u64) {
        if self.since_ns == 0 {
            self.since_ns = match self.at_least_since_ns {
                0 => since_ns,
                seen_ns => since_ns.min(seen_ns),
            };
        }
    }

    /// Whom the connection belongs to: who opened it, else who closed it.
    pub fn owner(&self) -> Option<Owner> {
        let owner = |process: &Option<Rc<Process>>, source| {
            process.as_ref().map(|process| Owner { process: Rc::clone(process), source })
        };
        owner(&self.opened, self.opened_source).or_else(|| self.closer())
    }

    /// Who closed it.
    pub fn closer(&self) -> Option<Owner> {
        self.closed.as_ref().map(|process| Owner { process: Rc::clone(process), source: self.closed_source })
    }
}

/// Where a state's time is kept. The two kinds of SYN_RECV are one to people.
pub(super) fn dwell_slot(state: TcpState) -> Option<usize> {
    let state = if state == TcpState::NewSynRecv { TcpState::SynRecv } else { state };
    DWELL_STATES.iter().position(|slot| *slot == state)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flow with its key and its share of the table stays below 256 bytes.
    #[test]
    fn a_flow_is_small() {
        let links_and_key = 3 * size_of::<u64>();
        let slot = 2 * size_of::<u64>(); // of the hash index, at its usual load
        let bytes = size_of::<Flow>() + links_and_key + slot;
        assert!(bytes <= 256, "{bytes} bytes a flow");
        assert!(size_of::<Rare>() <= 256, "{} bytes", size_of::<Rare>());
    }
}
