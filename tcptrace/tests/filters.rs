//! Filters: what matches is shown completely, everything else not at all.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use nix::{
    sys::socket::{AddressFamily, SockFlag, SockType},
    sys::socket::{SockaddrIn, bind, connect, socket},
};
use serde_json::Value;
use std::{
    io::Read,
    net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd,
};
use support::{Tracer, events, netns, of_type, text};
use tcptrace_lab::{Family, Lab, Side};

/// Four connections on the loopback of one host, opened and closed one after the other: two over IPv4, one over IPv6, and
/// one from IPv4 to a listener on `::`, whose end of it is an IPv6 socket with an IPv4-mapped address.
fn traffic(lab: &Lab) {
    let run = || {
        for (listen, dial) in [
            ("127.0.0.1:10000", "127.0.0.1:10000"),
            ("127.0.0.2:10001", "127.0.0.2:10001"),
            ("[::1]:10002", "[::1]:10002"),
            ("[::]:10003", "127.0.0.1:10003"),
        ] {
            let listener = TcpListener::bind(listen).expect("a free port");
            let client = TcpStream::connect(dial).expect("connected");
            let (mut server, _) = listener.accept().expect("accepted");
            drop(client);
            // One after the other: two FINs that cross lead through CLOSING.
            assert_eq!(server.read(&mut [0]).expect("the end"), 0);
        }
    };
    lab.run_in(Side::Client, run).expect("runs");
}

/// The ports of the service in the lines that name a connection.
fn services(lines: &[Value]) -> Vec<u64> {
    let mut ports: Vec<_> = lines
        .iter()
        .filter(|line| line["flow"].is_string())
        .map(|line| {
            let ports = [&line["local"], &line["remote"]].map(|end| end["port"].as_u64().expect("a port"));
            ports.into_iter().find(|port| (10_000..10_010).contains(port)).expect("one of ours")
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn each_filter_shows_its_own() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let elsewhere = netns(lab.netns(Side::Server));
    let all: &[u64] = &[10_000, 10_001, 10_002, 10_003];
    let cases: &[(&[&str], &[u64])] = &[
        (&[], all),
        (&["--port", "10000"], &[10_000]),
        (&["--port", "10001-10002"], &[10_001, 10_002]),
        (&["--port", "10000,10002"], &[10_000, 10_002]),
        (&["--port", "10000", "--port", "10003"], &[10_000, 10_003]),
        (&["--lport", "10001"], &[10_001]),
        (&["--rport", "10001"], &[10_001]),
        (&["--addr", "127.0.0.2"], &[10_001]),
        (&["--addr", "127.0.0.0/8"], &[10_000, 10_001, 10_003]),
        (&["--addr", "127.0.0.2,::1"], &[10_001, 10_002]),
        (&["--addr", "10.9.8.0/24"], &[]),
        (&["--family", "4"], &[10_000, 10_001, 10_003]),
        (&["--family", "6"], &[10_002, 10_003]), // the dual listener on :: is IPv6
        (&["--uid", "0"], all),
        (&["--uid", "nobody"], &[]),
        (&["--comm", "lab-client"], all),
        (&["--comm", "lab-server"], &[]),
        (&["--port", "10000-10001", "--addr", "127.0.0.2"], &[10_001]),
        (&["--netns", &elsewhere], all), // beside --netns of this host: either
    ];
    for (args, expected) in cases {
        let tracer = Tracer::start(&[&["--netns", here.as_str()], *args].concat());
        traffic(&lab);
        let (lines, summary) = tracer.stop();
        assert_eq!(&services(&lines), expected, "{args:?}\n{}", text(&lines));
        let told = events(&lines).len() as u64;
        if !args.contains(&"--comm") {
            assert_eq!(summary["transitions"].as_u64(), Some(told), "{args:?}: counted what is shown");
        }
    }
    let tracer = Tracer::start(&["--netns", &elsewhere]);
    traffic(&lab);
    let (lines, summary) = tracer.stop();
    assert_eq!((services(&lines), summary["transitions"].as_u64()), (vec![], Some(0)));
}

/// `--lport` and `--rport` see one end each, and each end whole.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn local_and_remote_ports_are_the_two_ends() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    for (flag, role, states) in [("--lport", "passive", 5), ("--rport", "active", 5)] {
        let tracer = Tracer::start(&["--netns", &here, flag, "10000"]);
        traffic(&lab);
        let (lines, _) = tracer.stop();
        let transitions = events(&lines);
        let ends: Vec<_> = transitions.iter().filter(|line| line["role"] != "listen").collect();
        assert!(ends.iter().all(|line| line["role"] == role), "{flag}\n{}", text(&lines));
        assert_eq!(ends.len(), states, "{flag}\n{}", text(&lines));
    }
}

/// No event tells of TIME_WAIT: it is shown all the same, and nothing else of the connections.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_state_without_events_can_be_asked_for() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let mut tracer = Tracer::start(&["--netns", &here, "--state", "time-wait"]);
    traffic(&lab);
    tracer.wait_for("a TIME_WAIT", |line| line["new"] == "TIME_WAIT");
    let (lines, _) = tracer.stop();
    let told = of_type(&lines, "transition");
    assert!(
        told.iter().all(|line| line["new"] == "TIME_WAIT" && line["inferred"] == true),
        "{}",
        text(&lines)
    );
    let closes = of_type(&lines, "close");
    assert!(closes.iter().all(|line| line["continues_as"] == "TIME_WAIT"), "{}", text(&lines));
    assert!(!closes.is_empty());
    // Who comes later sees those that are there.
    let mut tracer = Tracer::start(&["--netns", &here, "--state", "time-wait"]);
    tracer.wait_for("one that was there", |line| line["type"] == "sight" && line["state"] == "TIME_WAIT");
}

/// The kernel picks the local port after the first event. A filter on it still shows that event, once it is known.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_port_known_late_still_matches() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    lab.set_sysctl(Side::Client, "net.ipv4.ip_local_port_range", "40000 40999").expect("set");
    for (ports, expected) in [("40000-40999", 5), ("41000-41999", 0)] {
        let tracer = Tracer::start(&["--netns", &here, "--lport", ports, "--only", "transitions"]);
        let run = || {
            let listener = TcpListener::bind("127.0.0.1:10000").expect("a free port");
            let client = TcpStream::connect("127.0.0.1:10000").expect("connected");
            drop((client, listener.accept().expect("accepted")));
        };
        lab.run_in(Side::Client, run).expect("runs");
        let (lines, summary) = tracer.stop();
        let told = events(&lines);
        assert_eq!(told.len(), expected, "{ports}\n{}", text(&lines));
        assert_eq!(summary["transitions"].as_u64(), Some(expected as u64), "{ports}: {summary}");
        if expected > 0 {
            assert_eq!((&told[0]["old"], &told[0]["new"]), (&Value::from("CLOSE"), &Value::from("SYN_SENT")));
        }
    }
}

/// IPv4 on an IPv6 socket is IPv4: shown as such, and found by IPv4 filters.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn mapped_addresses_are_ipv4() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let tracer = Tracer::start(&["--netns", &here, "--port", "10003", "--addr", "127.0.0.1"]);
    traffic(&lab);
    let (lines, _) = tracer.stop();
    let passive: Vec<_> = lines.iter().filter(|line| line["role"] == "passive").collect();
    assert!(!passive.is_empty());
    for line in passive {
        assert_eq!(
            (line["family"].as_u64(), line["local"]["addr"].as_str()),
            (Some(4), Some("127.0.0.1")),
            "{line}"
        );
    }
}

/// A program that binds before it connects is known by its port from the first event on.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_bound_port_is_known_at_once() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let tracer = Tracer::start(&["--netns", &here, "--lport", "33333", "--only", "transitions"]);
    let run = || {
        let _listener = TcpListener::bind("127.0.0.1:10000").expect("a free port");
        let socket =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket");
        let local: SocketAddrV4 = "127.0.0.1:33333".parse().expect("valid");
        let remote: SocketAddrV4 = "127.0.0.1:10000".parse().expect("valid");
        bind(socket.as_raw_fd(), &SockaddrIn::from(local)).expect("bound");
        connect(socket.as_raw_fd(), &SockaddrIn::from(remote)).expect("connected");
    };
    lab.run_in(Side::Client, run).expect("runs");
    let (lines, _) = tracer.stop();
    let first = events(&lines)[0];
    assert_eq!((first["new"].as_str(), first["local"]["port"].as_u64()), (Some("SYN_SENT"), Some(33333)));
}

/// A state filter shows changes into and out of the state, and no times that it cannot know.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn states_filter_both_ends_of_a_change() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let tracer = Tracer::start(&["--netns", &here, "--state", "fin-wait-1", "--port", "10000"]);
    traffic(&lab);
    let (lines, summary) = tracer.stop();
    let told: Vec<_> = events(&lines)
        .iter()
        .map(|line| (line["old"].as_str(), line["new"].as_str(), line["in_state_ns"].is_u64()))
        .collect();
    let expected =
        [(Some("ESTABLISHED"), Some("FIN_WAIT1"), false), (Some("FIN_WAIT1"), Some("FIN_WAIT2"), true)];
    assert_eq!(told, expected, "{}", text(&lines));
    assert_eq!(summary["transitions"].as_u64(), Some(2));
}

/// Two hosts use the very same addresses and ports: nothing is confused.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn the_same_addresses_in_two_namespaces_are_two_flows() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
    let tracer = Tracer::start(&["--netns", &spaces[0], "--netns", &spaces[1], "--only", "closes"]);
    for side in Side::ALL {
        let run = || {
            let listener = TcpListener::bind("127.0.0.1:10000").expect("a free port");
            let client =
                socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket");
            let (local, remote): (SocketAddrV4, SocketAddrV4) =
                ("127.0.0.1:44444".parse().expect("valid"), "127.0.0.1:10000".parse().expect("valid"));
            bind(client.as_raw_fd(), &SockaddrIn::from(local)).expect("bound");
            connect(client.as_raw_fd(), &SockaddrIn::from(remote)).expect("connected");
            let (_, peer) = listener.accept().expect("accepted");
            assert_eq!(peer, SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 44444));
        };
        lab.run_in(side, run).expect("runs");
    }
    let (lines, _) = tracer.stop();
    let active: Vec<_> =
        of_type(&lines, "close").into_iter().filter(|line| line["role"] == "active").collect();
    assert_eq!(active.len(), 2, "{}", text(&lines));
    assert_ne!(active[0]["flow"], active[1]["flow"]);
    assert_ne!(active[0]["netns"], active[1]["netns"]);
    assert_eq!(active[0]["local"], active[1]["local"]);
}
