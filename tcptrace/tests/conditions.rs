//! What is left of tracing where the kernel's settings forbid something. Each test needs its setting, and says so where it is
//! not in force: `cargo xtask vm` boots kernels with each.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use serde_json::Value;
use std::{
    fs,
    os::unix::process::CommandExt,
    process::{Command, Output},
};
use support::{PATIENCE, Tracer, command, flow_of, netns, path, patiently, text};
use tcptrace_lab::{Direction, Family, Lab, Side, find};

/// include/uapi/linux/capability.h: CAP_PERFMON and CAP_BPF.
const TRACING: [libc::c_ulong; 2] = [38, 39];

fn lockdown() -> String {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    modes.split('[').nth(1).and_then(|rest| rest.split(']').next()).unwrap_or("not in this kernel").to_owned()
}

/// Traces with these arguments for a moment.
fn watch(args: &[&str]) -> Command {
    let mut command = command(&["watch", "--format", "json", "--duration", "100ms"]);
    command.args(args);
    command
}

/// It was refused, with a reason and a way out.
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("please report"), "it is a setting, no defect: {said}");
}

fn start_line(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().next().expect("a start line")).expect("JSON")
}

/// Both ends of an orderly life, in both families, and the way of the state hook.
fn an_orderly_life_is_told() -> Value {
    let scenario = find("close-client-first").expect("listed");
    let mut way = Value::Null;
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        let spaces = Side::ALL.map(|side| lab.netns(side));
        let tracer = Tracer::start(&["--netns", &netns(spaces[0]), "--netns", &netns(spaces[1])]);
        scenario.run(&lab, &mut |_| {}).expect("it plays");
        let (lines, summary) = tracer.stop();
        assert_eq!(summary["lost"], 0);
        for (space, role, expected) in
            [(spaces[0], "active", scenario.client.path), (spaces[1], "passive", scenario.server.path)]
        {
            let flow = flow_of(&lines, space, role).expect("a flow");
            assert_eq!(path(&lines, &flow), expected, "{role}\n{}", text(&lines));
        }
        way = lines[0]["hooks"]["inet_sock_set_state"].clone();
    }
    way
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn lockdown_for_integrity_forbids_no_tracepoint() {
    if lockdown() != "integrity" {
        println!("skipped: lockdown is {}", lockdown());
        return;
    }
    for (hooks, way) in [("btf", "tp_btf"), ("raw", "raw_tp"), ("classic", "classic")] {
        let output = watch(&["--hooks", hooks]).output().expect("it starts");
        assert_eq!(start_line(&output)["hooks"]["inet_sock_set_state"], way);
    }
    patiently(|| {
        an_orderly_life_is_told();
    });
}

/// Kernel memory may not be read by address: what is left are typed loads.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn lockdown_for_confidentiality_leaves_tp_btf() {
    if lockdown() != "confidentiality" {
        println!("skipped: lockdown is {}", lockdown());
        return;
    }
    for hooks in ["raw", "classic"] {
        let output = watch(&["--hooks", hooks]).output().expect("it starts");
        refused(&output, &[&format!("--hooks {hooks} cannot be used here"), "lockdown"]);
    }
    let output = watch(&["--retransmit-hook", "kprobe"]).output().expect("it starts");
    refused(&output, &["--retransmit-hook kprobe cannot be used here"]);
    patiently(|| assert_eq!(an_orderly_life_is_told(), "tp_btf"));
}

/// A program with the two capabilities for tracing, and no other.
fn with_tracing_only(mut command: Command) -> Command {
    let drop_others = || {
        use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
        // Up to 5.10 maps count against it, and only CAP_SYS_RESOURCE may raise it.
        setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
        // SAFETY: plain numbers. What is not a capability of this kernel is an error.
        let ask = |what, capability: libc::c_ulong| unsafe { libc::prctl(what, capability, 0, 0, 0) };
        let known = |capability: &libc::c_ulong| ask(libc::PR_CAPBSET_READ, *capability) >= 0;
        for capability in (0..64).take_while(known) {
            if !TRACING.contains(&capability) && ask(libc::PR_CAPBSET_DROP, capability) != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: only system calls with plain numbers.
    unsafe { command.pre_exec(drop_others) };
    command
}

/// With the setting that distributions choose, perf events are for CAP_SYS_ADMIN: tracepoints by BPF's own links are not.
#[test]
#[ignore = "needs root: loads BPF programs"]
fn perf_event_paranoid_takes_only_what_attaches_by_perf() {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("readable");
    let level: i32 = level.trim().parse().expect("a number");
    if level < 3 {
        println!("skipped: kernel.perf_event_paranoid is {level}");
        return;
    }
    for hooks in ["btf", "raw"] {
        let output = with_tracing_only(watch(&["--hooks", hooks])).output().expect("it starts");
        let start = start_line(&output);
        let way = start["hooks"]["inet_sock_set_state"].as_str();
        assert_eq!(way, Some(if hooks == "btf" { "tp_btf" } else { "raw_tp" }), "{start}");
    }
    let output = with_tracing_only(watch(&["--hooks", "classic"])).output().expect("it starts");
    refused(&output, &["--hooks classic cannot be used here"]);
    let output = with_tracing_only(watch(&[])).output().expect("it starts");
    let start = start_line(&output);
    let hooks = start["hooks"].as_object().expect("hooks");
    let missing: Vec<_> = hooks.iter().filter(|(name, way)| !name.ends_with("()") && way.is_null()).collect();
    assert!(missing.is_empty(), "every tracepoint has another way: {start}");
}

/// Loss made by the kernel's own queueing discipline, on the way out: sent as far as TCP knows, and sent again.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn what_netem_loses_is_sent_again() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let netem = |verb: &str, more: &[&str]| {
        let mut tc = Command::new("tc");
        tc.args(["qdisc", verb, "dev", "lab0", "root"]).args(more);
        lab.command(Side::Client, tc).expect("`tc` runs (package iproute2)")
    };
    let mut tracer = Tracer::start(&["--netns", &netns(lab.netns(Side::Client))]);
    let listener = lab.listen().expect("a listener");
    let client = lab.dial().expect("a client");
    client.connected(PATIENCE).expect("connected");
    let server = listener.accept().expect("accepted");
    let set = netem("add", &["netem", "loss", "100%"]);
    if !set.status.success() {
        println!("skipped: this kernel has no netem: {}", String::from_utf8_lossy(&set.stderr).trim());
        return;
    }
    client.send(b"lost").expect("sent");
    let repeated = |line: &&Value| line["type"] == "retransmit" && line["segment"] == "data";
    tracer.wait_until("two retransmissions", |lines| {
        (lines.iter().filter(repeated).count() >= 2).then_some(())
    });
    let carried = lab.wire().look(|traffic| traffic.sightings().filter(|it| it.segment.payload > 0).count());
    assert_eq!(carried, 0, "netem is what lost it");
    assert!(netem("del", &[]).status.success());
    assert_eq!(server.receive(4).expect("sent again"), b"lost");
    let carried = lab.wire().look(|traffic| {
        traffic.count(Direction::ToServer, tcptrace_lab::Fate::Forwarded, |segment| segment.payload == 4)
    });
    assert!(carried >= 1);
    drop((client, server, listener));
    let (lines, summary) = tracer.stop();
    assert_eq!(summary["lost"], 0);
    assert!(lines.iter().filter(repeated).count() >= 3, "{}", text(&lines));
}
