//! Views of a lab that do not come from it: what `ss` prints, and what the kernel's own trace says.
#![allow(dead_code, reason = "each test file uses one of the two")]

pub mod ss;
pub mod trace;
