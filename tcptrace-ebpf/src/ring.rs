//! Room for a record, in our own ring (tcptrace-common/src/ring.rs) or in the kernel's, and handing it over.
//!
//! Ours costs less than the kernel's, which takes a lock with interrupts off and calls two helpers (docs/kernel.md). The
//! kernel's is there where ours cannot be, and to wake user space.

use crate::{config, config::opaque, maps};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ringbuf_submit,
};
use tcptrace_common::ring::{Positions, SEGMENT_BYTES, WORD_BYTES};

/// Room for one record. To be handed over on every path: nobody reads past a record that is not complete.
#[must_use]
pub struct Room<T> {
    /// The record's memory.
    pub record: *mut T,
    positions: *mut Positions,
    /// Bytes that waited in our own ring before.
    waiting: i64,
}

#[inline(always)]
fn positions() -> Option<*mut Positions> {
    maps::POSITIONS.get_ptr_mut(0)
}

/// Was any record lost, on any CPU?
#[inline(always)]
pub fn is_lossy() -> bool {
    // SAFETY: one word of an entry that exists.
    positions().is_some_and(|positions| unsafe { (&raw const (*positions).lossy).read_volatile() } != 0)
}

/// A record was lost.
#[inline(always)]
pub fn set_lossy() {
    if let Some(positions) = positions() {
        // SAFETY: one word; every CPU that gets here writes the same.
        unsafe { (&raw mut (*positions).lossy).write_volatile(1) };
    }
}

/// Room for one record; `None`: there is none.
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<Room<T>> {
    let positions = positions()?;
    if config!(own_ring) != 0 { reserve_own(positions) } else { reserve_kernel(positions) }
}

#[inline(always)]
fn reserve_kernel<T: 'static>(positions: *mut Positions) -> Option<Room<T>> {
    let mut entry = maps::EVENTS.reserve::<T>(0)?;
    let record = entry.as_mut_ptr();
    Some(Room { record, positions, waiting: 0 })
}

#[inline(always)]
fn reserve_own<T: 'static>(positions: *mut Positions) -> Option<Room<T>> {
    const { assert!(size_of::<T>().is_multiple_of(WORD_BYTES) && align_of::<T>() <= WORD_BYTES) };
    // SAFETY: whole words of an entry that exists.
    unsafe {
        let reserved = (&raw const (*positions).reserved).read_volatile();
        // Other CPUs and the reader may be past `reserved` by now: then this is below 0, and there is room.
        let waiting = reserved.wrapping_sub((&raw const (*positions).released).read_volatile()) as i64;
        if waiting > config!(ring_limit) as i64 {
            return None;
        }
        let at = fetch_add(&raw mut (*positions).reserved, (WORD_BYTES + size_of::<T>()) as u64);
        let segment = opaque(((at / SEGMENT_BYTES as u64) & config!(ring_mask)) as usize);
        let segment = maps::SEGMENTS.get_ptr_mut(segment as u32)?.cast::<u8>();
        // The mask tells the verifier that it is whole words, too.
        let word = segment.add(opaque(at as usize) & (SEGMENT_BYTES - WORD_BYTES));
        Some(Room { record: word.add(WORD_BYTES).cast(), positions, waiting })
    }
}

impl<T: 'static> Room<T> {
    /// Hands the record over. Nobody is woken (a wakeup costs several times the record, docs/kernel.md): user
    /// space drains on a timer. Only the first record after a long silence wakes it, and a ring that fills up fast.
    /// `look`: now is the time to look how full it is.
    #[inline(always)]
    pub fn submit(self, look: bool) {
        let own = config!(own_ring) != 0;
        if own {
            // SAFETY: the word before the record is ours.
            unsafe { complete(self.record.cast::<u64>().sub(1), size_of::<T>() as u64) };
        }
        let mut wake = false;
        if look {
            let waiting =
                if own { self.waiting } else { maps::EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) as i64 };
            wake = waiting >= i64::from(config!(wake_bytes) as u32);
        }
        // SAFETY: one word of an entry that exists.
        unsafe {
            let idle = &raw mut (*self.positions).idle;
            if idle.read_volatile() != 0 {
                idle.write_volatile(0);
                wake = true;
            }
        }
        let flags = u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP });
        if !own {
            // SAFETY: reserved there, and not handed over yet.
            unsafe { bpf_ringbuf_submit(self.record.cast(), flags) };
        } else if wake && let Some(bell) = maps::EVENTS.reserve::<u64>(0) {
            bell.submit(flags);
        }
    }
}

/// Adds, and says what was there before.
///
/// # Safety
/// A word of a map.
#[inline(always)]
unsafe fn fetch_add(word: *mut u64, number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // The compiler has it for newer instruction sets only; user space takes it out for older kernels (source/object.rs).
        // SAFETY: the caller's.
        unsafe {
            core::arch::asm!("{number} = atomic_fetch_add((u64 *)({word} + 0), {number})", number = inout(reg) number,
                word = in(reg) word, options(nostack, preserves_flags));
        }
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = word;
        number
    }
}

/// Completes a record: whoever sees its length sees all of it.
///
/// # Safety
/// The word before the record.
#[inline(always)]
unsafe fn complete(word: *mut u64, bytes: u64) {
    #[cfg(target_arch = "bpf")]
    // Memory counts as changed for the compiler, so everything before is written before.
    // SAFETY: the caller's.
    unsafe {
        if config!(ordered_stores) != 0 {
            core::arch::asm!("*(u64 *)({word} + 0) = {bytes}", word = in(reg) word, bytes = in(reg) bytes,
                options(nostack, preserves_flags));
        } else {
            core::arch::asm!("{bytes} = xchg_64({word} + 0, {bytes})", word = in(reg) word,
                bytes = inout(reg) bytes => _, options(nostack, preserves_flags));
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = (word, bytes);
    }
}
