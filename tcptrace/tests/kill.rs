//! `tcptrace kill` against what `ss` shows and what the other end sees, in network namespaces of their own.
#![allow(clippy::expect_used)] // a test that cannot go on says so

#[path = "kill/peers.rs"]
mod peers;
#[path = "kill/refused.rs"]
mod refused;
#[path = "kill/sockets.rs"]
mod sockets;
mod support;

use serde_json::Value;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use support::{PATIENCE, command, netns};
use tcptrace_common::state::TcpState;
use tcptrace_lab::{Lab, Side};

/// One at a time: a child that another test starts holds all our descriptors until its exec, and nothing is closed.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it is so.
#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// State, local port, remote port, as `ss` lists them.
type Row = (&'static str, u16, u16);

fn ss(lab: &Lab, side: Side) -> BTreeSet<Row> {
    let mut command = Command::new("ss");
    command.args(["-H", "-tan"]);
    let output = lab.command(side, command).expect("ss runs");
    assert!(output.status.success(), "{output:?}");
    let port = |end: &str| end.rsplit(':').next().expect("a port").parse().unwrap_or(0);
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let state = TcpState::parse(words[0]).expect("a state").name();
        (state, port(words[3]), port(words[4]))
    };
    String::from_utf8_lossy(&output.stdout).lines().map(row).collect()
}

/// What came of it in JSON: the sockets, the sum; the code is checked.
#[track_caller]
fn kill(lab: &Lab, side: Side, args: &[&str], code: i32) -> (Vec<Value>, Value) {
    let here = netns(lab.netns(side));
    let args = [&["kill", "--netns", &here, "--format", "json"], args].concat();
    let output = command(&args).output().expect("it runs");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    let mut lines = json(&output);
    let sum = lines.pop().expect("a sum");
    assert_eq!(sum["type"], "kill-summary", "{sum}");
    assert!(lines.iter().all(|line| line["type"] == "kill" && line["v"] == 1), "{lines:?}");
    (lines, sum)
}

fn json(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Result, state, local port, remote port.
fn told(line: &Value) -> (&str, &str, u64, u64) {
    let text = |key: &str| line[key].as_str().expect("text");
    let port = |end: &str| line[end]["port"].as_u64().expect("a port");
    (text("result"), text("state"), port("local"), port("remote"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("valid")
}
