//! What the ledger has to say: an event joined with everything known of its flow. Views and machines read these.

use super::{
    cause::Verdict,
    connection::{DWELL_STATES, FlowId, Role, Span},
    owner::{Owner, Process},
    sights::Bound,
};
use crate::{
    event::{Ends, LastNumbers, Reset, Retransmit, Segment, TcpState},
    sight::{Kind, Sight},
};
use std::rc::Rc;

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, on the boot-time clock, in nanoseconds.
    pub time_ns: u64,
    /// To whom.
    pub who: Who,
    /// What.
    pub what: What,
}

/// The flow it happened to.
#[derive(Clone, Debug)]
pub struct Who {
    /// Identity.
    pub id: FlowId,
    /// Inode number of the network namespace; 0: unknown.
    pub netns: u32,
    /// Both ends, completed from the flow's other events.
    pub ends: Ends,
    /// Which side opened it.
    pub role: Role,
    /// Whose it is.
    pub owner: Option<Owner>,
}

impl Who {
    /// The service's port, and whether that is the local one. `listened`: somebody listens on the local port there, which
    /// tells where nothing else does.
    pub fn service(&self, listened: bool) -> (bool, u16) {
        let local = match self.role {
            Role::Passive | Role::Listen => true,
            Role::Active => false,
            Role::Unknown => listened,
        };
        if local || self.ends.rport == 0 { (true, self.ends.lport) } else { (false, self.ends.rport) }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// A state change.
    Transition {
        /// The state left.
        old: TcpState,
        /// The state entered.
        new: TcpState,
        /// Time in the state left; `None`: unknown.
        in_state: Option<Span>,
        /// Who made the change, where the kernel ran in its context.
        by: Option<Rc<Process>>,
        /// How we know.
        known: Known,
    },
    /// A segment sent again.
    Retransmit(Box<Retransmit>),
    /// An RST.
    Reset(Box<Reset>),
    /// The end, judged.
    Close(Box<Closed>),
    /// A socket that was there before any event told of it.
    Sight(Box<Seen>),
    /// A socket as the ledger believes it to be, when somebody asked.
    State {
        /// Its state.
        state: TcpState,
        /// What object has it.
        kind: Kind,
        /// Time in it; `None`: unknown.
        in_state: Option<Span>,
        /// When the kernel's timer ends it, in nanoseconds from now; `None`: no such timer.
        left_ns: Option<u64>,
    },
}

/// How a state change is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// An event told it.
    Event,
    /// A probe of the kernel's function that does it.
    Probe,
    /// The kernel was asked, and showed it.
    Seen,
    /// The rule of the close that was seen: with this evidence the kernel makes a minisocket.
    Rule,
    /// The other end, which we see too, was told that its FIN has arrived.
    Peer,
    /// Its timer has run out.
    Timer,
    /// A new connection has taken its ends.
    Reuse,
}

impl Known {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Probe => "probe",
            Self::Seen => "seen",
            Self::Rule => "rule",
            Self::Peer => "peer",
            Self::Timer => "timer",
            Self::Reuse => "reuse",
        }
    }
}

/// A socket that was there before any event told of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the kernel shows.
    pub sight: Sight,
    /// Least time in its state; `None`: nothing tells.
    pub age: Option<Span>,
    /// What tells it.
    pub bound: Bound,
}

/// The end of a flow.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Why, and how it goes on.
    pub verdict: Verdict,
    /// The state it left.
    pub old: TcpState,
    /// `sk_err`; `None`: could not be read.
    pub err: Option<u16>,
    /// Time from its birth; `None`: older than we are.
    pub duration_ns: Option<u64>,
    /// Nanoseconds in each of [`DWELL_STATES`].
    pub dwell_ns: [u64; DWELL_STATES.len()],
    /// The last numbers; `None`: could not be read.
    pub numbers: Option<LastNumbers>,
    /// Segments sent again that we saw, by [`Segment`].
    pub retransmits: [u32; Segment::ALL.len()],
    /// Who closed it.
    pub closed_by: Option<Owner>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every event makes one or two of them, and each is moved: two lines of the cache.
    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 128, "{} bytes", size_of::<Entry>());
    }
}
