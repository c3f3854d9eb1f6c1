//! Where and when what is shown took place: what output needs beside entries.

use super::Started;
use crate::{enrich::Places, source::live::wall_offset_ns, wall::Wall};

/// This machine now, or that of a recording then.
#[derive(Clone)]
pub struct Origin {
    /// What to add to boot time to get the time of day, in nanoseconds since 1970, when it began.
    pub wall_offset_ns: i64,
    /// Names of cgroups and of processes' places.
    pub places: Places,
    /// It comes from a recording.
    pub replayed: bool,
}

impl Origin {
    /// This machine, now.
    pub fn live(started: &Started) -> Self {
        Self { wall_offset_ns: started.wall_offset_ns, places: Places::new(), replayed: false }
    }

    /// Of a recording that began so.
    pub fn recorded(started: &Started) -> Self {
        Self { wall_offset_ns: started.wall_offset_ns, places: Places::recorded(), replayed: true }
    }

    /// Formats its times: this machine's as its clock goes, a recording's by what it says.
    pub fn wall(&self) -> Wall {
        if self.replayed {
            Wall::new(self.wall_offset_ns)
        } else {
            Wall::following(self.wall_offset_ns, wall_offset_ns)
        }
    }
}
