//! What the kernel adds up by itself: exact counts beside the kernel's own, times beside those of events.

use crate::{
    daemon::{Daemon, Metrics},
    support::{LIFE, connections, netns, patiently},
};
use nix::sys::signal::Signal;
use std::{collections::BTreeSet, time::Instant};
use tcptrace::source::{aggregate::Aggregate, filter::FilterSpec, load::LoadOptions};
use tcptrace_common::{
    aggregate::Cell,
    state::TcpState::{self, *},
};
use tcptrace_lab::{Family, Lab, Side, find};

/// The ports of one side are held by TIME_WAIT for a minute: one listener would not do.
const LISTENERS: u16 = 8;
/// By so much of the time that a connection takes a time may differ between two programs on the same tracepoint, on average:
/// one runs after the other, and an interrupt may come between them. In an emulated machine all takes a hundred times longer.
const BETWEEN_PROGRAMS: f64 = 0.02;

fn kernel(space: &str, more: &[&str]) -> Daemon {
    Daemon::start(&[&["--aggregate", "kernel", "--netns", space], more].concat())
}

fn transitions(metrics: &Metrics, from: &str, to: &str, label: &str) -> f64 {
    metrics.of(&format!(r#"tcptrace_transitions_total{{from="{from}",to="{to}"{label}}}"#))
}

fn times(metrics: &Metrics, what: &str, state: &str) -> f64 {
    metrics.of(&format!(r#"tcptrace_state_duration_seconds_{what}{{state="{state}"}}"#))
}

/// A counter of /proc/net/snmp in the host's namespace.
fn snmp(lab: &Lab, name: &str) -> u64 {
    let text = lab.run_in(Side::Client, || std::fs::read_to_string("/proc/thread-self/net/snmp"));
    let text = text.expect("runs").expect("readable");
    let mut tcp = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    let at = names.split(' ').position(|column| column == name).expect("the counter");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn counts_are_the_kernels_and_times_are_those_of_events() {
    const COUNT: u32 = 10_000;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let events = Daemon::start(&["--netns", &space, "--ring-size", "64MiB"]);
    let sums = kernel(&space, &[]);
    let began = Instant::now();
    connections(&lab, COUNT.into(), LISTENERS, 0);
    let between_s = began.elapsed().as_secs_f64() * BETWEEN_PROGRAMS / f64::from(COUNT);
    let opened = (snmp(&lab, "ActiveOpens"), snmp(&lab, "PassiveOpens"));
    assert_eq!(opened, (COUNT.into(), COUNT.into()), "the kernel's own count");

    let count = f64::from(COUNT);
    let closed = |metrics: &Metrics| {
        transitions(metrics, "LAST_ACK", "CLOSE", "") == count
            && transitions(metrics, "LISTEN", "CLOSE", "") == f64::from(LISTENERS)
    };
    let events = events.metrics(|metrics| closed(metrics) && times(metrics, "count", "LAST_ACK") == count);
    let sums = sums.metrics(closed);
    for metrics in [&events, &sums] {
        LIFE.iter().for_each(|(from, to)| {
            assert_eq!(transitions(metrics, from, to, ""), count, "{from} -> {to}: {metrics:#?}");
        });
        // What the kernel missed was anybody's on this machine: the counts say that it was not these connections'.
        let missed = metrics.sum("tcptrace_lost_events_total", r#"kind="missed""#);
        assert_eq!(metrics.sum("tcptrace_lost_events_total", "") - missed, 0.0, "{metrics:#?}");
        let all = 10.0 * count + 2.0 * f64::from(LISTENERS);
        assert_eq!(metrics.sum("tcptrace_transitions_total", ""), all, "{metrics:#?}");
    }
    assert_eq!(sums.of("tcptrace_untimed_states_total"), 0.0);
    for (state, ended) in
        [("SYN_SENT", 1.0), ("ESTABLISHED", 2.0), ("FIN_WAIT1", 1.0), ("CLOSE_WAIT", 1.0), ("LAST_ACK", 1.0)]
    {
        let ended = ended * count;
        assert_eq!(times(&sums, "count", state), ended, "{state}: {sums:#?}");
        assert_eq!(times(&events, "count", state), ended, "{state}: {events:#?}");
        let (own, theirs) = (times(&sums, "sum", state), times(&events, "sum", state));
        let bound = 0.01 * theirs + between_s * ended;
        println!(
            "{state}: {own} s, {theirs} s by events, {:.0} ns apart a time",
            (own - theirs).abs() / ended * 1e9
        );
        assert!(
            (own - theirs).abs() <= bound,
            "{state}: {own} s, {theirs} s by events, at most {bound} s apart"
        );
        assert!(own > 0.0);
    }
    // The handshake begins before the socket.
    assert_eq!(times(&sums, "count", "SYN_RECV"), 0.0);
    assert_eq!(times(&sums, "count", "CLOSE"), 0.0);
}

/// FIN_WAIT2 goes on in a minisocket: its time is not that of the socket.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn an_orphan_that_waits_is_not_timed() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let sums = kernel(&netns(lab.netns(Side::Client)), &["--resync", "250ms"]);
    let mut ends = connections(&lab, 0, 1, 1);
    let server = ends.pop().expect("both ends");
    drop(ends);
    let waits = sums.metrics(|metrics| {
        transitions(metrics, "FIN_WAIT2", "CLOSE", "") == 1.0
            && metrics.of(r#"tcptrace_sockets{state="FIN_WAIT2"}"#) == 1.0
    });
    assert_eq!(times(&waits, "count", "FIN_WAIT1"), 1.0, "{waits:#?}");
    assert_eq!(times(&waits, "count", "FIN_WAIT2"), 0.0, "{waits:#?}");
    assert_eq!(waits.of(r#"tcptrace_sockets{state="CLOSE_WAIT"}"#), 1.0, "{waits:#?}");
    drop(server);
    let gone = sums.metrics(|metrics| metrics.of(r#"tcptrace_sockets{state="TIME_WAIT"}"#) == 1.0);
    assert_eq!(times(&gone, "count", "CLOSE_WAIT"), 1.0, "{gone:#?}");
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn ports_are_kept_apart_and_filters_hold() {
    const COUNT: f64 = 40.0;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let named = kernel(&space, &["--label", "port", "--port", "10000-10001", "--label-top", "1"]);
    let found = kernel(&space, &["--label", "port", "--resync", "250ms"]);
    let server = kernel(&space, &["--lport", "10000"]);
    // The local port of a SYN is chosen after the event that tells of it.
    let client = kernel(&space, &["--lport", "10002-65535"]);
    connections(&lab, COUNT as u64, 2, 0);

    let half = COUNT / 2.0;
    let last = |port: &str| format!(r#",port="{port}""#);
    let metrics = named.metrics(|metrics| {
        transitions(metrics, "LISTEN", "CLOSE", &last("10000")) == 1.0
            && transitions(metrics, "LISTEN", "CLOSE", &last("other")) == 1.0
    });
    for (from, to) in LIFE {
        for port in ["10000", "other"] {
            assert_eq!(transitions(&metrics, from, to, &last(port)), half, "{from} -> {to}: {metrics:#?}");
        }
    }
    let of_server = server.metrics(|metrics| transitions(metrics, "LISTEN", "CLOSE", "") == 1.0);
    assert_eq!(of_server.sum("tcptrace_transitions_total", ""), 5.0 * half + 2.0, "{of_server:#?}");
    assert_eq!(transitions(&of_server, "LISTEN", "SYN_RECV", ""), half, "{of_server:#?}");
    let of_client = client.metrics(|metrics| transitions(metrics, "FIN_WAIT2", "CLOSE", "") == COUNT);
    assert_eq!(of_client.sum("tcptrace_transitions_total", ""), 5.0 * COUNT, "{of_client:#?}");
    assert_eq!(transitions(&of_client, "CLOSE", "SYN_SENT", ""), COUNT, "{of_client:#?}");
    assert_eq!(times(&of_client, "count", "SYN_SENT"), COUNT, "{of_client:#?}");

    // Nobody named a port: those that somebody listens on, once they were looked at.
    let ends = connections(&lab, 0, 1, 1);
    let listener =
        lab.run_in(Side::Client, || std::net::TcpListener::bind(("127.0.0.1", 10_005)).expect("free"));
    let listens = r#"tcptrace_sockets{state="LISTEN",port="10005"}"#;
    let metrics = found.metrics(|metrics| metrics.of(listens) == 1.0);
    assert_eq!(
        transitions(&metrics, "CLOSE", "LISTEN", &last("10005")),
        0.0,
        "before it was known: {metrics:#?}"
    );
    drop(listener);
    found.metrics(|metrics| metrics.of(listens) == 0.0 && metrics.sum("tcptrace_sockets", "other") >= 2.0);
    drop(ends);
    let (status, _) = found.end(Signal::SIGTERM);
    assert!(status.success());
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn segments_sent_again_are_those_of_events() {
    for (name, segment) in [("syn-drop", "syn"), ("synack-drop", "syn-ack"), ("fin-wait1-drop", "fin")] {
        patiently(|| {
            let lab = Lab::new(Family::V4).expect("a lab");
            let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
            let of_both = ["--netns", &spaces[0], "--netns", &spaces[1]];
            let events = Daemon::start(&of_both);
            let sums = Daemon::start(&[&["--aggregate", "kernel"], &of_both[..]].concat());
            find(name).expect("it is there").run(&lab, &mut |_| {}).expect("it plays");
            let label = format!(r#"segment="{segment}""#);
            let of = |metrics: &Metrics| metrics.sum("tcptrace_retransmitted_segments_total", &label);
            // Something may be sent again and again, and the one be asked after the other.
            let told = of(&events.metrics(|metrics| of(metrics) > 0.0));
            let sum = of(&sums.metrics(|metrics| of(metrics) >= told));
            events.metrics(|metrics| of(metrics) >= sum);
        });
    }
}

/// Kernels before 5.11 have no storage in sockets: the table beside them says the same.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn the_table_says_what_sockets_say() {
    const COUNT: u64 = 500;
    let lab = Lab::new(Family::V4).expect("a lab");
    let filter = FilterSpec { netns: BTreeSet::from([lab.netns(Side::Client)]), ..FilterSpec::default() };
    let options = LoadOptions { filter, ..LoadOptions::default() };
    let in_table = Aggregate::start_with_table(&options, None).expect("it attaches");
    let in_sockets = Aggregate::start(&options, None).expect("it attaches");
    for outcome in in_table.outcomes.iter().chain(&in_sockets.outcomes) {
        assert!(outcome.way.is_some(), "{}: {:?}", outcome.hook.stem, outcome.refused);
    }
    let began = Instant::now();
    connections(&lab, COUNT, 1, 0);
    let between_ns = (began.elapsed().as_nanos() as f64 * BETWEEN_PROGRAMS / COUNT as f64) as u64;
    let cells = [in_table.read(), in_sockets.read()];
    let at = |state: TcpState| usize::from(state.number());
    for cells in &cells {
        let [cell] = cells.as_slice() else { panic!("one class: {cells:?}") };
        let sums: u64 = cell.matrix.as_flattened().iter().sum();
        assert_eq!(sums, 10 * COUNT + 2, "{cell:?}");
        let ended = |state| cell.dwell[at(state)].iter().sum::<u64>();
        assert_eq!(ended(Established), 2 * COUNT);
        assert_eq!([SynSent, FinWait1, CloseWait, LastAck].map(ended), [COUNT; 4]);
        assert_eq!((ended(Listen), ended(SynRecv), ended(Close), cell.unkept), (1, 0, 0, 0));
    }
    let [table, sockets]: [&Cell; 2] = [&cells[0][0], &cells[1][0]];
    assert_eq!(table.matrix, sockets.matrix);
    let apart = table.sum_ns[at(Established)].abs_diff(sockets.sum_ns[at(Established)]);
    let bound = sockets.sum_ns[at(Established)] / 100 + 2 * COUNT * between_ns;
    assert!(apart <= bound, "{apart} ns apart, at most {bound}");
}
