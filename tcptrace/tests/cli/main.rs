//! The command line: each flag does with each value what its help says, and refuses bad values helpfully.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod diff;
mod documents;
mod endings;
mod export;
mod hist;
mod kill;
mod lab;
mod mended;
mod otlp;
mod output;
mod record;
mod refused;
mod run;
mod stuck;
#[path = "../support/mod.rs"]
mod support;
mod works;
