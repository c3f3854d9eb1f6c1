//! What a dump was for, and what it came to: for whoever reads the output.

use crate::flow::Reconciled;
use serde::{Deserialize, Serialize};

/// Why the kernel was asked for its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The trace has just begun.
    Start,
    /// Events were lost.
    Lost,
    /// It was time (`--resync`).
    Timer,
    /// Somebody asked (SIGUSR1).
    Asked,
    /// The trace is about to end.
    End,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Start, Self::Lost, Self::Timer, Self::Asked];

    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Lost => "lost",
            Self::Timer => "timer",
            Self::Asked => "asked",
            Self::End => "end",
        }
    }
}

/// What was wrong with the kernel's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Lists that the kernel broke off, and that were begun again.
    pub restarts: u64,
    /// Messages that make no sense.
    pub unreadable: u64,
}

/// A dump of every namespace we can reach, joined with the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {
    /// What for.
    pub why: Why,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// Namespaces that were dumped.
    pub namespaces: u64,
    /// Namespaces that were not: no permission, or they went away.
    pub unread: u64,
    /// What was wrong with the kernel's answers.
    pub broken: Broken,
    /// What it came to.
    pub reconciled: Reconciled,
}
