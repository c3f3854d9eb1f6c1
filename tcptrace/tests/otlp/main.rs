//! Pushing to receivers that answer as the protocol says, slowly, wrongly, or not at all.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test that cannot go on says so

#[path = "../export/daemon.rs"]
#[allow(dead_code)] // it is another test's, too
mod daemon;
mod exported;
mod pushes;
mod receiver;
mod said;
#[path = "../support/mod.rs"]
mod support;
