//! The ring that programs write into and user space reads from, both of them straight from memory: an array map that
//! user space has mapped. No helper, no lock; one atomic addition makes room for a record.
//!
//! Records lie one after another at positions that only grow. A position says the segment (an entry of the array, so that
//! the verifier knows how much lies behind it) and the place in it; a record that begins in a segment ends in it, in the
//! room that each has behind its end. Before each record lies a word: its length in bytes once it is complete, 0 until
//! then. The reader makes zero of all that it has read before it gives the room back: so what lies at the next position is
//! 0 until its record is complete, whatever was there before.

use crate::event::{Accept, Close, Established, Object, Reset, Retransmit, SynAck};

/// Positions that belong to a segment. A power of two.
pub const SEGMENT_BYTES: usize = 4096;
/// The word before each record.
pub const WORD_BYTES: usize = size_of::<u64>();
/// The longest record with its word.
pub const MOST_BYTES: usize = WORD_BYTES + size_of::<Close>();
/// Contexts of one CPU that may be between looking for room and taking it: a task, what interrupts it (a softirq, an
/// interrupt, an NMI), and as many tasks again that were preempted between these two instructions. Programs on tracepoints
/// cannot be (include/linux/tracepoint.h, 6.18, without PREEMPT_RT), those on functions can.
const CONTEXTS: usize = 8;

/// An entry of the array.
pub type Segment = [u64; (SEGMENT_BYTES + MOST_BYTES) / WORD_BYTES];

const _: () = {
    assert!(MOST_BYTES.is_multiple_of(WORD_BYTES));
    let longest = size_of::<Close>();
    assert!(longest >= size_of::<Accept>() && longest >= size_of::<Established>());
    assert!(longest >= size_of::<Object>() && longest >= size_of::<Reset>());
    assert!(longest >= size_of::<Retransmit>() && longest >= size_of::<SynAck>());
};

/// Positions that stay free, so that whoever finds room still has it when it takes it: meanwhile every other context may
/// have taken some, each once (whoever takes twice has looked in between).
pub const fn spare_bytes(cpus: usize) -> usize {
    cpus * CONTEXTS * MOST_BYTES
}

/// What both sides tell each other while they run. Words that one side writes often have a cache line of their own.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Positions {
    /// Where the next record will be. Programs add to it.
    pub reserved: u64,
    #[allow(missing_docs)]
    pub spare: [u64; 15],
    /// Up to here everything has been read, and is zero again. User space writes it.
    pub released: u64,
    /// User space sets it to 1 when it goes to sleep for longer; the next record makes it 0 and wakes it.
    pub idle: u64,
    /// Programs set it to 1 once any record was lost, on any CPU.
    pub lossy: u64,
    #[allow(missing_docs)]
    pub rest: [u64; 13],
}
