//! What `cargo xtask dist` made, as users get it: installed, started as the unit says, scraped, removed.
#![allow(clippy::expect_used)] // a test that cannot go on says so

#[path = "../export/daemon.rs"]
#[allow(dead_code)] // another test's daemon
mod daemon;
mod deb;
mod dist;
mod image;
mod pages;
mod root;
mod rpm;
mod service;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tools.rs"]
mod tools;
mod unit;
