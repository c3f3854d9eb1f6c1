//! How a trace ends, and what stays behind.

use crate::refused::*;
use crate::run::*;
use crate::support::PATIENCE;
use crate::works::*;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::fd::AsFd,
    process::{ChildStdout, Stdio},
    thread,
    time::Instant,
};
use tcptrace_lab::{Family, Lab};

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn signals_end_with_the_summary() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    for how in [Signal::SIGINT, Signal::SIGTERM] {
        let text = Running::watch(&["--netns", &here]);
        let json = Running::watch(&["--netns", &here, "--format", "json"]);
        traffic(&lab);
        let ran = text.end(Some(how)).expect(0);
        assert!(has_summary(&ran), "{how}: {ran:#?}");
        // What was on its way at that moment is shown too.
        assert_eq!(transitions(&ran), TRANSITIONS, "{how}: {ran:#?}");
        let lines = json.end(Some(how)).expect(0).json();
        assert_eq!(lines.last().expect("one")["type"], "summary", "{how}");
    }
}

/// Reads one line, byte by byte: nothing stays behind in a buffer when the pipe is closed.
pub fn first_line(out: &mut ChildStdout) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        let ready = poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)], PollTimeout::from(20_000_u16));
        assert!(ready.expect("polled") > 0, "no line comes");
        assert_eq!(out.read(&mut byte).expect("readable"), 1, "it ended: {line:?}");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_trace_that_nobody_reads_ends_quietly() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    for (format, first) in [("text", "TIME "), ("json", "{")] {
        for many in [1, 50] {
            let mut command = program(&["watch", "--netns", &here], &["--format", format]);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
            let mut out = child.stdout.take().expect("piped");
            let mut err = Stream::of(child.stderr.take().expect("piped"));
            let line = first_line(&mut out);
            assert!(line.starts_with(first), "{line}");
            drop(out);
            (0..many).for_each(|_| traffic(&lab));
            let status = exit_of(child);
            assert!(err.wait_for_the_end());
            let message = err.lines.join("\n");
            assert_eq!(status.code(), Some(0), "{format}: {message}");
            assert!(!message.contains("panicked") && !message.contains("roken pipe"), "{format}: {message}");
        }
        // Nobody has ever read.
        let mut command = program(&["watch", "--netns", &here], &["--format", format]);
        let mut child = command.stdout(closed_pipe()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut err = Stream::of(child.stderr.take().expect("piped"));
        if format == "text" {
            // The column names are in the first batch already.
            assert!(err.wait(|line| line.contains("watching through")));
        }
        assert_eq!(exit_of(child).code(), Some(0), "{format}");
        assert!(err.wait_for_the_end() && !err.lines.join("\n").contains("panicked"), "{:#?}", err.lines);
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_trace_onto_a_full_disk_is_an_error() {
    for format in ["text", "json"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let mut command = program(&["watch", "--port", "17777"], &["--format", format]);
        let output = command.stdout(full).output().expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{format}: {message}");
        assert!(message.contains("No space left") && !message.contains("panicked"), "{format}: {message}");
    }
}

/// The kernel's ids of the programs that a process holds.
pub fn programs_of(pid: u32) -> Vec<u32> {
    let fds = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs").flatten();
    let mut ids: Vec<_> = fds
        .filter_map(|fd| fs::read_to_string(fd.path()).ok())
        .filter_map(|info| info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Those of these programs that the kernel still has.
pub fn still_loaded(ids: &[u32]) -> Vec<u32> {
    aya::programs::loaded_programs().flatten().map(|info| info.id()).filter(|id| ids.contains(id)).collect()
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn no_program_stays_behind() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    for hooks in ["btf", "raw", "classic"] {
        for how in [Signal::SIGINT, Signal::SIGKILL] {
            let running = Running::watch(&["--netns", &here, "--hooks", hooks]);
            let ids = programs_of(running.child.id());
            assert!(ids.len() >= 5 && still_loaded(&ids) == ids, "{hooks}: {ids:?}");
            traffic(&lab);
            running.end(Some(how));
            // The kernel lets go of them a moment after the process is gone.
            let deadline = Instant::now() + PATIENCE;
            while !still_loaded(&ids).is_empty() {
                assert!(Instant::now() < deadline, "{hooks}, {how}: {:?}", still_loaded(&ids));
                thread::yield_now();
            }
        }
    }
    let value = diagnosis(&run(&["doctor", "--format", "json"]).expect(0));
    assert_eq!(value["not_tried"], Value::Null, "{value}");
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn doctor_as_root_tries_every_hook() {
    let value = diagnosis(&run(&["doctor", "--format", "json"]).expect(0));
    let hooks = value["hooks"].as_array().expect("hooks");
    let state = hooks.iter().find(|hook| hook["hook"] == "inet_sock_set_state").expect("listed");
    assert!(state["attached"].is_string(), "{state}");
    for hook in hooks {
        assert!(hook["tells"].is_string() && hook["without"].is_string(), "{hook}");
        let refused = hook["refused"].as_array().expect("a list");
        assert!(hook["attached"].is_string() || !refused.is_empty(), "a reason why not: {hook}");
    }
    let ran = run(&["doctor", "--format", "text"]).expect(0);
    assert!(ran.err.is_empty() && ran.out[0].starts_with("tcptrace can trace here"), "{ran:#?}");
    for hook in hooks {
        let name = hook["hook"].as_str().expect("a name");
        let way = hook["attached"].as_str().unwrap_or("no");
        let row = ran.out.iter().find(|line| line.split_whitespace().next() == Some(name)).expect(name);
        assert_eq!(row.split_whitespace().nth(1), Some(way), "{row}");
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn two_tracers_at_once_both_see_everything() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let first = Running::watch(&["--netns", &here, "--format", "json"]);
    traffic(&lab);
    let second = Running::watch(&["--netns", &here, "--format", "json"]);
    (0..20).for_each(|_| traffic(&lab));
    let second = second.stop().expect(0).json();
    traffic(&lab);
    let first = first.stop().expect(0).json();
    let story = |lines: &[Value]| {
        let told = |line: &&Value| {
            (line["type"] == "transition" && line["inferred"] == false) || line["type"] == "close"
        };
        let keys = ["type", "local", "remote", "role", "old", "new", "cause", "flow_id", "flow"];
        let tell = |line: &Value| keys.map(|key| line[key].to_string()).join(" ");
        let mut story: Vec<_> = lines.iter().filter(told).map(tell).collect();
        story.sort(); // closes are told a moment late
        story
    };
    let (first_story, second_story) = (story(&first), story(&second));
    assert_eq!(first_story.len(), 22 * (TRANSITIONS + 3));
    assert_eq!(second_story.len(), 20 * (TRANSITIONS + 3));
    // The first connection was before the second tracer, the last one after it; a flow is the same for both.
    let shared: BTreeSet<_> = first_story.iter().collect();
    let missing: Vec<_> = second_story.iter().filter(|line| !shared.contains(line)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for lines in [&first, &second] {
        assert_eq!(lines.last().expect("one")["lost"], 0);
    }
}
