//! The ledger beside the kernel's own list: whatever programs do, what the tracer believes is what `ss` shows, socket by
//! socket, by cookie.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod compare;
mod ends;
mod losses;
mod namespaces;
mod operations;
mod program;
mod random;
mod road;
mod space;
mod start;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
