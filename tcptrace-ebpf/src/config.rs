//! The read-only data that user space fills in before it loads the programs.

use tcptrace_common::config::Config;

/// Overridden at load, then frozen: the verifier takes its bytes as constants and drops what they switch off.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::EMPTY;

/// Reads one field of [`CONFIG`]. Volatile, so that the compiler does not use the object's own bytes instead of
/// the ones that user space put there.
#[macro_export]
macro_rules! config {
    ($($field:ident).+) => {{
        #[allow(unused_unsafe)] // also used inside unsafe blocks
        // SAFETY: a field of a static, aligned, never written while programs run.
        let value = unsafe { core::ptr::read_volatile(&raw const $crate::config::CONFIG.$($field).+) };
        value
    }};
}

/// The offset of a member in this kernel, or `None` where it has none.
#[macro_export]
macro_rules! offset {
    ($member:ident) => {
        match $crate::config!(offsets.$member) {
            tcptrace_common::layout::ABSENT => None,
            offset => Some(offset as usize),
        }
    };
}
