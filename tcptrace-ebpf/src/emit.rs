//! Counting, then sending. Counting comes first, so that what the ring could not take is known exactly.

use crate::{config, config::opaque, maps};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    maps::ring_buf::RingBufEntry,
};
use core::mem::MaybeUninit;
use tcptrace_common::{
    counters::{Counters, FLAG_IDLE, FLAG_LOSSY},
    event::{KINDS, Kind, UNDECIDED},
    state::STATES,
};

/// This CPU's counters, and how often what happens now has happened before.
pub struct Count {
    counters: *mut Counters,
    times: u64,
}

/// Is a flag set?
#[inline(always)]
pub fn flag(index: u32) -> bool {
    // SAFETY: one word.
    maps::FLAGS.get_ptr(index).is_some_and(|flag| unsafe { flag.read_volatile() } != 0)
}

#[inline(always)]
fn set_flag(index: u32, value: u32) {
    if let Some(flag) = maps::FLAGS.get_ptr_mut(index) {
        // SAFETY: one word; every CPU that gets here writes the same.
        unsafe { flag.write_volatile(value) };
    }
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

    /// Room for one record, or its loss counted.
    #[inline(always)]
    pub fn reserve<T: 'static>(&self, kind: Kind) -> Option<RingBufEntry<T>> {
        let entry = maps::EVENTS.reserve::<T>(0);
        if entry.is_none() {
            // SAFETY: as above.
            if let Some(lost) = of(unsafe { &mut (*self.counters).lost }, kind) {
                *lost += 1;
            }
            set_flag(FLAG_LOSSY, 1);
        }
        entry
    }

    /// Hands the record over. Nobody is woken (a wakeup costs several times the record, docs/kernel.md): user
    /// space drains on a timer. Only the first record after a long silence wakes it, and a ring that fills up fast.
    #[inline(always)]
    pub fn submit<T: 'static>(&self, entry: RingBufEntry<T>) {
        let mut flags = BPF_RB_NO_WAKEUP;
        if self.times & config!(wake_mask) == 0
            && maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= u64::from(config!(wake_bytes) as u32)
        {
            flags = BPF_RB_FORCE_WAKEUP;
        }
        if flag(FLAG_IDLE) {
            set_flag(FLAG_IDLE, 0);
            flags = BPF_RB_FORCE_WAKEUP;
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
