//! What the output looks like, and what limits it.

use crate::run::*;
use crate::support::netns;
use crate::works::*;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tcptrace_lab::{Family, Lab, Side, find};

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn text_is_a_table() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let running = Running::watch(&["--netns", &here(&lab), "--format", "text"]);
    traffic(&lab);
    let ran = running.stop().expect(0);
    let header = &ran.out[0];
    let titles: Vec<_> = header.split("  ").map(str::trim).filter(|title| !title.is_empty()).collect();
    assert!(header.starts_with("TIME ") && titles.contains(&"LOCAL -> REMOTE"), "{header}");
    let [ends, owner, event] = ["LOCAL", "OWNER", "EVENT"].map(|title| header.find(title).expect(title));

    let lines = entries(&ran);
    assert_eq!(lines.len(), TRANSITIONS + 3, "three closes: {ran:#?}");
    for line in &lines {
        let before = [ends, owner, event].map(|column| line.as_bytes()[column - 1]);
        assert_eq!(before, [b' '; 3], "the columns begin under their titles: {line}");
        let starts = [ends, owner, event].map(|column| line.as_bytes()[column]);
        assert!(!starts.contains(&b' '), "{line}");
        assert!(line[..12].bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte)), "{line}");
        assert!(line[ends..].starts_with("127."), "{line}");
        assert!(line[owner..].starts_with("lab-client/"), "{line}");
        assert_eq!(line.trim_end(), *line, "nothing invisible at the end");
    }
    for text in [
        "CLOSE       -> LISTEN",
        "CLOSE       -> SYN_SENT",
        "SYN_SENT    -> ESTABLISHED",
        "LISTEN      -> SYN_RECV",
        "SYN_RECV    -> ESTABLISHED",
        "ESTABLISHED -> FIN_WAIT1",
        "FIN_WAIT1   -> FIN_WAIT2",
        "ESTABLISHED -> CLOSE_WAIT",
        "CLOSE_WAIT  -> LAST_ACK",
        "LAST_ACK    -> CLOSE",
        "closed: listener closed",
        "closed: closed in order by both ends",
    ] {
        assert!(lines.iter().any(|line| line[event..].starts_with(text)), "{text}: {ran:#?}");
    }
    assert!(has_summary(&ran) && ran.out.contains(&"lost 0".to_owned()), "{ran:#?}");
    assert!(ran.stdout().contains(&format!("{TRANSITIONS} transitions in ")), "{ran:#?}");
    assert!(ran.stderr().contains("Ctrl-C stops"), "{ran:#?}");
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn colours_of_a_trace() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let no_color = |value: &str| {
        let mut command = program(&["watch", "--netns", &here], &["--color", "always"]);
        command.env("NO_COLOR", value);
        let mut running = Running::start(command);
        assert!(running.err.wait(|line| line.contains("watching through")));
        running
    };
    let cases = [
        (Running::watch(&["--netns", &here, "--color", "always"]), true),
        (Running::watch(&["--netns", &here, "--color", "never"]), false),
        (Running::watch(&["--netns", &here, "--color", "auto"]), false),
        (Running::watch(&["--netns", &here]), false),
        (no_color("1"), true),
        (Running::watch(&["--netns", &here, "--color", "always", "--format", "json"]), false),
    ];
    traffic(&lab);
    for (at, (running, colored)) in cases.into_iter().enumerate() {
        let ran = running.stop().expect(0);
        assert_eq!(ran.stdout().contains('\x1b'), colored, "case {at}: {ran:#?}");
        assert!(!ran.stderr().contains('\x1b'), "case {at}: {ran:#?}");
    }

    let limited = |args: &[&str]| program(&["watch", "--netns", &here, "--duration", "100ms"], args);
    assert!(on_a_terminal(limited(&[])).contains('\x1b'), "the column names are strong");
    assert!(!on_a_terminal(limited(&["--color", "never"])).contains('\x1b'));
    let mut plain = limited(&[]);
    plain.env("NO_COLOR", "1");
    assert!(!on_a_terminal(plain).contains('\x1b'));
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn only_shows_the_kinds_that_are_named() {
    let plays = ["lossy", "rst-unread"].map(|name| (name, Lab::new(Family::V4).expect("a lab")));
    let spaces = plays.each_ref().map(|(_, lab)| netns(lab.netns(Side::Server)));
    let clients = plays.each_ref().map(|(_, lab)| netns(lab.netns(Side::Client)));
    let hosts = spaces.iter().chain(&clients).flat_map(|space| ["--netns", space]);
    let base: Vec<_> = hosts.chain(["--format", "json"]).collect();
    let cases: [&[&str]; 8] = [
        &["--only", "transitions"],
        &["--only", "retransmits"],
        &["--only", "resets"],
        &["--only", "closes"],
        &["--only", "resets,closes"],
        &["--only", "retransmits", "--only", "transitions"],
        &["--only", "transitions,retransmits,resets,closes"],
        &[],
    ];
    let running = cases.map(|args| Running::watch(&[&base, args].concat()));
    for (name, lab) in &plays {
        find(name).expect("listed").run(lab, &mut |_| {}).expect("it plays");
    }
    let mut complete = None;
    for (args, running) in cases.into_iter().zip(running) {
        let lines = running.stop().expect(0).json();
        let is_entry = |line: &&Value| !["start", "summary"].contains(&line["type"].as_str().unwrap_or(""));
        let kinds: BTreeSet<_> = lines.iter().filter(is_entry).map(|line| line["type"].to_string()).collect();
        let words = args.iter().filter(|arg| **arg != "--only").flat_map(|arg| arg.split(','));
        let mut wanted: BTreeSet<_> = words.map(|kind| format!("{:?}", kind.trim_end_matches('s'))).collect();
        if wanted.is_empty() {
            wanted = ["resync", "transition", "retransmit", "reset", "close"]
                .map(|kind| format!("{kind:?}"))
                .into();
        }
        assert_eq!(kinds, wanted, "{args:?}");
        // What is not shown is counted all the same.
        let summary = lines.last().expect("one");
        let counted = (summary["transitions"].clone(), summary["causes"].clone(), summary["matrix"].clone());
        assert_eq!(*complete.get_or_insert(counted.clone()), counted, "{args:?}");
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_duration_ends_by_itself() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    for (text, least) in [("300ms", 300), ("0.2", 200), ("1", 1000), ("0s 150ms", 150)] {
        let started = Instant::now();
        let running = Running::watch(&["--netns", &here, "--format", "json", "--duration", text]);
        traffic(&lab);
        let ran = running.end(None).expect(0);
        assert!(started.elapsed() >= Duration::from_millis(least), "{text}");
        let lines = ran.json();
        let summary = lines.last().expect("one");
        assert_eq!(summary["type"], "summary", "{text}: {ran:#?}");
        let took = summary["duration_ns"].as_u64().expect("a number") / 1_000_000;
        assert!((least..least + 5000).contains(&took), "{text}: {took} ms");
    }
    let ran = run(&["watch", "--netns", &here, "--duration", "300ms"]).expect(0);
    assert!(has_summary(&ran) && entries(&ran).is_empty(), "{ran:#?}");
    assert!(ran.stderr().contains("nothing matched the filter"), "the usual reason: {ran:#?}");
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_count_ends_by_itself() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let texts = Running::watch(&["--netns", &here, "--count", "3"]);
    let closes = Running::watch(&["--netns", &here, "--only", "closes", "--count", "2"]);
    let json = Running::watch(&["--netns", &here, "--format", "json", "--count", "3"]);
    traffic(&lab);

    let ran = texts.end(None).expect(0);
    assert_eq!(entries(&ran).len(), 3, "{ran:#?}");
    assert!(has_summary(&ran), "{ran:#?}");
    let ran = closes.end(None).expect(0);
    assert!(entries(&ran).iter().all(|line| line.contains("closed: ")), "{ran:#?}");
    assert_eq!(entries(&ran).len(), 2, "only what is shown counts: {ran:#?}");
    let lines = json.end(None).expect(0).json();
    let types = lines.iter().map(|line| line["type"].as_str().expect("text"));
    let types: Vec<_> = types.filter(|kind| !["sight", "resync"].contains(kind)).collect();
    assert_eq!(types, ["start", "transition", "transition", "transition", "summary"]);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_summary_has_no_entries() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let text = Running::watch(&["--netns", &here, "--summary"]);
    let json = Running::watch(&["--netns", &here, "--summary", "--format", "json"]);
    traffic(&lab);
    let ran = text.stop().expect(0);
    assert!(entries(&ran).is_empty() && !ran.stdout().contains("LOCAL -> REMOTE"), "{ran:#?}");
    assert!(ran.stdout().contains(&format!("{TRANSITIONS} transitions in ")), "{ran:#?}");
    assert!(ran.stdout().contains("  closed: "), "{ran:#?}");
    let lines = json.stop().expect(0).json();
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().expect("text")).collect();
    assert_eq!(types, ["start", "summary"]);
    assert_eq!(lines[1]["transitions"], TRANSITIONS);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_ring_of_an_odd_size_is_rounded_up() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    for (size, rounded) in [
        ("5000", Some("8 KiB")),
        ("1", Some("4 KiB")),
        ("3MiB", Some("4 MiB")),
        ("4096", None),
        ("8MiB", None),
        ("64k", None),
    ] {
        let running = Running::watch(&["--netns", &here, "--ring-size", size]);
        traffic(&lab);
        let ran = running.stop().expect(0);
        let said = ran.err.iter().find(|line| line.contains("--ring-size"));
        match rounded {
            Some(rounded) => {
                let said = said.unwrap_or_else(|| panic!("{size}: {ran:#?}"));
                assert!(said.contains(&format!("rounded up to {rounded}")), "{size}: {said}");
            }
            None => assert_eq!(said, None, "{size}"),
        }
        assert_eq!(transitions(&ran), TRANSITIONS, "{size}: {ran:#?}");
    }
}

/// With room for one flow the others are forgotten, and the summary says so.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn forgotten_flows_are_counted() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let json = Running::watch(&["--netns", &here, "--max-flows", "1", "--format", "json"]);
    let text = Running::watch(&["--netns", &here, "--max-flows", "1"]);
    let roomy = Running::watch(&["--netns", &here, "--max-flows", "1000"]);
    traffic(&lab);
    let lines = json.stop().expect(0).json();
    let evicted = lines.last().and_then(|summary| summary["evicted"].as_u64());
    assert!(evicted > Some(0), "{lines:#?}");
    let ran = text.stop().expect(0);
    assert!(ran.stdout().contains("were forgotten to make room; try a larger --max-flows"), "{ran:#?}");
    let ran = roomy.stop().expect(0);
    assert!(!ran.stdout().contains("--max-flows"), "{ran:#?}");
}
