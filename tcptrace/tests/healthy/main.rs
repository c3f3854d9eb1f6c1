//! `tcptrace stuck` on a healthy busy host. A test binary of its own: what looks beside it would be slowed down.
#![allow(clippy::expect_used)] // a test that cannot go on says so

#[path = "../support/looks.rs"]
mod looks;
#[allow(dead_code)] // this test needs a part of it
#[path = "../differential/random.rs"]
mod random;
#[allow(dead_code)] // likewise
#[path = "../differential/space.rs"]
mod space;
#[path = "../support/mod.rs"]
mod support;

mod busy;
mod load;
