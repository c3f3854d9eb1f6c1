//! What a recording holds: what a run took in, in that order, and what was asked of the machine meanwhile. Records of the
//! ring are kept as the kernel wrote them; everything else is a [`Frame`].

use crate::{
    flow,
    process::Process,
    run::{Started, core::Answer, report::Resync},
    sight::{Sight, Taken},
    source::{
        counters::{Counters, Settings, Sockstat},
        details::SocketDetail,
        holders::Holder,
        netns,
        surroundings::Space,
    },
    summary::LostCounts,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use tcptrace_common::counters::Counters as KernelCounters;

/// Kind of a record of the ring, as the kernel wrote it.
pub const RECORD: u8 = 1;
/// Kind of a [`Frame`].
pub const FRAME: u8 = 2;

/// Everything but a record of the ring.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Frame {
    /// How the trace began; opens every file.
    Started(Box<Started>),
    /// What lies between the clock of the records that follow and boot time, in nanoseconds.
    Slept(u64),
    /// [`crate::run::core::Input::Tick`].
    Tick(u64),
    /// [`crate::run::core::Input::Ask`].
    Ask {
        /// When.
        now_ns: u64,
        /// At most so many questions.
        most: u32,
    },
    /// [`crate::run::core::Input::Answers`].
    Answers {
        /// When the last came.
        now_ns: u64,
        /// With the cookie asked for.
        answers: Vec<(u64, Option<Answer>)>,
    },
    /// [`crate::run::core::Input::Overdue`].
    Overdue(u64),
    /// [`crate::run::core::Input::Settings`].
    Settings(Vec<(u32, flow::Limits)>),
    /// A name that output asked for.
    Place(Place),
    /// A list of all sockets begins; with what was asked of the machine then.
    Looking(Box<Namespaces>),
    /// [`crate::run::core::Input::Sights`].
    Sights {
        /// When.
        taken: Taken,
        /// The sockets.
        sights: Vec<Sight>,
        /// Who holds them, by inode.
        holders: Vec<(u32, Holder)>,
    },
    /// [`crate::run::core::Input::Unseen`].
    Unseen {
        /// Namespaces whose list is complete.
        covered: Vec<u32>,
        /// When the first list began.
        began_ns: u64,
    },
    /// What sockets of a namespace tell themselves, or some of them; belongs to the next [`Frame::Looked`].
    Details(u32, Vec<SocketDetail>),
    /// A list of all sockets has ended; with what was asked of the machine then.
    Looked {
        /// When.
        now_ns: u64,
        /// What it was for.
        round: Resync,
        /// What is around.
        around: Box<Around>,
    },
    /// [`crate::run::core::Input::States`].
    States(u64),
    /// Entries were handed over up to here.
    HandedOver,
    /// [`crate::run::core::Input::Counted`].
    Counted {
        /// When.
        now_ns: u64,
        /// The kernel's.
        counters: Box<KernelCounters>,
        /// What was lost since the beginning.
        lost: LostCounts,
        /// For the last time.
        last: bool,
    },
    /// In a file that is not the first: what was counted before it began.
    Joined {
        /// The kernel's.
        counters: Box<KernelCounters>,
        /// What was lost.
        lost: LostCounts,
    },
    /// There are no more events.
    End(u64),
}

/// A name that output asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Place {
    /// Path of a cgroup.
    Cgroup {
        /// Its v2 id.
        id: u64,
        /// Below the mount point.
        path: String,
    },
    /// Path of a process' cgroup.
    Process {
        /// The process.
        process: Process,
        /// `None`: unknown.
        path: Option<String>,
    },
}

/// What is asked of the machine when a list of all sockets begins.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// Settings by namespace.
    pub settings: Vec<(u32, netns::Limits)>,
    /// How long a tick of the kernel's clock is, in nanoseconds.
    pub tick_ns: Option<u64>,
}

/// What is asked of the machine when such a list has ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Around {
    /// The errno, if any, of a route, by namespace and address.
    pub routes: Vec<(u32, IpAddr, Option<u16>)>,
    /// Sockets and limits of each namespace.
    pub spaces: Vec<Space>,
    /// Counters of each namespace, and when they were read.
    pub counters: Vec<(u32, Counters)>,
    /// The age of the counters before, in nanoseconds, by namespace; those that had none are not there.
    pub ages: Vec<(u32, u64)>,
    /// Orphans and memory of the whole machine, and their limits.
    pub whole: (Sockstat, Settings),
}

impl Frame {
    /// As bytes.
    ///
    /// # Errors
    /// None that is known: every type has a form.
    pub fn encode(&self, into: &mut Vec<u8>) -> Result<(), postcard::Error> {
        into.clear();
        *into = postcard::to_extend(self, std::mem::take(into))?;
        Ok(())
    }

    /// From bytes.
    ///
    /// # Errors
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (frame, rest) = postcard::take_from_bytes(bytes)?;
        if rest.is_empty() { Ok(frame) } else { Err(postcard::Error::DeserializeBadEncoding) }
    }
}
