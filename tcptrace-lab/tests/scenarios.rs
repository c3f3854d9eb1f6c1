//! Every scenario in both families, checked against `ss` at each stage and against the wire at the end.
#![allow(clippy::expect_used, reason = "a test reports by panicking, its helpers too")]

mod oracle;

use oracle::ss;
use tcptrace_lab::{Direction, Expected, Family, Lab, SCENARIOS, Side, Stage, find};

/// Plays a scenario; what it says of either end must be what `ss` shows at that moment.
fn play(name: &str) {
    let scenario = find(name).expect("the scenario is listed");
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        let mut stages = 0;
        let mut observer = |stage: &Stage| {
            stages += 1;
            for (side, state) in [(Side::Client, stage.client), (Side::Server, stage.server)] {
                let seen = ss::states(&lab, side);
                assert_eq!(seen, state.as_slice(), "{name} {family:?}: {side} at \"{}\"", stage.text);
            }
        };
        scenario.run(&lab, &mut observer).unwrap_or_else(|error| panic!("{name} {family:?}: {error}"));
        assert!(stages >= 2, "{name} shows only {stages} stages");
        for (side, expected) in [(Side::Client, &scenario.client), (Side::Server, &scenario.server)] {
            check_wire(&lab, name, side, expected);
        }
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
    close_client_first: "close-client-first",
    close_server_first: "close-server-first",
    half_close: "half-close",
    simultaneous_close: "simultaneous-close",
    fin_wait1_drop: "fin-wait1-drop",
    rst_unread: "rst-unread",
    lossy: "lossy",
}
