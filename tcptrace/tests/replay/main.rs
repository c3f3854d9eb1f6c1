//! Recordings: what a view says of one is what it said live, it says it again and again, without root, and of a recording
//! that was cut off it says how far it goes.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

#[path = "../support/mod.rs"]
mod support;

mod golden;
mod live;

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Output,
};

/// Nobody on every Linux.
const NOBODY: u32 = 65534;

/// A file name of this test, and nothing there.
fn fresh(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tcptrace-replay-{name}-{}.tct", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// Runs a command on a recording, with no privileges at all.
fn view(args: &[&str], recording: &Path) -> Output {
    let mut command = support::command(&[]);
    command.args(args).arg("--from").arg("-").env("TZ", "UTC").env_remove("TCPTRACE_LOG");
    command.stdin(std::fs::File::open(recording).unwrap());
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}
