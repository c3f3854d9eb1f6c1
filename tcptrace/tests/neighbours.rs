//! Tracers beside each other, and what is left of one that is killed.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use nix::sys::signal::Signal;
use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};
use support::{LIFE, PATIENCE, Tracer, connections, netns, signal};
use tcptrace_lab::{Family, Lab, Side, find};

/// Numbers of the programs and maps in the kernel that a process holds.
fn held(pid: u32) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut programs, mut maps) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs").flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let of = |key| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u32>().ok());
        programs.extend(of("prog_id:"));
        maps.extend(of("map_id:"));
    }
    (programs, maps)
}

/// Those of them that the kernel still has (BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID).
fn still_there(programs: &BTreeSet<u32>, maps: &BTreeSet<u32>) -> (Vec<u32>, Vec<u32>) {
    let all = aya::programs::loaded_programs().flatten().map(|program| program.id());
    let all_maps = aya::maps::loaded_maps().flatten().map(|map| map.id());
    (all.filter(|id| programs.contains(id)).collect(), all_maps.filter(|id| maps.contains(id)).collect())
}

#[test]
#[ignore = "needs root: loads BPF programs"]
fn killed_it_leaves_nothing_in_the_kernel() {
    let mut tracer = Tracer::start(&["--port", "1"]);
    // With the iterators, too.
    tracer.wait_for("the first list", |line| line["type"] == "resync");
    let (programs, maps) = held(tracer.pid());
    assert!(programs.len() >= 5 && maps.len() >= 5, "{programs:?} {maps:?}");
    let (there, maps_there) = still_there(&programs, &maps);
    assert_eq!((there.len(), maps_there.len()), (programs.len(), maps.len()), "while it runs they are there");
    signal(tracer.pid(), Signal::SIGKILL);
    drop(tracer);
    // The kernel lets go of them a moment later: after the last program that may be running.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = still_there(&programs, &maps);
        if left == Default::default() {
            return;
        }
        assert!(Instant::now() < deadline, "left in the kernel: {left:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A namespace ends with its last process and takes its TIME_WAIT with it, unless somebody who looked into it holds it.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_namespace_is_let_go_although_there_is_more_to_ask() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
    let inode = lab.netns(Side::Client);
    let mut tracer = Tracer::start(&["--netns", &spaces[0], "--netns", &spaces[1], "--hooks", "raw"]);
    find("close-client-first").expect("listed").run(&lab, &mut |_| {}).expect("it plays");
    // The next question about it is due in a minute.
    tracer.wait_for("TIME_WAIT", |line| line["new"] == "TIME_WAIT");
    drop(lab);
    let holds = |link: &fs::DirEntry| {
        fs::read_link(link.path()).is_ok_and(|at| at.to_string_lossy() == format!("net:[{inode}]"))
    };
    let folder = format!("/proc/{}/fd", tracer.pid());
    let deadline = Instant::now() + PATIENCE;
    while fs::read_dir(&folder).expect("it runs").flatten().any(|link| holds(&link)) {
        assert!(Instant::now() < deadline, "it holds net:[{inode}]");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn two_at_once_count_the_same_and_the_end_of_one_is_none_of_the_other() {
    const COUNT: u64 = 300;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let args = ["--netns", &space, "--only", "closes"];
    let (one, other, third) = (Tracer::start(&args), Tracer::start(&args), Tracer::start(&args));
    connections(&lab, COUNT, 8, 0);
    let (_, first) = one.stop();
    signal(third.pid(), Signal::SIGKILL);
    drop(third);
    let at_first = |summary: &serde_json::Value, old: &str, new: &str| summary["matrix"][old][new].as_u64();
    for (old, new) in LIFE {
        assert_eq!(at_first(&first, old, new), Some(COUNT), "{old} -> {new}: {first}");
    }
    assert_eq!(first["lost"], 0, "{first}");
    // The second goes on, alone.
    connections(&lab, COUNT, 8, 0);
    let (_, both) = other.stop();
    for (old, new) in LIFE {
        assert_eq!(at_first(&both, old, new), Some(2 * COUNT), "{old} -> {new}: {both}");
    }
    assert_eq!(both["lost"], 0, "{both}");
    assert_eq!(both["causes"]["orderly"].as_u64(), Some(4 * COUNT), "{both}");
}
