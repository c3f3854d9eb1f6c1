//! How often and for how long: transitions by pair of states, times in states. Pure, as the ledger is.

pub mod dwell;

pub use dwell::Dwell;
