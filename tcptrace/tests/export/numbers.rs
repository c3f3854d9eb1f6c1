//! The numbers are those of what was done.

use crate::{
    daemon::Daemon,
    support::{LIFE, connections, netns, patiently},
};
use nix::sys::signal::Signal;
use std::{fs, net::TcpStream};
use tcptrace_lab::{Family, Lab, Side, find};

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn connections_are_counted_by_state_cause_and_group() {
    const COUNT: f64 = 200.0;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let daemon = Daemon::start(&["--netns", &space, "--label", "port,role,peer"]);
    connections(&lab, COUNT as u64, 1, 0);
    let time_wait = |role: &str| {
        let labels = r#"port="10000",role="ROLE",peer="127.0.0.1""#.replace("ROLE", role);
        format!(r#"tcptrace_sockets{{state="TIME_WAIT",{labels}}}"#)
    };
    let metrics = daemon.metrics(|metrics| {
        metrics.sum("tcptrace_closes_total", "") == 2.0 * COUNT + 1.0
            && metrics.of(&time_wait("active")) == COUNT
    });
    let transitions = |from: &str, to: &str| {
        metrics.of(&format!(r#"tcptrace_transitions_total{{from="{from}",to="{to}"}}"#))
    };
    for (from, to) in LIFE {
        assert_eq!(transitions(from, to), COUNT, "{from} -> {to}: {metrics:#?}");
    }
    let inferred = r#"tcptrace_inferred_transitions_total{from="FIN_WAIT2",to="TIME_WAIT"}"#;
    assert_eq!(metrics.of(inferred), COUNT);
    for role in ["active", "passive"] {
        let labels = format!(r#"port="10000",role="{role}",peer="127.0.0.1""#);
        let orderly = format!(r#"tcptrace_closes_total{{cause="orderly",{labels}}}"#);
        assert_eq!(metrics.of(&orderly), COUNT, "{role}: {metrics:#?}");
        let established = format!(r#"tcptrace_state_duration_seconds_count{{state="ESTABLISHED",{labels}}}"#);
        assert_eq!(metrics.of(&established), COUNT, "{role}: {metrics:#?}");
    }
    assert_eq!(metrics.sum("tcptrace_lost_events_total", ""), 0.0);
    assert_eq!(metrics.of("tcptrace_label_overflow_total"), 0.0);
    assert!(metrics.of("tcptrace_process_resident_memory_bytes") > 1e6);
    assert!(metrics.of("tcptrace_process_cpu_seconds_total") > 0.0);
    let (status, said) = daemon.end(Signal::SIGTERM);
    assert!(status.success() && said.is_empty(), "{status}: {said:?}");
}

/// One segment lost, one finding: the ones that the scenario is about.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_scenario_is_counted_while_it_plays() {
    patiently(|| {
        let lab = Lab::new(Family::V4).expect("a lab");
        let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
        let daemon = Daemon::start(&[
            "--netns", &spaces[0], "--netns", &spaces[1], "--resync", "250ms", "--label", "role",
        ]);
        let scenario = find("fin-wait1-drop").expect("it is there");
        let mut judged = 0;
        let played = scenario.run(&lab, &mut |stage| {
            for (_, name) in stage.findings.into_iter().flatten() {
                judged += 1;
                let stuck = format!(r#"tcptrace_stuck_flows{{finding="{name}"}}"#);
                let age = format!(r#"tcptrace_stuck_oldest_age_seconds{{finding="{name}"}}"#);
                daemon.metrics(|metrics| metrics.of(&stuck) == 1.0 && metrics.of(&age) > 0.0);
            }
        });
        played.expect("it plays");
        assert!(judged > 0, "a stage to be judged");
        let fins = r#"tcptrace_retransmitted_segments_total{segment="fin",reason="rto",role="active"}"#;
        let metrics = daemon.metrics(|metrics| metrics.of(fins) > 0.0);
        let left = r#"tcptrace_state_duration_seconds_count{state="ESTABLISHED",role="active"}"#;
        assert_eq!(metrics.of(left), 1.0, "{metrics:#?}");
        assert!(metrics.of(r#"tcptrace_resyncs_total{why="timer"}"#) > 0.0);
    });
}

/// An RST each way, by the kernel's own reason where it has one.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn resets_are_counted_by_direction() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let daemon = Daemon::start(&["--netns", &space]);
    lab.run_in(Side::Client, || {
        // Nobody listens there: an RST is sent, and received by the same host.
        let refused = TcpStream::connect(("127.0.0.1", 9)).expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    })
    .expect("the host runs it");
    let metrics = daemon.metrics(|metrics| metrics.of(r#"tcptrace_closes_total{cause="refused"}"#) == 1.0);
    assert_eq!(metrics.sum("tcptrace_resets_total", r#"direction="sent""#), 1.0, "{metrics:#?}");
    assert_eq!(metrics.sum("tcptrace_resets_total", r#"direction="received""#), 1.0, "{metrics:#?}");
}

/// While the kernel measures its programs, what they cost is told; and else it is not said to be 0.
#[test]
#[ignore = "needs root: loads BPF programs and switches a sysctl on for a moment"]
fn the_kernels_cost_is_told_while_it_is_measured() {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
    struct Restored(String);
    impl Drop for Restored {
        fn drop(&mut self) {
            let _ = fs::write(SWITCH, &self.0);
        }
    }
    let lab = Lab::new(Family::V4).expect("a lab");
    let daemon = Daemon::start(&["--netns", &netns(lab.netns(Side::Client))]);
    let before = Restored(fs::read_to_string(SWITCH).expect("a sysctl"));
    fs::write(SWITCH, "0").expect("root may");
    daemon.metrics(|metrics| metrics.sum("tcptrace_bpf_runs_total", "") == 0.0);
    fs::write(SWITCH, "1").expect("root may");
    connections(&lab, 20, 1, 0);
    daemon.metrics(|metrics| {
        metrics.sum("tcptrace_bpf_runs_total", r#"program="state_"#) >= 200.0
            && metrics.sum("tcptrace_bpf_run_seconds_total", r#"program="state_"#) > 0.0
    });
    drop(before);
}
