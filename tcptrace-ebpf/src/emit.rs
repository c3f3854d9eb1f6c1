//! Counting, then sending. Counting comes first, so that what the ring could not take is known exactly.

use crate::{config, maps};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    maps::ring_buf::RingBufEntry,
};
use core::mem::MaybeUninit;
use tcptrace_common::{
    counters::Counters,
    event::{Header, Kind, UNDECIDED},
    state::STATES,
};

/// This CPU's counters.
pub struct Count(*mut Counters);

/// This CPU's counters, nothing counted yet.
#[inline(always)]
pub fn counters() -> Option<Count> {
    maps::COUNTERS.get_ptr_mut(0).map(Count)
}

/// Counts a record that passed the filter.
#[inline(always)]
pub fn count(kind: Kind) -> Option<Count> {
    let count = counters()?;
    // SAFETY: the entry exists and is this CPU's.
    unsafe { (*count.0).counted[kind as usize] += 1 };
    Some(count)
}

impl Count {
    /// Counts a transition. Undecided ones are counted by user space, once it knows.
    #[inline(always)]
    pub fn transition(&self, head: &Header) {
        if head.pre.flags & UNDECIDED == 0 {
            let cell = (head.pre.state as usize * STATES + head.pre.to as usize) & (STATES * STATES - 1);
            // SAFETY: the mask keeps the index inside.
            unsafe { *(&raw mut (*self.0).matrix).cast::<u64>().add(cell) += 1 };
        }
    }

    /// Counts a return of `tcp_retransmit_skb`.
    #[inline(always)]
    pub fn call(&self, segments: u64, failed: bool) {
        // SAFETY: as above.
        unsafe {
            (*self.0).attempts += 1;
            (*self.0).attempted_segments += segments;
            (*self.0).failed += failed as u64;
        }
    }

    /// Room for one record, or its loss counted.
    #[inline(always)]
    pub fn reserve<T: 'static>(&self, kind: Kind) -> Option<RingBufEntry<T>> {
        let entry = maps::EVENTS.reserve::<T>(0);
        if entry.is_none() {
            // SAFETY: as above.
            unsafe { (*self.0).lost[kind as usize] += 1 };
        }
        entry
    }

    /// Hands the record over. Nobody is woken (a wakeup costs several times the record, kernel-facts §13): user
    /// space drains on a timer. Only a ring that fills up faster than that wakes it.
    #[inline(always)]
    pub fn submit<T: 'static>(&self, entry: RingBufEntry<T>) {
        let mut flags = BPF_RB_NO_WAKEUP;
        // SAFETY: as above.
        let unlooked = unsafe { &mut (*self.0).unlooked };
        *unlooked += 1;
        if *unlooked >= u64::from(config!(wake_every)) {
            *unlooked = 0;
            if maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(config!(wake_bytes)) {
                flags = BPF_RB_FORCE_WAKEUP;
            }
        }
        entry.submit(u64::from(flags));
    }

    /// Sends a record that is ready.
    #[inline(always)]
    pub fn send<T: Copy + 'static>(&self, kind: Kind, record: T) {
        if let Some(mut entry) = self.reserve::<T>(kind) {
            let slot: &mut MaybeUninit<T> = &mut entry;
            slot.write(record);
            self.submit(entry);
        }
    }
}
