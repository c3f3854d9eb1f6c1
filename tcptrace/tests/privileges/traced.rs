//! What is traced, and what is seen, with how little.

use crate::{
    EVERYWHERE, TRACING, maps_need_no_capability, run, started,
    support::{LIFE, connections, netns},
    unprivileged::{as_nobody, mask, threads},
};
use caps::Capability::{CAP_BPF, CAP_SYS_ADMIN, CAP_SYS_PTRACE};
use nix::sys::signal::Signal;
use serde_json::Value;
use tcptrace_lab::{Family, Lab, Side};

const WATCH: [&str; 3] = ["watch", "--format", "json"];

fn is_start(line: &str) -> bool {
    line.contains(r#""type":"start""#)
}

fn is_round(line: &str) -> bool {
    line.contains(r#""type":"resync""#)
}

/// Sockets that were there before, as a list shows them, in this namespace.
fn sights(lines: &[Value], space: u32) -> usize {
    lines
        .iter()
        .filter(|line| line["type"] == "sight" && line["netns"] == space && line["state"] == "ESTABLISHED")
        .count()
}

#[test]
#[ignore = "needs root: becomes nobody with two capabilities, and makes network namespaces"]
fn two_capabilities_are_enough_for_ones_own_namespace() {
    const COUNT: u64 = 30;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = lab.netns(Side::Client);
    let older = connections(&lab, 0, 1, 1);
    let mut tracer = started(&lab, as_nobody(&WATCH, &TRACING));
    assert!(tracer.out.wait(is_start) && tracer.out.wait(is_round), "{:#?}", tracer.err.lines);

    // It is running, and has nothing any more.
    let kept = if maps_need_no_capability() { 0 } else { mask(&[CAP_BPF]) };
    for status in threads(tracer.child.id()) {
        assert_eq!((status.effective, status.permitted), (kept, kept), "{status:?}");
        assert!(status.no_new_privileges && status.filtered, "{status:?}");
    }
    connections(&lab, COUNT, 1, 0);
    let ran = tracer.end(Some(Signal::SIGINT)).expect(0);
    let lines = ran.json();
    let summary = lines.last().expect("a summary");
    let here = |line: &&Value| line["netns"] == space;
    for (old, new) in LIFE {
        let told = lines.iter().filter(here).filter(|line| line["old"] == old && line["new"] == new).count();
        assert!(told as u64 >= COUNT, "{old} -> {new}: {told}");
    }
    assert_eq!(summary["lost"], 0, "{summary}");
    assert_eq!(sights(&lines, space), older.len(), "{lines:#?}");
    let owned = lines.iter().filter(here).filter(|line| line["type"] == "sight");
    // Before 5.12 events have no cookie to join with a list by: of those in it is then told what the list says, alone.
    let joined = !lines.iter().any(|line| line["type"] == "start" && line["identity"] == "generation");
    assert!(owned.clone().all(|line| line["owner"].is_object() == joined), "whose they are: {owned:#?}");
    let round = lines.iter().find(|line| line["type"] == "resync").expect("a list");
    assert!(round["namespaces_unread"].as_u64() > Some(0), "others are said not to be seen: {round}");
    drop(older);
}

/// Events of every namespace come; what is in it already shows only to those who may enter it. Root, too, keeps no more than
/// that takes.
#[test]
#[ignore = "needs root: becomes nobody with some capabilities, and makes network namespaces"]
fn other_namespaces_need_two_more() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let (here, there) = (lab.netns(Side::Client), lab.netns(Side::Server));
    let older = connections(&lab, 0, 1, 1);
    let only = ["--netns", &netns(here)];
    let entering = mask(&[CAP_SYS_ADMIN, CAP_SYS_PTRACE]);
    let root = |args: &[&str]| run::program(args, &[""; 0]);
    for (capabilities, seen, kept) in
        [(&TRACING[..], 0, 0), (&EVERYWHERE, older.len(), entering), (&[], older.len(), entering)]
    {
        let args = [&WATCH[..], &only].concat();
        let command = if capabilities.is_empty() { root(&args) } else { as_nobody(&args, capabilities) };
        // Beside it: in the other host.
        let tracer = lab.run_in(Side::Server, move || run::Running::start(command)).expect("it starts");
        let mut tracer = tracer;
        assert!(tracer.out.wait(is_start) && tracer.out.wait(is_round), "{:#?}", tracer.err.lines);
        let main = threads(tracer.child.id()).swap_remove(0);
        let maps = if maps_need_no_capability() { 0 } else { mask(&[CAP_BPF]) };
        assert_eq!(
            (main.effective, main.permitted),
            (kept | maps, kept | maps),
            "{capabilities:?}: {main:?}"
        );
        assert!(main.no_new_privileges && main.filtered, "{main:?}");
        connections(&lab, 3, 1, 0);
        let lines = tracer.end(Some(Signal::SIGINT)).expect(0).json();
        assert_eq!(sights(&lines, here), seen, "{capabilities:?}: {lines:#?}");
        assert_eq!(sights(&lines, there), 0, "not asked for");
        let closes = lines.iter().filter(|line| line["type"] == "close" && line["cause"] == "orderly");
        assert_eq!(closes.count(), 6, "{capabilities:?}: {lines:#?}");
    }
    drop(older);
}

/// Where no other namespace is looked for, nothing is kept, not even by root.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn root_keeps_nothing_for_its_own_namespace() {
    let first = std::fs::metadata("/proc/1/ns/net").is_ok();
    let own = std::fs::metadata("/proc/self/ns/net").expect("there");
    let space = netns(u32::try_from(std::os::unix::fs::MetadataExt::ino(&own)).expect("a number"));
    let lab = Lab::new(Family::V4).expect("a lab");
    let mut tracer =
        run::Running::start(run::program(&[&WATCH[..], &["--netns", &space]].concat(), &[""; 0]));
    assert!(tracer.out.wait(is_start), "{:#?}", tracer.err.lines);
    let main = threads(tracer.child.id()).swap_remove(0);
    // Limits of the machine show in the first namespace alone: if that is another, it is entered.
    let same = std::fs::read_link("/proc/1/ns/net").ok() == std::fs::read_link("/proc/self/ns/net").ok();
    if same || !first {
        let maps = if maps_need_no_capability() { 0 } else { mask(&[CAP_BPF]) };
        assert_eq!((main.effective, main.bounding), (maps, maps), "{main:?}");
    }
    tracer.stop().expect(0);
    drop(lab);
}
