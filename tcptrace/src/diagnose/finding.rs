//! What a rule says: a name, one sentence, what it rests on, what was missing, until when, and what to do next.

use super::ladder::{End, Ladder};
use crate::{
    event::{Ends, TcpState},
    flow::{FlowId, Role, Span, owner::Owner},
    sight::Kind,
};

/// Something that does not move, or that should not happen.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Stable name; docs/diagnoses.md has it.
    pub name: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// How many sockets it stands for.
    pub count: u64,
    /// How long it lasts; `None`: nothing tells.
    pub age: Option<Span>,
    /// What tells the age.
    pub age_from: &'static str,
    /// One sentence for people.
    pub verdict: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What would have told more, and could not be had.
    pub missing: Vec<String>,
    /// How sure it is.
    pub confidence: Confidence,
    /// The settings that govern it.
    pub settings: Vec<Setting>,
    /// When the kernel acts by itself.
    pub deadline: Deadline,
    /// What to do next.
    pub next_step: String,
}

/// A connection, a listener, or all sockets of one kind between two places.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Identity; `None` where it is about many.
    pub id: FlowId,
    /// Inode number of the namespace.
    pub netns: u32,
    /// Ends; ports and addresses that many differ in are 0.
    pub ends: Ends,
    /// Which side opened it.
    pub role: Role,
    /// State.
    pub state: TcpState,
    /// The object that has it.
    pub kind: Kind,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// The lowest descriptor the owner has of it.
    pub fd: Option<u32>,
    /// Who closed it.
    pub closed_by: Option<Owner>,
    /// The cgroup it was made in; `None`: unknown.
    pub cgroup: Option<u64>,
}

/// One fact and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Where from.
    pub from: From,
    /// The fact.
    pub fact: String,
}

/// Where a fact comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// The kernel's list of sockets (sock_diag, as `ss` reads it).
    SockDiag,
    /// Events of the kernel programs.
    Events,
    /// The socket itself, read by a BPF iterator.
    Socket,
    /// A counter of /proc/net.
    Counters,
    /// A setting.
    Sysctl,
    /// Descriptors of processes.
    Descriptors,
    /// Concluded from other facts.
    Inferred,
}

impl From {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SockDiag => "sock_diag",
            Self::Events => "events",
            Self::Socket => "socket",
            Self::Counters => "counters",
            Self::Sysctl => "sysctl",
            Self::Descriptors => "descriptors",
            Self::Inferred => "inferred",
        }
    }
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// The evidence allows other readings.
    Possible,
    /// Another reading needs an unusual cause.
    Likely,
    /// The kernel's own state says so.
    Certain,
}

impl Confidence {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// A setting, with its value in the namespace of the finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As `sysctl` names it, or the socket option.
    pub name: &'static str,
    /// Its value; `None`: this namespace does not show it.
    pub value: Option<String>,
    /// What the value means here, where it does not mean what it says.
    pub meaning: Option<&'static str>,
}

/// When the kernel acts by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Never: only this can end it.
    Never(&'static str),
    /// Between these times from the look, in nanoseconds: then this happens.
    In {
        /// If every timer is punctual.
        earliest_ns: u64,
        /// If every timer is late.
        latest_ns: u64,
        /// What the kernel does then.
        then: &'static str,
        /// Retries that are still to come before it.
        retries_left: u32,
    },
    /// It will, but nothing tells when: why not.
    Unknown(&'static str),
}

impl Deadline {
    /// From the end of a ladder.
    pub fn of(ladder: &Ladder, then: &'static str, otherwise: Self) -> Self {
        match ladder.end {
            Some(End { in_ns, latest_ns }) => {
                Self::In { earliest_ns: in_ns, latest_ns, then, retries_left: ladder.rungs.len() as u32 }
            }
            None => otherwise,
        }
    }

    /// Nanoseconds from the look, if there is such a time.
    pub const fn earliest_ns(&self) -> Option<u64> {
        match self {
            Self::In { earliest_ns, .. } => Some(*earliest_ns),
            _ => None,
        }
    }
}
