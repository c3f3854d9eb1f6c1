//! What kernels answered, judged again: name, number, verdict, and the moment of the end as reckoned by hand.

use super::recording::Hosts;
use crate::diagnose::{Around, Deadline, Diagnosis, Finding, Memory, RULES, diagnose};

const MS: u64 = 1_000_000;

/// The end of a finding, in milliseconds from the look.
#[derive(Debug, PartialEq, Eq)]
enum Ends {
    Never,
    /// Tries that are left, and when at the earliest.
    In(u32, u64),
}

struct Expected {
    /// Recordings that are looked at together.
    hosts: &'static [&'static str],
    name: &'static str,
    count: u64,
    verdict: &'static str,
    ends: Ends,
}

/// In the comments the time-outs that are still to come, from the one that runs, in milliseconds.
const EXPECTED: &[Expected] = &[
    Expected {
        // 3264 6528 13056 26112 52224: the sum is 101.2 s, 104.0 s after the first retransmission; the limit of 8 is
        // 102.2 s (511 x 0.2).
        hosts: &["fin-wait1-drop.client"],
        name: "fin-unanswered",
        count: 1,
        verdict: "the FIN was sent again 4 times and fd00::9 does not acknowledge it: the peer or the path is gone",
        ends: Ends::In(4, 101_184),
    },
    Expected {
        // A descriptor: tcp_retries2 15 is 924.6 s (1023 x 0.2 s and 6 x 120 s). 3260 6528 13056 26112 52224
        // 104448, then 120000 six times: 925.6 s, 928.5 s after the first.
        hosts: &["fin-held.client"],
        name: "fin-unanswered",
        count: 1,
        verdict: "the FIN was sent again 4 times and 10.0.0.9 does not acknowledge it: the peer or the path is gone",
        ends: Ends::In(11, 925_628),
    },
    Expected {
        // The peer answers, so only the back-off counts: 3328 6656 13312 26624 53248 106496 120000; the last is at the
        // maximum, where the back-off is beyond tcp_orphan_retries (4).
        hosts: &["fin-wait1-zero-window.client"],
        name: "fin-behind-zero-window",
        count: 1,
        verdict: "the FIN waits behind 12.2 KiB never sent: the peer's window is closed, its program does not read",
        ends: Ends::In(6, 329_664),
    },
    Expected {
        // As for fin-wait1-drop.
        hosts: &["fin-behind-data.client"],
        name: "fin-behind-data",
        count: 1,
        verdict: "no ACK for 700 B written before the close, sent again 4 times; the FIN waits with it",
        ends: Ends::In(4, 101_184),
    },
    Expected {
        // Eight probes, four of them sent: 3256 6528 13056 26112 52224.
        hosts: &["fin-blackhole.client"],
        name: "fin-cannot-leave",
        count: 1,
        verdict: "the FIN was never sent, though the peer's window is open: something on this host drops it",
        ends: Ends::In(4, 101_176),
    },
    Expected {
        // 3188, then as for fin-wait1-drop.
        hosts: &["last-ack.server"],
        name: "last-ack-unanswered",
        count: 1,
        verdict: "both sides have closed; our FIN was sent again 4 times and 10.0.0.1 does not acknowledge it",
        ends: Ends::In(4, 101_108),
    },
    Expected {
        // What is left of tcp_fin_timeout, 8 s here.
        hosts: &["fin-wait2-orphan.client"],
        name: "peer-never-closed",
        count: 1,
        verdict: "10.0.0.9 has acknowledged our FIN and does not send its own: its program does not close",
        ends: Ends::In(0, 5_500),
    },
    Expected {
        // Five of them, one for each connection.
        hosts: &["close-wait-leak.server"],
        name: "close-wait-leak",
        count: 5,
        verdict: "the peer has closed, and the program here does not close its end",
        ends: Ends::Never,
    },
    Expected {
        // 3188 6528 13056 26112 52224 104448 120000 x 6.
        hosts: &["close-wait-busy.server"],
        name: "close-wait-busy",
        count: 1,
        verdict: "the peer has closed its side; no ACK for 700 B that the program sent since, sent again 4 times",
        ends: Ends::In(11, 925_556),
    },
    Expected {
        // tcp_syn_retries 2, tcp_syn_linear_timeouts 2: three repetitions are done. 1996, one more, 4000.
        hosts: &["syn-drop.client"],
        name: "syn-unanswered",
        count: 1,
        verdict: "the SYN was sent again 3 times, and 10.0.0.9:10000 does not answer",
        ends: Ends::In(1, 5_996),
    },
    Expected {
        // tcp_synack_retries 2, and one time-out has passed (the other repetitions answered repeated SYNs): 1944 4000.
        hosts: &["synack-drop.server"],
        name: "syn-ack-unanswered",
        count: 1,
        verdict: "10.0.0.1 asked for a connection; our SYN-ACK was sent again 4 times, and its ACK does not come",
        ends: Ends::In(1, 5_944),
    },
    Expected {
        hosts: &["backlog-full.server"],
        name: "accept-queue-full",
        count: 8,
        verdict: "5 connections wait in an accept queue for 4: the program does not accept(), and 3 more handshakes cannot be completed",
        ends: Ends::Never,
    },
    Expected {
        // tcp_synack_retries 2: the oldest has 1952 left, is repeated, and forgotten 4000 later.
        hosts: &["syn-flood.server"],
        name: "syn-flood",
        count: 40,
        verdict: "40 half-open requests on port 10000 from 40 addresses, one try each",
        ends: Ends::In(1, 5_952),
    },
    Expected {
        hosts: &["time-wait-burst.client"],
        name: "time-wait-pressure",
        count: 19,
        verdict: "19 of 20 timewait buckets are used: soon connections will end without TIME_WAIT",
        // The first of them began 8 ms before the look.
        ends: Ends::In(0, 59_992),
    },
    Expected {
        // TCP_KEEPCNT 8, TCP_KEEPINTVL 1 s, three in vain: five more, the end a second after the eighth.
        hosts: &["keepalive-timeout.client"],
        name: "dead-peer",
        count: 1,
        verdict: "10.0.0.9:10000 does not answer: 3 keepalive probes in vain, silent for 3.08 s",
        ends: Ends::In(5, 6_000),
    },
    Expected {
        // TCP_USER_TIMEOUT 9 s, and the first retransmission was 2920.4 ms ago: one more at 3260, then the rest.
        hosts: &["user-timeout.client"],
        name: "dead-peer",
        count: 1,
        verdict: "no ACK from 10.0.0.9:10000 for 17 B, sent again 4 times: nothing was heard from it for 3.33 s",
        ends: Ends::In(1, 6_079),
    },
    Expected {
        // 3252 6528 13056 26112 52224 104448 120000 x 6: 925.6 s, 928.6 s after the first retransmission; at the expiry
        // before that 808.6 s have passed, less than 924.6.
        hosts: &["lossy.client"],
        name: "retransmitting",
        count: 1,
        verdict: "no ACK for 4 B, sent again 4 times, though 10.0.0.9 is heard",
        ends: Ends::In(11, 925_620),
    },
    Expected {
        hosts: &["zero-window.client"],
        name: "zero-window-stall",
        count: 1,
        verdict: "the program at 10.0.0.9:10000 does not read: its window is closed, 11.8 KiB cannot be sent",
        ends: Ends::Never,
    },
    // Both hosts of a lab on one machine.
    Expected {
        hosts: &["fin-wait2-orphan.client", "fin-wait2-orphan.server"],
        name: "peer-never-closed",
        count: 1,
        verdict: "the other end is on this host, in CLOSE_WAIT: its program does not close it",
        ends: Ends::In(0, 5_500),
    },
];

fn judged(hosts: &Hosts, around: Around) -> Diagnosis {
    diagnose(&hosts.scene(around, None, &mut Memory::default()))
}

fn ends(finding: &Finding) -> Ends {
    match finding.deadline {
        Deadline::Never(_) => Ends::Never,
        Deadline::In { earliest_ns, retries_left, .. } => Ends::In(retries_left, earliest_ns / MS),
        Deadline::Unknown(why) => panic!("{}: {why}", finding.name),
    }
}

#[test]
fn recordings_have_their_findings_and_no_other() {
    for expected in EXPECTED {
        let diagnosis = judged(&Hosts::of(expected.hosts), Around::default());
        let what = format!("{:?}: {:#?}", expected.hosts, diagnosis.findings);
        assert!(diagnosis.findings.iter().all(|finding| finding.name == expected.name), "{what}");
        let count: u64 = diagnosis.findings.iter().map(|finding| finding.count).sum();
        assert_eq!((count, diagnosis.unexplained), (expected.count, 0), "{what}");
        for finding in &diagnosis.findings {
            assert_eq!(finding.verdict, expected.verdict, "{what}");
            assert_eq!(ends(finding), expected.ends, "{what}");
        }
    }
}

/// The other host of a lab: the peer of what is stuck is not stuck itself.
#[test]
fn recordings_without_trouble_have_no_finding() {
    for name in [
        "backlog-full.client",
        "close-wait-busy.client",
        "close-wait-leak.client",
        "fin-behind-data.server",
        "fin-blackhole.server",
        "fin-held.server",
        "fin-wait1-drop.server",
        "fin-wait1-zero-window.server",
        "fin-wait2-orphan.server",
        "keepalive-timeout.server",
        "last-ack.client",
        "lossy.server",
        "syn-drop.server",
        "time-wait-burst.server",
        "user-timeout.server",
        "zero-window.server",
    ] {
        let diagnosis = judged(&Hosts::of(&[name]), Around::default());
        assert!(diagnosis.findings.is_empty() && diagnosis.unexplained == 0, "{name}: {diagnosis:#?}");
    }
}

/// Without the iterator deadlines hold if nothing was set that sock_diag does not show, and findings say so.
#[test]
fn without_details_findings_are_the_same_and_say_what_is_missing() {
    for expected in EXPECTED.iter().filter(|expected| expected.hosts.len() == 1) {
        let mut hosts = Hosts::of(expected.hosts);
        hosts.details.clear();
        let diagnosis = judged(&hosts, Around::default());
        let names: Vec<_> = diagnosis.findings.iter().map(|finding| finding.name).collect();
        assert!(
            !names.is_empty() && names.iter().all(|name| *name == expected.name),
            "{names:?}: {:?}",
            expected.hosts
        );
        let options = ["TCP_USER_TIMEOUT", "TCP_SYNCNT", "TCP_KEEPINTVL"];
        let by_settings = expected.name == "syn-flood";
        let by_timer = matches!(expected.ends, Ends::In(1.., _)) || expected.name == "zero-window-stall";
        let depends = by_timer && !by_settings;
        for finding in &diagnosis.findings {
            let says =
                finding.missing.iter().any(|missing| options.iter().any(|option| missing.contains(option)));
            assert_eq!(says, depends, "{finding:#?}");
        }
    }
}

/// Rules about events and about the machine as a whole have tests of their own (`crowds`).
#[test]
fn every_rule_about_sockets_is_found_in_a_recording() {
    const ELSEWHERE: [&str; 3] = ["connect-refused", "rst-storm", "orphan-pressure"];
    for rule in RULES {
        let recorded = EXPECTED.iter().any(|expected| expected.name == rule.name);
        assert_eq!(recorded, !ELSEWHERE.contains(&rule.name), "{}", rule.name);
    }
}

/// `TCPTRACE_RECORD=1` writes what this reads.
#[test]
fn recordings_are_as_they_are_written() {
    for expected in EXPECTED {
        for name in expected.hosts {
            let text = super::recording::Recording::read(name).text();
            assert_eq!(super::recording::Recording::parse(&text).text(), text, "{name}");
        }
    }
}
