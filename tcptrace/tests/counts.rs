//! Counts: every transition of a large run, and exact losses when the ring is tiny, beside the kernel's own counters.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use support::{LIFE, Tracer, connections, netns, of_type};
use tcptrace_lab::{Family, Lab, Side};

/// Each connection goes through ten transitions: five of the client's socket, five of the server's.
const PER_CONNECTION: u64 = 10;

/// The ports of the client's side are held by TIME_WAIT for a minute: one listener would not do.
const LISTENERS: u16 = 32;

/// A counter of /proc/net/snmp in the host's namespace: what the kernel itself has counted.
fn kernel_count(lab: &Lab, name: &str) -> u64 {
    let text =
        lab.run_in(Side::Client, || std::fs::read_to_string("/proc/thread-self/net/snmp")).expect("runs");
    let text = text.expect("readable");
    let mut tcp = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    let at = names.split(' ').position(|column| column == name).expect("the counter");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}

fn matrix(summary: &Value, old: &str, new: &str) -> u64 {
    summary["matrix"][old][new].as_u64().unwrap_or(0)
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_hundred_thousand_connections_are_counted_exactly() {
    const CONNECTIONS: u64 = 100_000;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    // Room for all of it: whether a program built for tests keeps up with this machine is not the question here (the
    // benchmark asks it, with the default ring).
    let tracer = Tracer::start(&["--netns", &space, "--only", "transitions", "--ring-size", "256MiB"]);
    connections(&lab, CONNECTIONS, LISTENERS, 0);
    let (opens, accepts) = (kernel_count(&lab, "ActiveOpens"), kernel_count(&lab, "PassiveOpens"));
    let (lines, summary) = tracer.stop();

    assert_eq!((opens, accepts), (CONNECTIONS, CONNECTIONS), "the kernel's own count");
    assert_eq!(summary["lost"], 0, "{summary}");
    for (old, new) in LIFE {
        assert_eq!(matrix(&summary, old, new), CONNECTIONS, "{old} -> {new}");
        let told = lines.iter().filter(|line| line["old"] == old && line["new"] == new).count();
        assert_eq!(told as u64, CONNECTIONS, "lines {old} -> {new}");
    }
    // The listeners themselves open and close.
    let life = CONNECTIONS * PER_CONNECTION;
    let listeners = matrix(&summary, "CLOSE", "LISTEN") + matrix(&summary, "LISTEN", "CLOSE");
    assert_eq!(summary["transitions"].as_u64(), Some(life + listeners), "{summary}");
    assert_eq!((summary["gaps"].as_u64(), summary["evicted"].as_u64()), (Some(0), Some(0)));
    let flows: std::collections::HashSet<_> = lines.iter().filter_map(|line| line["flow"].as_str()).collect();
    assert_eq!(flows.len() as u64, 2 * CONNECTIONS + 32, "every socket is a flow of its own");
}

/// With a ring of one page most records are lost: what arrives and what is said to be lost add up to what happened.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn losses_are_exact() {
    const CONNECTIONS: u64 = 5_000;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let tracer = Tracer::start(&["--netns", &space, "--ring-size", "4096"]);
    // Stopped, it drains nothing: the page fills up for certain.
    support::signal(tracer.pid(), nix::sys::signal::Signal::SIGSTOP);
    connections(&lab, CONNECTIONS, LISTENERS, 0);
    support::signal(tracer.pid(), nix::sys::signal::Signal::SIGCONT);
    let (lines, summary) = tracer.stop();

    for (old, new) in LIFE {
        assert_eq!(
            matrix(&summary, old, new),
            CONNECTIONS,
            "{old} -> {new}: counted in the kernel, lost or not"
        );
    }
    let lost = summary["lost_by_kind"]["transition"].as_u64().expect("a count");
    // The first dump tells of what was lost before it.
    let told =
        of_type(&lines, "transition").into_iter().filter(|line| line["inferred"] == false).count() as u64;
    assert!(lost > 0, "the page took everything: {summary}");
    assert_eq!(told + lost, summary["transitions"].as_u64().expect("a count"), "{summary}");
    let said: u64 = of_type(&lines, "lost").iter().filter_map(|line| line["count"].as_u64()).sum();
    assert_eq!(Some(said), summary["lost"].as_u64(), "lost lines add up to the summary");
}

/// More open flows than there is room for: the limit holds, and says so.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn evictions_are_counted() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let tracer = Tracer::start(&["--netns", &space, "--max-flows", "10"]);
    let open = || {
        let listener = TcpListener::bind(("127.0.0.1", 10_000)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let all: Vec<_> = (0..100)
            .map(|_| (TcpStream::connect(address).expect("connected"), listener.accept().expect("accepted")))
            .collect();
        drop(all);
    };
    lab.run_in(Side::Client, open).expect("runs");
    let (_, summary) = tracer.stop();
    assert_eq!(summary["lost"], 0);
    // 1 listener and 200 sockets came, 10 found room; those that were forgotten come again at their close.
    assert!(summary["evicted"].as_u64() >= Some(191), "{summary}");
}
