//! `tcptrace export` as its users see it: scraped by hand and by a real Prometheus while something happens.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod aggregate;
mod daemon;
mod endpoint;
mod flags;
mod numbers;
mod prometheus;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tools.rs"]
mod tools;
