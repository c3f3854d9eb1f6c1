//! Connections that are being closed: FIN_WAIT1, FIN_WAIT2, CLOSING, LAST_ACK.

use super::{
    Condition, Ends, Kept, Whose,
    kept::{all, close, command, fin, lose, open, read_end, seen, send, shut, sysctl},
    run,
};
use crate::tools::tool;
use std::time::Duration;
use tcptrace_lab::{Direction, Family, Lab, Side};

const FIN_WAIT1: (&str, &str) = ("FIN_WAIT1", "04");
const FIN_WAIT2: (&str, &str) = ("FIN_WAIT2", "05");
const LAST_ACK: (&str, &str) = ("LAST_ACK", "09");
const CLOSING: (&str, &str) = ("CLOSING", "0B");

const fn client(name: &'static str, state: (&'static str, &'static str), finding: &'static str) -> Condition {
    Condition {
        name,
        family: Family::V4,
        side: Side::Client,
        state,
        finding,
        governs: &["net.ipv4.tcp_orphan_retries"],
        whose: Whose::ClosedBy("lab-client"),
        ends: Ends::Predicted,
        make: |_| Vec::new(),
    }
}

/// 3 retries are 3 s: the fifth expiry, after 31 time-outs of some 204 ms.
const ORPHAN_RETRIES: (&str, &str) = ("tcp_orphan_retries", "3");
const USER_TIMEOUT: &[(libc::c_int, libc::c_int)] = &[(libc::TCP_USER_TIMEOUT, 6000)];
/// More than the receive buffer of a lab's server takes.
const TOO_MUCH: usize = 100_000;

/// An orphan whose FIN is lost.
fn fin_lost(lab: &Lab, options: &'static [(libc::c_int, libc::c_int)]) -> Kept {
    sysctl(lab, Side::Client, &[ORPHAN_RETRIES]);
    let [client, server, listener] = open(lab, options);
    lose(lab, Direction::ToServer, all);
    close(lab, Side::Client, client);
    vec![server, listener]
}

/// The same with the descriptor held.
fn fin_lost_held(lab: &Lab, options: &'static [(libc::c_int, libc::c_int)]) -> Kept {
    sysctl(lab, Side::Client, &[("tcp_retries2", "3")]);
    let [client, server, listener] = open(lab, options);
    lose(lab, Direction::ToServer, all);
    vec![shut(lab, Side::Client, client), server, listener]
}

/// A FIN behind a closed window.
fn window_closed(lab: &Lab, options: &'static [(libc::c_int, libc::c_int)], silent: bool) -> Kept {
    let [client, server, listener] = open(lab, options);
    let client = send(lab, Side::Client, client, TOO_MUCH);
    seen(lab, Direction::ToClient, |segment| !segment.syn && segment.window == 0);
    if silent {
        lose(lab, Direction::ToServer, all);
    }
    close(lab, Side::Client, client);
    vec![server, listener]
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_fin_without_answer_ends_as_predicted() {
    run(&[
        Condition { make: |lab| fin_lost(lab, &[]), ..client("orphan", FIN_WAIT1, "fin-unanswered") },
        Condition {
            family: Family::V6,
            make: |lab| fin_lost(lab, &[]),
            ..client("orphan, IPv6", FIN_WAIT1, "fin-unanswered")
        },
        Condition {
            governs: &["net.ipv4.tcp_retries2"],
            whose: Whose::Owner("lab-client"),
            make: |lab| fin_lost_held(lab, &[]),
            ..client("descriptor held", FIN_WAIT1, "fin-unanswered")
        },
        Condition {
            governs: &["TCP_USER_TIMEOUT"],
            make: |lab| fin_lost(lab, USER_TIMEOUT),
            ..client("orphan with TCP_USER_TIMEOUT", FIN_WAIT1, "fin-unanswered")
        },
        Condition {
            governs: &["TCP_USER_TIMEOUT"],
            whose: Whose::Owner("lab-client"),
            make: |lab| fin_lost_held(lab, USER_TIMEOUT),
            ..client("descriptor held, with TCP_USER_TIMEOUT", FIN_WAIT1, "fin-unanswered")
        },
        Condition {
            make: |lab| {
                sysctl(lab, Side::Client, &[ORPHAN_RETRIES]);
                let [client, server, listener] = open(lab, &[]);
                lose(lab, Direction::ToServer, all);
                close(lab, Side::Client, send(lab, Side::Client, client, 1000));
                vec![server, listener]
            },
            ..client("behind data", FIN_WAIT1, "fin-behind-data")
        },
        Condition {
            make: |lab| {
                sysctl(lab, Side::Client, &[ORPHAN_RETRIES]);
                let [client, server, listener] = open(lab, &[]);
                close(lab, Side::Server, server);
                let client = read_end(lab, Side::Client, client);
                lose(lab, Direction::ToServer, all);
                close(lab, Side::Client, client);
                vec![listener]
            },
            ..client("last ACK", LAST_ACK, "last-ack-unanswered")
        },
        Condition {
            make: |lab| {
                sysctl(lab, Side::Client, &[ORPHAN_RETRIES]);
                let [client, server, listener] = open(lab, &[]);
                lose(lab, Direction::ToServer, all);
                close(lab, Side::Client, client);
                close(lab, Side::Server, server);
                vec![listener]
            },
            ..client("closing", CLOSING, "last-ack-unanswered")
        },
        Condition {
            // Every expiry fails with EHOSTUNREACH or ENETUNREACH: only the first FIN left.
            make: |lab| {
                let kept = fin_lost(lab, &[]);
                seen(lab, Direction::ToServer, fin);
                command(lab, Side::Client, "ip", &["route", "add", "unreachable", "10.0.0.9/32"]);
                kept
            },
            ..client("no route", FIN_WAIT1, "fin-cannot-leave")
        },
    ]);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_fin_that_cannot_be_sent_ends_as_predicted() {
    run(&[
        Condition {
            make: |lab| {
                sysctl(lab, Side::Client, &[("tcp_orphan_retries", "4")]);
                window_closed(lab, &[], true)
            },
            ..client("closed window, silent peer", FIN_WAIT1, "fin-behind-zero-window")
        },
        Condition {
            governs: &["TCP_USER_TIMEOUT"],
            make: |lab| window_closed(lab, USER_TIMEOUT, true),
            ..client("closed window, silent peer, TCP_USER_TIMEOUT", FIN_WAIT1, "fin-behind-zero-window")
        },
        Condition {
            governs: &["TCP_USER_TIMEOUT"],
            make: |lab| window_closed(lab, USER_TIMEOUT, false),
            ..client("closed window, peer answers, TCP_USER_TIMEOUT", FIN_WAIT1, "fin-behind-zero-window")
        },
        Condition {
            // The longest time-out ends it, whatever the peer answers.
            make: |lab| {
                sysctl(lab, Side::Client, &[ORPHAN_RETRIES, ("tcp_rto_max_ms", "3000")]);
                window_closed(lab, &[], false)
            },
            ..client("closed window, peer answers", FIN_WAIT1, "fin-behind-zero-window")
        },
        Condition {
            make: |lab| {
                sysctl(lab, Side::Client, &[("tcp_rto_max_ms", "3000")]);
                window_closed(lab, &[], false)
            },
            ..client("closed window, peer answers, default", FIN_WAIT1, "fin-behind-zero-window")
        },
        Condition {
            // The doublings end at tcp_retries2, the probes do not.
            make: |lab| {
                sysctl(lab, Side::Client, &[("tcp_orphan_retries", "6"), ("tcp_retries2", "2")]);
                window_closed(lab, &[], true)
            },
            ..client("closed window, few doublings", FIN_WAIT1, "fin-behind-zero-window")
        },
        Condition {
            make: |lab| {
                sysctl(lab, Side::Client, &[("tcp_orphan_retries", "4")]);
                let [client, server, listener] = open(lab, &[]);
                command(lab, Side::Client, "ip", &["route", "add", "unreachable", "10.0.0.9/32"]);
                close(lab, Side::Client, client);
                vec![server, listener]
            },
            ..client("no route from the beginning", FIN_WAIT1, "fin-cannot-leave")
        },
    ]);
}

#[test]
#[ignore = "needs root and nft: loads BPF programs and makes network namespaces"]
fn a_fin_that_the_own_firewall_drops_ends_as_predicted() {
    run(&[Condition {
        make: |lab| {
            sysctl(lab, Side::Client, &[("tcp_orphan_retries", "4")]);
            let [client, server, listener] = open(lab, &[]);
            let rules = "add table inet t; add chain inet t o { type filter hook output priority 0; }; \
                         add rule inet t o meta l4proto tcp drop";
            command(lab, Side::Client, tool("nft").to_str().expect("a path in text"), &[rules]);
            close(lab, Side::Client, client);
            vec![server, listener]
        },
        ..client("dropped by the own firewall", FIN_WAIT1, "fin-cannot-leave")
    }]);
}

/// A client that has closed, and a server that does not.
fn half_closed(lab: &Lab, fin_timeout: &str, options: &'static [(libc::c_int, libc::c_int)]) -> Kept {
    sysctl(lab, Side::Client, &[("tcp_fin_timeout", fin_timeout)]);
    let [client, server, listener] = open(lab, options);
    close(lab, Side::Client, client);
    vec![server, listener]
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn waiting_for_the_peers_fin_ends_as_predicted() {
    const GOVERNS: &[&str] = &["net.ipv4.tcp_fin_timeout"];
    run(&[
        Condition {
            governs: GOVERNS,
            make: |lab| half_closed(lab, "5", &[]),
            ..client("orphan", FIN_WAIT2, "peer-never-closed")
        },
        Condition {
            governs: GOVERNS,
            family: Family::V6,
            make: |lab| half_closed(lab, "4", &[]),
            ..client("orphan, IPv6", FIN_WAIT2, "peer-never-closed")
        },
        Condition {
            governs: GOVERNS,
            make: |lab| half_closed(lab, "8", &[(libc::TCP_LINGER2, 5)]),
            ..client("TCP_LINGER2", FIN_WAIT2, "peer-never-closed")
        },
        Condition {
            // 3 s as a full socket, 3 s as a minisocket.
            governs: GOVERNS,
            make: |lab| half_closed(lab, "63", &[]),
            ..client("above a minute", FIN_WAIT2, "peer-never-closed")
        },
        Condition {
            governs: &["TCP_LINGER2"],
            make: |lab| half_closed(lab, "16", &[(libc::TCP_LINGER2, 66)]),
            ..client("TCP_LINGER2 above a minute", FIN_WAIT2, "peer-never-closed")
        },
        Condition {
            governs: &[],
            whose: Whose::Owner("lab-client"),
            ends: Ends::Never(Duration::from_secs(10)),
            make: |lab| {
                sysctl(lab, Side::Client, &[("tcp_fin_timeout", "3")]);
                let [client, server, listener] = open(lab, &[]);
                vec![shut(lab, Side::Client, client), server, listener]
            },
            ..client("descriptor held", FIN_WAIT2, "peer-never-closed")
        },
    ]);
}
