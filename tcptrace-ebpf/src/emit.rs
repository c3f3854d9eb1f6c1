//! Counting, then sending. Counting comes first, so that what the ring could not take is known exactly.

use crate::{config, config::opaque, maps, ring};
use tcptrace_common::{
    counters::Counters,
    event::{KINDS, Kind, UNDECIDED},
    state::STATES,
};

/// This CPU's counters, and how often what happens now has happened before.
pub struct Count {
    counters: *mut Counters,
    times: u64,
}

/// This CPU's counters, nothing counted yet.
#[inline(always)]
pub fn counters() -> Option<Count> {
    maps::COUNTERS.get_ptr_mut(0).map(|counters| Count { counters, times: 0 })
}

/// The counter of a kind. The compiler knows that there is one for each, the verifier must be shown.
#[inline(always)]
fn of(counters: &mut [u64; KINDS], kind: Kind) -> Option<&mut u64> {
    counters.get_mut(opaque(kind as usize))
}

/// Counts a record that passed the filter; transitions are counted by pair instead.
#[inline(always)]
pub fn count(kind: Kind) -> Option<Count> {
    let mut count = counters()?;
    // SAFETY: the entry exists and is this CPU's.
    let counted = of(unsafe { &mut (*count.counters).counted }, kind)?;
    *counted += 1;
    count.times = *counted;
    Some(count)
}

impl Count {
    /// Counts a transition. Undecided ones are counted by user space, once it knows.
    #[inline(always)]
    pub fn transition(kind: Kind, flags: u8, from: u8, to: u8) -> Option<Self> {
        if flags & UNDECIDED != 0 {
            return count(kind);
        }
        let mut count = counters()?;
        let cell = (from as usize * STATES + to as usize) & (STATES * STATES - 1);
        // SAFETY: the mask keeps the index inside.
        unsafe {
            let counted = &mut *(&raw mut (*count.counters).matrix).cast::<u64>().add(cell);
            *counted += 1;
            count.times = *counted;
        }
        Some(count)
    }

    /// Counts a return of `tcp_retransmit_skb`.
    #[inline(always)]
    pub fn call(&self, segments: u64, failed: bool) {
        // SAFETY: as above.
        unsafe {
            (*self.counters).attempts += 1;
            (*self.counters).attempted_segments += segments;
            (*self.counters).failed += failed as u64;
        }
    }

    /// Has one record written where the reader will find it, or counts its loss.
    #[inline(always)]
    pub fn send_with<T: 'static>(&self, kind: Kind, write: impl FnOnce(*mut T)) {
        let Some(room) = ring::reserve::<T>() else {
            // SAFETY: as above.
            if let Some(lost) = of(unsafe { &mut (*self.counters).lost }, kind) {
                *lost += 1;
            }
            return ring::set_lossy();
        };
        write(room.record);
        room.submit(self.times & config!(wake_mask) == 0);
    }

    /// Sends a record that is ready.
    #[inline(always)]
    pub fn send<T: Copy + 'static>(&self, kind: Kind, record: T) {
        // SAFETY: room for one record.
        self.send_with(kind, |slot: *mut T| unsafe { slot.write(record) });
    }
}
