//! What user space knows when it loads the programs, as constants in their instructions.
//!
//! Rust emits no CO-RE relocations (rust-lang/rust#160616). Here is what they would do: each [`config!`](crate::config!)
//! is one instruction with a marker as its operand, each member that is read one load with a marker as its offset, and user
//! space puts the values there before it loads the object (source/object.rs). The verifier then drops what a constant
//! switches off, and an offset costs no look into memory.

/// One field of [`Config`](tcptrace_common::config::Config), widened with its sign to 64 bits.
#[macro_export]
macro_rules! config {
    ($($field:ident).+) => {
        $crate::config::constant::<{ $crate::marker!($($field).+) }>()
    };
}

/// What stands for one field of [`Config`](tcptrace_common::config::Config).
#[macro_export]
macro_rules! marker {
    ($($field:ident).+) => {
        tcptrace_common::config::marker(
            core::mem::offset_of!(tcptrace_common::config::Config, $($field).+),
            tcptrace_common::config::size_of_field(|config| &config.$($field).+),
        )
    };
}

/// The offset of a member in this kernel, or `None` where it has none.
#[macro_export]
macro_rules! offset {
    ($member:ident) => {
        match $crate::config!(offsets.$member) {
            $crate::config::ABSENT => None,
            offset => Some(offset as usize),
        }
    };
}

/// [`ABSENT`](tcptrace_common::layout::ABSENT), widened.
pub const ABSENT: u64 = tcptrace_common::layout::ABSENT as i32 as u64;

/// The marker until user space replaces it. Opaque to the compiler, so that it does not compute with it.
#[inline(always)]
pub fn constant<const MARKER: i32>() -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let value: u64;
        // SAFETY: sets one register.
        unsafe {
            core::arch::asm!("{value} = {marker}", value = out(reg) value, marker = const MARKER,
                options(nomem, nostack, preserves_flags));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        MARKER as u64
    }
}

/// The same number, of which the compiler knows nothing any more.
#[inline(always)]
pub fn opaque(number: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // An instruction all the same: where there is none, the kernel refuses the line numbers that lie around it.
        // SAFETY: changes nothing.
        unsafe {
            core::arch::asm!("{number} = {number}", number = inout(reg) number,
                options(pure, nomem, nostack, preserves_flags));
        }
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number
    }
}
