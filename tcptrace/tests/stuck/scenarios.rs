//! Every stage of every scenario that is to be judged.

use crate::{
    looks::Looks,
    support::{netns, patiently},
};
use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};
use tcptrace_lab::{Family, Lab, SCENARIOS, Scenario, Side};

/// How long a stage may be looked at.
const STAGE: Duration = Duration::from_millis(2500);

fn play(scenario: &Scenario, family: Family) {
    let lab = Lab::new(family).expect("a lab");
    let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
    let mut looks = Looks::start(&["--netns", &spaces[0], "--netns", &spaces[1]]);
    let mut judged = 0;
    scenario
        .run(&lab, &mut |stage| {
            let Some(findings) = stage.findings else { return };
            judged += 1;
            let mut expected: Vec<_> = findings
                .iter()
                .map(|(side, name)| (u64::from(lab.netns(*side)), (*name).to_owned()))
                .collect();
            expected.sort();
            let deadline = Instant::now() + STAGE;
            let mut look = looks.fresh();
            while look.names() != expected {
                assert!(
                    Instant::now() < deadline,
                    "{}: {:?}: expected {findings:?}, found {:#?}",
                    scenario.name,
                    stage.text,
                    look
                );
                look = looks.next();
            }
        })
        .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    assert!(judged > 0, "{}: nothing to judge", scenario.name);
}

/// Labs that play at once: they mostly wait for the kernel's timers.
const AT_ONCE: usize = 4;

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn each_scenario_ends_in_its_finding_and_in_no_other() {
    let only = std::env::var("SCENARIO").ok();
    let wanted = SCENARIOS.iter().filter(|scenario| only.as_deref().is_none_or(|only| only == scenario.name));
    let plays = Mutex::new(wanted.flat_map(|scenario| Family::ALL.map(|family| (scenario, family))));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = plays.lock().expect("no panic while it is held").next();
                    let Some((scenario, family)) = next else { return };
                    let result = std::panic::catch_unwind(|| patiently(|| play(scenario, family)));
                    println!(
                        "{} {family:?}: {}",
                        scenario.name,
                        if result.is_ok() { "ok" } else { "FAILED" }
                    );
                    if result.is_err() {
                        failed.lock().expect("no panic while it is held").push((scenario.name, family));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic while it is held");
    assert!(failed.is_empty(), "{failed:?}");
}
