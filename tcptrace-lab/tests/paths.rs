//! The state paths that scenarios promise, checked against the kernel's own tracepoint.
#![allow(clippy::expect_used, reason = "a test reports by panicking, its helpers too")]

mod oracle;

use oracle::trace::Trace;
use tcptrace_lab::{Family, Lab, SCENARIOS};

fn the_kernel_goes_the_promised_paths(family: Family) {
    for scenario in SCENARIOS {
        let trace = Trace::start(family);
        let lab = Lab::new(family).expect("a lab");
        scenario.run(&lab, &mut |_| ()).unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        let paths = trace.paths(&lab);
        assert_eq!(paths.client, scenario.client.path, "{} {family:?}: client", scenario.name);
        assert_eq!(paths.server, scenario.server.path, "{} {family:?}: server", scenario.name);
        let listens: &[&str] = if scenario.name == "refused" { &[] } else { &["CLOSE", "LISTEN", "CLOSE"] };
        assert_eq!(paths.listener, listens, "{} {family:?}: listener", scenario.name);
    }
}

#[test]
#[ignore = "needs root: makes network namespaces and reads tracefs"]
fn the_promised_paths_in_ipv4() {
    the_kernel_goes_the_promised_paths(Family::V4);
}

#[test]
#[ignore = "needs root: makes network namespaces and reads tracefs"]
fn the_promised_paths_in_ipv6() {
    the_kernel_goes_the_promised_paths(Family::V6);
}
