//! Ending sockets: which, what came of it. Decides nothing about which are wanted, and prints nothing.

mod act;

pub use act::{Kernel, Killer};

use crate::{
    event::TcpState,
    flow::{Bound, Seen, Span, least_age},
    process::Process,
    sight::{Kind, Sight, Taken},
};
use std::sync::Arc;

/// Who holds the descriptor of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The process with the lowest pid.
    pub process: Arc<Process>,
    /// Its lowest descriptor of the socket.
    pub fd: u32,
    /// How many processes hold it.
    pub processes: u32,
}

/// A socket to be ended, as it was when it was chosen.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the kernel showed of it.
    pub seen: Seen,
    /// When.
    pub taken: Taken,
    /// Whose it is; `None`: nobody's, or not known ([`Target::nobody`] tells which).
    pub held: Option<Held>,
}

impl Target {
    /// With the age of its state, as far as anything tells it.
    pub fn new(sight: Sight, taken: Taken) -> Self {
        let (age, bound) = age(&sight);
        Self { seen: Seen { sight, age, bound }, taken, held: None }
    }

    /// Why nobody holds it; `None`: somebody does, or may.
    pub fn nobody(&self) -> Option<&'static str> {
        let sight = &self.seen.sight;
        match sight.kind {
            Kind::Request => Some("half-open"),
            Kind::Minisocket => Some("minisocket"),
            Kind::Full if sight.is_orphan() => Some("orphan"),
            Kind::Full if sight.inode == 0 => Some("not accepted"),
            Kind::Full => None,
        }
    }
}

/// A lower bound for the time in its state, and what tells it; `None`: nothing does.
fn age(sight: &Sight) -> (Option<Span>, Bound) {
    let (ns, bound) = least_age(sight);
    let told = bound != Bound::Watched;
    (told.then_some(Span { ns, exact: false }), bound)
}

/// What came of one socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was done: this is what would be.
    Would,
    /// The kernel has ended it, and shows it no more.
    Killed,
    /// There was none with these ends and this cookie any more.
    Gone,
    /// Left alone: it is in another state now, or another kind of object.
    Changed(TcpState, Kind),
    /// Left alone: nothing proves any more that it is as old as was asked for. What is proved, in nanoseconds.
    Younger(Option<u64>),
    /// The kernel did not: an errno.
    Refused(i32),
    /// The kernel said that it had, but still shows it, in this state.
    Stayed(TcpState),
    /// Not tried: the kernel had left another orphan behind.
    Spared,
    /// The kernel could not be asked, and why.
    Failed(String),
}

impl Outcome {
    /// The word users see.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Would => "would-kill",
            Self::Killed => "killed",
            Self::Gone => "gone",
            Self::Changed(..) | Self::Younger(_) => "changed",
            Self::Refused(_) => "refused",
            Self::Stayed(_) => "still-there",
            Self::Spared => "not-tried",
            Self::Failed(_) => "failed",
        }
    }

    /// It is not as was asked for: there is a socket that should have been ended.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Stayed(_) | Self::Spared | Self::Failed(_))
    }
}

/// How many sockets came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ended.
    pub killed: u64,
    /// Gone before we came to them.
    pub gone: u64,
    /// Left alone, because they had changed.
    pub changed: u64,
    /// Of [`Outcome::is_failure`].
    pub failed: u64,
}

impl Tally {
    /// One more.
    pub fn add(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Would => return,
            Outcome::Killed => &mut self.killed,
            Outcome::Gone => &mut self.gone,
            Outcome::Changed(..) | Outcome::Younger(_) => &mut self.changed,
            _ => &mut self.failed,
        } += 1;
    }
}

/// Sockets that match and are not touched all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Nothing tells how long they are in their state.
    pub no_age: u64,
    /// In their state for less than asked for, as far as anything proves.
    pub younger: u64,
    /// Listeners, when LISTEN was not named.
    pub listeners: u64,
    /// A user or cgroup was asked for, and they have none, or none that is proved.
    pub nobodys: u64,
}
