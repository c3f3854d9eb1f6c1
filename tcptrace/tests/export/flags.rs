//! Each flag of `export`, with each kind of value.

use crate::{
    daemon::Daemon,
    support::{connections, netns},
};
use nix::sys::signal::Signal;
use std::net::Ipv6Addr;
use tcptrace_lab::{Family, Lab, Side};

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn each_flag_does_what_it_says() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));

    let six = Daemon::start(&["--netns", &space, "--listen", "[::1]:0"]);
    assert_eq!(six.address.ip(), Ipv6Addr::LOCALHOST);
    let (status, said) = six.end(Signal::SIGINT);
    assert!(status.success() && said.is_empty(), "{said:?}");

    for label in ["port", "process", "container", "peer", "netns", "role"] {
        let daemon = Daemon::start(&["--netns", &space, "--label", label, "--label-top", "1"]);
        connections(&lab, 3, 1, 0);
        // Both ends of three connections, and the listener.
        let labelled = format!(",{label}=\"");
        let metrics = daemon.metrics(|metrics| metrics.sum("tcptrace_closes_total", &labelled) == 7.0);
        let series =
            metrics.0.keys().filter(|name| name.starts_with("tcptrace_closes_total{cause=\"orderly\""));
        assert!((1..=2).contains(&series.count()), "{label}: one group and the others: {metrics:#?}");
        let (status, _) = daemon.end(Signal::SIGTERM);
        assert!(status.success());
    }

    let off = Daemon::start(&["--netns", &space, "--resync", "off"]);
    let metrics = off.metrics(|_| true);
    assert!(metrics.0.keys().all(|name| !name.contains("stuck")), "nobody has looked: {metrics:#?}");

    let filtered = Daemon::start(&["--netns", &space, "--port", "1"]);
    connections(&lab, 3, 1, 0);
    let before = filtered.metrics(|_| true).of("tcptrace_process_cpu_seconds_total");
    // A later snapshot than the connections.
    let metrics = filtered.metrics(|metrics| metrics.of("tcptrace_process_cpu_seconds_total") > before);
    assert_eq!(metrics.sum("tcptrace_transitions_total", ""), 0.0, "{metrics:#?}");
}
