//! `tcptrace stuck` on the real kernel: each scenario of the lab ends in the finding that it is about and in no other;
//! what is predicted happens.
#![allow(clippy::expect_used)] // a test that cannot go on says so

#[path = "../support/looks.rs"]
mod looks;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tools.rs"]
mod tools;

mod deadlines;
mod scenarios;
