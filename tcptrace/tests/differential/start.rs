//! A start in the middle of things: nothing missed, nothing doubled.

use crate::{
    compare::{agree, cookie, nothing_was_mended},
    program::Program,
    random::Random,
    road::Road,
    space::Space,
    support::{Tracer, netns, patiently},
    traffic::QUIET,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const ROUNDS: usize = 6;

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn no_gap_between_what_was_there_and_what_happens() {
    patiently(start_in_the_middle);
}

fn start_in_the_middle() {
    let space = Space::new();
    let name = netns(space.inode());
    let random = Random::new("no_gap_between_what_was_there_and_what_happens");
    let mut program = Program::new(random, Road::loopback(&space.namespace));
    program.run(500);
    for _ in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let mut tracer = thread::scope(|scope| {
            let busy = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    program.run(10);
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let mut tracer = Tracer::start(&["--netns", &name, "--ring-size", "64MiB"]);
            tracer.wait_for("the first dump", |line| line["type"] == "resync");
            thread::sleep(Duration::from_millis(200));
            stop.store(true, Ordering::Relaxed);
            busy.join().expect("it ran");
            tracer
        });
        thread::sleep(QUIET);
        agree(&mut tracer, &[&space.namespace]);
        let (lines, summary) = tracer.stop();
        let sights = once_and_before_all_else(&lines);
        println!("{sights} sockets were there, {} operations, {} lines", program.done, lines.len());
        assert!(sights > 0);
        nothing_was_mended(&lines, &summary);
    }
}

/// A socket is met once, and only if we have not seen its birth. How many were.
fn once_and_before_all_else(lines: &[Value]) -> usize {
    let (mut met, mut known) = (BTreeSet::new(), BTreeSet::new());
    for line in lines {
        match line["type"].as_str() {
            Some("sight") => {
                assert!(met.insert(cookie(line)), "twice: {line}");
                assert!(!known.contains(&cookie(line)), "we know it already: {line}");
            }
            Some("transition") => drop(known.insert(cookie(line))),
            _ => {}
        }
    }
    met.len()
}
