//! Random programs, with pauses in which the ledger and the kernel are compared.

use crate::{
    compare::{agree, nothing_was_mended},
    program::Program,
    random::Random,
    road::Road,
    space::Space,
    support::{Tracer, netns, patiently},
};
use std::{thread, time::Duration};
use tcptrace::source::netns::Namespace;
use tcptrace_lab::{Family, Lab, Side};

/// Pauses, and the most operations between two.
const ROUNDS: usize = 30;
const OPERATIONS: usize = 800;
/// Until what is under way has arrived.
pub const QUIET: Duration = Duration::from_millis(100);

/// Runs a program over these roads.
fn compare_while_running(test: &str, roads: Vec<Road>, namespaces: &[&Namespace]) {
    let spaces: Vec<_> = namespaces.iter().flat_map(|it| ["--netns".to_owned(), netns(it.inode())]).collect();
    let mut args: Vec<_> = spaces.iter().map(String::as_str).collect();
    args.extend(["--ring-size", "64MiB"]);
    let mut tracer = Tracer::start(&args);
    tracer.wait_for("the first dump", |line| line["type"] == "resync");
    let mut program = Program::new(Random::new(test), roads);
    let mut sockets = 0;
    for _ in 0..ROUNDS {
        let operations = 1 + program.random.below(OPERATIONS) as u64;
        program.run(operations);
        thread::sleep(QUIET);
        let told = agree(&mut tracer, namespaces);
        sockets = sockets.max(told.flows.values().map(|flows| flows.len()).sum());
    }
    let (lines, summary) = tracer.stop();
    println!("{test}: {} operations, {} lines, {sockets} sockets at most", program.done, lines.len());
    nothing_was_mended(&lines, &summary);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn any_program_on_loopback() {
    patiently(|| {
        let space = Space::new();
        space.set("tw_reuse", "1");
        compare_while_running(
            "any_program_on_loopback",
            Road::loopback(&space.namespace),
            &[&space.namespace],
        );
    });
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn any_program_over_a_wire() {
    patiently(|| {
        let labs = Family::ALL.map(|family| Lab::new(family).expect("a lab"));
        let own = |lab: &Lab, side| lab.run_in(side, Namespace::own).expect("runs").expect("its namespace");
        let namespaces: Vec<_> = labs.iter().flat_map(|lab| Side::ALL.map(|side| own(lab, side))).collect();
        let roads = labs.iter().map(Road::wire).collect();
        compare_while_running("any_program_over_a_wire", roads, &namespaces.iter().collect::<Vec<_>>());
    });
}
