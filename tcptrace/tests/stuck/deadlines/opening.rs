//! Connections that are not open yet, SYN_SENT and SYN_RECV, and open ones whose peer is gone.

use super::{
    Condition, Ends, Kept, Whose,
    kept::{all, connect, dial, listen, lose, open, send, sysctl},
    run,
};
use std::{net::SocketAddr, time::Duration};
use tcptrace_lab::{Direction, Family, Lab, Side};

type Options = &'static [(libc::c_int, libc::c_int)];

const SYN_SENT: (&str, &str) = ("SYN_SENT", "02");
const SYN_RECV: (&str, &str) = ("SYN_RECV", "03");
const ESTABLISHED: (&str, &str) = ("ESTABLISHED", "01");
const LISTEN: (&str, &str) = ("LISTEN", "0A");

const fn attempt(name: &'static str, governs: &'static [&'static str]) -> Condition {
    Condition {
        name,
        family: Family::V4,
        side: Side::Client,
        state: SYN_SENT,
        finding: "syn-unanswered",
        governs,
        whose: Whose::Owner("lab-client"),
        ends: Ends::Predicted,
        make: |_| Vec::new(),
    }
}

fn syn_lost(lab: &Lab, settings: &[(&str, &str)], options: Options) -> Kept {
    sysctl(lab, Side::Client, settings);
    lose(lab, Direction::ToServer, all);
    vec![dial(lab, options)]
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_connect_without_answer_ends_as_predicted() {
    const RETRIES: &[&str] = &["net.ipv4.tcp_syn_retries"];
    run(&[
        Condition {
            make: |lab| syn_lost(lab, &[("tcp_syn_retries", "2"), ("tcp_syn_linear_timeouts", "0")], &[]),
            ..attempt("two retries", RETRIES)
        },
        Condition {
            make: |lab| syn_lost(lab, &[("tcp_syn_retries", "2")], &[]),
            ..attempt("two retries, the usual linear ones", RETRIES)
        },
        Condition {
            family: Family::V6,
            make: |lab| syn_lost(lab, &[("tcp_syn_retries", "3"), ("tcp_syn_linear_timeouts", "1")], &[]),
            ..attempt("three retries, one linear, IPv6", RETRIES)
        },
        Condition {
            make: |lab| syn_lost(lab, &[("tcp_syn_linear_timeouts", "0")], &[(libc::TCP_SYNCNT, 2)]),
            ..attempt("TCP_SYNCNT", &["TCP_SYNCNT"])
        },
        Condition {
            make: |lab| syn_lost(lab, &[], &[(libc::TCP_USER_TIMEOUT, 5500)]),
            ..attempt("TCP_USER_TIMEOUT", &["TCP_USER_TIMEOUT"])
        },
    ]);
}

const fn request(name: &'static str, governs: &'static [&'static str]) -> Condition {
    Condition {
        side: Side::Server,
        state: SYN_RECV,
        finding: "syn-ack-unanswered",
        whose: Whose::Nobody,
        ..attempt(name, governs)
    }
}

/// A SYN whose sender does not exist, so that nobody repeats it.
fn forged(lab: &Lab, retries: &str, options: Options) -> Kept {
    sysctl(lab, Side::Server, &[("tcp_synack_retries", retries)]);
    let listener = listen(lab, 64, options);
    let source = SocketAddr::new(lab.address(Side::Client), 4000);
    lose(lab, Direction::ToClient, all);
    lab.wire().inject_syn(Direction::ToServer, source, lab.server_address(), 7).expect("injected");
    vec![listener]
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_half_open_request_ends_as_predicted() {
    const RETRIES: &[&str] = &["net.ipv4.tcp_synack_retries"];
    run(&[
        Condition { make: |lab| forged(lab, "2", &[]), ..request("two retries", RETRIES) },
        Condition {
            family: Family::V6,
            make: |lab| forged(lab, "3", &[]),
            ..request("three retries, IPv6", RETRIES)
        },
        Condition {
            make: |lab| forged(lab, "5", &[(libc::TCP_SYNCNT, 2)]),
            ..request("TCP_SYNCNT of the listener", &["TCP_SYNCNT"])
        },
        Condition {
            // The client is content, and its ACKs are lost.
            make: |lab| {
                sysctl(lab, Side::Server, &[("tcp_synack_retries", "2")]);
                let listener = listen(lab, 64, &[]);
                lose(lab, Direction::ToServer, |segment| !segment.syn);
                vec![dial(lab, &[]), listener]
            },
            ..request("the ACK is lost", RETRIES)
        },
        Condition {
            state: LISTEN,
            finding: "accept-queue-full",
            whose: Whose::Owner("lab-server"),
            ends: Ends::Never(Duration::from_secs(10)),
            make: |lab| {
                let listener = listen(lab, 0, &[]);
                let clients = (0..3).map(|_| dial(lab, &[]));
                clients.collect::<Vec<_>>().into_iter().chain([listener]).collect()
            },
            ..request("a full accept queue", &["net.core.somaxconn"])
        },
    ]);
}

const fn established(name: &'static str, governs: &'static [&'static str]) -> Condition {
    Condition { state: ESTABLISHED, finding: "dead-peer", ..attempt(name, governs) }
}

const KEEPALIVE: Options = &[(libc::TCP_KEEPIDLE, 1), (libc::TCP_KEEPINTVL, 1)];

/// An open connection whose peer vanishes, with or without data under way.
fn vanished(lab: &Lab, settings: &[(&str, &str)], options: Options, keepalive: bool, data: bool) -> Kept {
    sysctl(lab, Side::Client, settings);
    let listener = listen(lab, 16, &[]);
    let (client, server, listener) = connect(lab, options, listener);
    client.set_keepalive(keepalive).expect("set");
    lose(lab, Direction::ToServer, all);
    let client = if data { send(lab, Side::Client, client, 100) } else { client };
    vec![client, server, listener]
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn an_open_connection_to_nobody_ends_as_predicted() {
    run(&[
        Condition {
            make: |lab| vanished(lab, &[("tcp_retries2", "3")], &[], false, true),
            ..established("data", &["net.ipv4.tcp_retries2"])
        },
        Condition {
            make: |lab| vanished(lab, &[], &[(libc::TCP_USER_TIMEOUT, 5000)], false, true),
            ..established("TCP_USER_TIMEOUT", &["TCP_USER_TIMEOUT"])
        },
        Condition {
            make: |lab| {
                const COUNT: Options = &[KEEPALIVE[0], KEEPALIVE[1], (libc::TCP_KEEPCNT, 5)];
                vanished(lab, &[], COUNT, true, false)
            },
            ..established("keepalive", &["TCP_KEEPCNT"])
        },
        Condition {
            make: |lab| {
                const COUNT: Options = &[KEEPALIVE[0], (libc::TCP_KEEPINTVL, 3), (libc::TCP_KEEPCNT, 2)];
                vanished(lab, &[], COUNT, true, false)
            },
            ..established("keepalive, two probes", &["TCP_KEEPCNT"])
        },
        Condition {
            make: |lab| {
                const TIMEOUT: Options = &[KEEPALIVE[0], KEEPALIVE[1], (libc::TCP_USER_TIMEOUT, 6000)];
                vanished(lab, &[], TIMEOUT, true, false)
            },
            ..established("keepalive and TCP_USER_TIMEOUT", &["TCP_USER_TIMEOUT"])
        },
        Condition {
            finding: "zero-window-stall",
            make: |lab| {
                sysctl(lab, Side::Client, &[("tcp_retries2", "4")]);
                let [client, server, listener] = open(lab, &[]);
                let client = send(lab, Side::Client, client, 100_000);
                super::kept::seen(lab, Direction::ToClient, |it| !it.syn && it.window == 0);
                lose(lab, Direction::ToServer, all);
                vec![client, server, listener]
            },
            ..established("closed window, silent peer", &["net.ipv4.tcp_retries2"])
        },
        Condition {
            finding: "zero-window-stall",
            ends: Ends::Never(Duration::from_secs(9)),
            make: |lab| {
                sysctl(lab, Side::Client, &[("tcp_retries2", "4")]);
                let [client, server, listener] = open(lab, &[]);
                vec![send(lab, Side::Client, client, 100_000), server, listener]
            },
            ..established("closed window, peer answers", &[])
        },
    ]);
}
