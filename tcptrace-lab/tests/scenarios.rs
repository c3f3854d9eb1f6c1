//! Every scenario in both families, checked against `ss` at each stage and against the wire at the end.
#![allow(clippy::expect_used, reason = "a test reports by panicking, its helpers too")]

mod oracle;

use std::{thread, time::Duration};

use oracle::ss;
use tcptrace_lab::{Direction, Expected, Family, Lab, SCENARIOS, Scenario, Side, Stage, find};

/// How long a stage with findings may be looked at; the promise is three seconds, this is most of it.
const OBSERVER_TAKES: Duration = Duration::from_millis(2500);

/// Plays a scenario in both families at once: some take as long as the kernel's timers.
fn play(name: &str) {
    let scenario = find(name).expect("the scenario is listed");
    thread::scope(|scope| {
        for family in Family::ALL {
            scope.spawn(move || play_in(scenario, family));
        }
    });
}

/// Plays it; what it says of either end must be what `ss` shows at that moment.
fn play_in(scenario: &Scenario, family: Family) {
    let name = scenario.name;
    let lab = Lab::new(family).expect("a lab");
    let mut judged = false;
    let mut stages = 0;
    let mut found: Vec<(Side, &str)> = Vec::new();
    let mut observer = |stage: &Stage| {
        stages += 1;
        judged |= stage.findings.is_some();
        found.extend(stage.findings.unwrap_or_default().iter().copied());
        let look = |when: &str| {
            for side in Side::ALL {
                let mut seen = ss::states(&lab, side);
                seen.sort_unstable();
                let what = format!("{name} {family:?}: {side} at \"{}\", {when}", stage.text);
                assert_eq!(seen, stage.states(side), "{what}");
            }
        };
        look("when it was said");
        // What is stuck must stay so for as long as it is looked at.
        if stage.findings.is_some_and(|findings| !findings.is_empty()) {
            thread::sleep(OBSERVER_TAKES);
            look("later");
        }
    };
    scenario.run(&lab, &mut observer).unwrap_or_else(|error| panic!("{name} {family:?}: {error}"));
    assert!(stages >= 2, "{name} shows only {stages} stages");
    assert!(judged, "{name} has no stage that is to be judged");
    found.dedup();
    assert_eq!(found, scenario.findings, "{name}: what its stages name, and what it says itself");
    for (side, expected) in [(Side::Client, &scenario.client), (Side::Server, &scenario.server)] {
        check_wire(&lab, name, side, expected);
    }
}

fn check_wire(lab: &Lab, name: &str, side: Side, expected: &Expected) {
    let way = Direction::from_side(side);
    lab.wire().look(|traffic| {
        let at_least = [
            ("SYN", expected.retransmits.syn, traffic.resent(way, |it| it.syn && !it.ack)),
            ("SYN-ACK", expected.retransmits.syn_ack, traffic.resent(way, |it| it.syn && it.ack)),
            ("data", expected.retransmits.data, traffic.resent(way, |it| it.payload > 0 && !it.fin)),
            ("FIN", expected.retransmits.fin, traffic.resent(way, |it| it.fin)),
        ];
        for (kind, expected, seen) in at_least {
            assert!(
                seen >= expected as usize,
                "{name}: {seen} {kind} sent again by the {side}, not {expected}"
            );
        }
        let resets = traffic.sightings().filter(|seen| seen.direction == way && seen.segment.rst).count();
        assert_eq!(resets, expected.resets as usize, "{name}: RSTs of the {side}");
    });
}

macro_rules! scenarios {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            #[ignore = "needs root: makes network namespaces"]
            fn $test() {
                play($name);
            }
        )*

        #[test]
        fn every_scenario_has_its_test() {
            let listed: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            assert_eq!(listed, [$($name),*]);
        }
    };
}

scenarios! {
    handshake: "handshake",
    refused: "refused",
    syn_drop: "syn-drop",
    synack_drop: "synack-drop",
    close_client_first: "close-client-first",
    close_server_first: "close-server-first",
    half_close: "half-close",
    simultaneous_close: "simultaneous-close",
    close_wait_leak: "close-wait-leak",
    fin_wait2_orphan: "fin-wait2-orphan",
    fin_wait1_drop: "fin-wait1-drop",
    fin_wait1_zero_window: "fin-wait1-zero-window",
    syn_flood: "syn-flood",
    backlog_full: "backlog-full",
    time_wait_burst: "time-wait-burst",
    rst_unread: "rst-unread",
    rst_linger: "rst-linger",
    keepalive_timeout: "keepalive-timeout",
    user_timeout: "user-timeout",
    lossy: "lossy",
}
