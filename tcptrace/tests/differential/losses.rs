//! Events that were lost: what the ledger knows after the next dump is what there is.

use crate::{
    compare::agree,
    program::Program,
    random::Random,
    road::Road,
    space::Space,
    support::{Tracer, netns, of_type, signal},
    traffic::QUIET,
};
use nix::sys::signal::Signal;
use std::thread;

/// Operations of which few are seen.
const BURST: u64 = 1500;

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn what_was_lost_is_found_by_the_next_dump() {
    let space = Space::new();
    space.set("tw_reuse", "1");
    let name = netns(space.inode());
    // One page holds some 40 events.
    let mut tracer = Tracer::start(&["--netns", &name, "--ring-size", "4096"]);
    tracer.wait_for("the first dump", |line| line["type"] == "resync");
    let random = Random::new("what_was_lost_is_found_by_the_next_dump");
    let mut program = Program::new(random, Road::loopback(&space.namespace));
    for round in 0..6 {
        let before = tracer.lines.len();
        // Stopped, it drains nothing.
        signal(tracer.pid(), Signal::SIGSTOP);
        program.run(BURST);
        signal(tracer.pid(), Signal::SIGCONT);
        thread::sleep(QUIET);
        if round % 2 == 0 {
            tracer.wait_until("the dump after a loss", |lines| {
                lines[before..].iter().find(|line| line["why"] == "lost").map(|_| ())
            });
        }
        agree(&mut tracer, &[&space.namespace]);
    }
    let (lines, summary) = tracer.stop();
    assert!(summary["lost"].as_u64() > Some(1000), "{summary}");
    let resyncs = of_type(&lines, "resync");
    let mended = |field: &str| resyncs.iter().skip(1).filter_map(|line| line[field].as_u64()).sum::<u64>();
    let [found, corrected, vanished] = ["found", "corrected", "vanished"].map(mended);
    println!("lost {}: found {found}, corrected {corrected}, vanished {vanished}", summary["lost"]);
    assert!(found > 0 && corrected > 0 && vanished > 0, "{summary}");
}
