//! The vocabulary both sides share: event records, TCP states, counters, and what user space hands
//! to the kernel programs. `no_std`; there is no second definition of any of this anywhere.
#![cfg_attr(not(any(test, feature = "user")), no_std)]

pub mod address;
pub mod aggregate;
pub mod config;
pub mod counters;
pub mod detail;
pub mod event;
pub mod holding;
pub mod layout;
pub mod ring;
pub mod state;

/// Bumped whenever a record or [`counters::Counters`] changes shape: recordings have both.
pub const ABI_VERSION: u32 = 2;
