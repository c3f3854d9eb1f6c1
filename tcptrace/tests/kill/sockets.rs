//! What is killed, and what is not.

use crate::{address, alone, kill, ss, told, until};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::BTreeSet,
    io::Read,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};
use tcptrace_lab::{Direction, Endpoint, Family, Lab, PORT, Side};

/// Two connections to the server's port: an orphan in FIN_WAIT1 whose FIN is lost, and one that is well.
struct Stuck<'lab> {
    port: u16,
    healthy: u16,
    _kept: [Endpoint<'lab>; 4],
}

fn stuck(lab: &Lab) -> Stuck<'_> {
    let listener = lab.listen().expect("listens");
    let well = lab.dial().expect("dials");
    let peer = listener.accept().expect("accepted");
    let [healthy] = ports(lab)[..] else { panic!("{:?}", ss(lab, Side::Client)) };
    let orphan = lab.dial().expect("dials");
    let orphans_peer = listener.accept().expect("accepted");
    let port = ports(lab).into_iter().find(|port| *port != healthy).expect("another");
    lab.wire().drop_when(Direction::ToServer, move |it| it.source_port == port && it.fin);
    orphan.close().expect("closed");
    until("FIN_WAIT1", || ss(lab, Side::Client).contains(&("FIN_WAIT1", port, PORT)));
    Stuck { port, healthy, _kept: [listener, well, peer, orphans_peer] }
}

pub fn ports(lab: &Lab) -> Vec<u16> {
    ss(lab, Side::Client).into_iter().map(|(_, local, _)| local).collect()
}

pub fn resets(lab: &Lab, direction: Direction) -> usize {
    lab.wire()
        .look(|traffic| traffic.sightings().filter(|it| it.direction == direction && it.segment.rst).count())
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn exactly_the_orphan_is_killed_and_only_with_yes() {
    let _alone = alone();
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        let stuck = stuck(&lab);
        let before = ss(&lab, Side::Client);
        let chosen = ["--state", "fin-wait-1", "--port", "10000", "--older-than", "300ms"];
        // Its age is proved by its retransmissions.
        let mut shown = (Vec::new(), serde_json::Value::Null);
        until("an age", || {
            shown = kill(&lab, Side::Client, &chosen, 0);
            assert_eq!(ss(&lab, Side::Client), before, "nothing may be killed");
            !shown.0.is_empty()
        });
        let (lines, sum) = shown;
        assert_eq!(told(&lines[0]), ("would-kill", "FIN_WAIT1", stuck.port.into(), PORT.into()));
        let (age, bound) = (&lines[0]["in_state_ns"], &lines[0]["bound"]);
        assert!(age.as_u64() >= Some(300_000_000) && bound == "retransmits", "{}", lines[0]);
        assert!(lines[0]["owner"].is_null() && lines[0]["inode"].is_null(), "an orphan: {}", lines[0]);
        assert_eq!((lines.len(), &sum["dry_run"], &sum["matched"]), (1, &true.into(), &1.into()), "{sum}");

        let (lines, sum) = kill(&lab, Side::Client, &[&chosen[..], &["--yes"]].concat(), 0);
        let results: Vec<_> = lines.iter().map(told).collect();
        assert_eq!(results, [("killed", "FIN_WAIT1", stuck.port.into(), PORT.into())]);
        assert_eq!((&sum["killed"], &sum["failed"], &sum["dry_run"]), (&1.into(), &0.into(), &false.into()));
        let left = ss(&lab, Side::Client);
        assert_eq!(left, BTreeSet::from([("ESTABLISHED", stuck.healthy, PORT)]));
        // The peer is told. As it never saw the FIN, the RST is one number ahead: it asks back (RFC 5961), and is
        // told again, now by nobody's socket.
        let peer = ("ESTABLISHED", PORT, stuck.port);
        until("the RST", || !ss(&lab, Side::Server).contains(&peer));
        assert_eq!(resets(&lab, Direction::ToServer), 2);
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn age_must_be_proved() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let stuck = stuck(&lab);
    for (args, left_out) in [
        (&["--port", "10000", "--older-than", "1h"] as &[_], "younger"),
        (&["--state", "syn-sent,fin-wait-1", "--older-than", "1h"], "younger"),
    ] {
        let (lines, sum) = kill(&lab, Side::Client, &[args, &["--yes"]].concat(), 0);
        assert!(lines.is_empty() && sum["left_out"][left_out].as_u64() > Some(0), "{args:?}: {sum}");
    }
    // Nothing tells since when a listener listens.
    let (lines, sum) = kill(&lab, Side::Server, &["--state", "listen", "--older-than", "1ms", "--yes"], 0);
    assert!(lines.is_empty(), "{lines:?}");
    assert_eq!(sum["left_out"]["no_age"], 1, "{sum}");
    assert!(ss(&lab, Side::Server).contains(&("LISTEN", PORT, 0)));
    assert!(ss(&lab, Side::Client).contains(&("FIN_WAIT1", stuck.port, PORT)));
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_cookie_names_one_as_both_tools_print_it() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let stuck = stuck(&lab);
    let (lines, _) = kill(&lab, Side::Client, &["--port", "10000"], 0);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let of = |port: u16| {
        let line = lines.iter().find(|line| told(line).2 == u64::from(port)).expect("there");
        line["flow"].as_str().expect("a cookie").to_owned()
    };
    let (orphan, healthy) = (of(stuck.port), of(stuck.healthy));
    // Of another socket, or of nobody: nothing is killed.
    let (none, _) = kill(&lab, Side::Client, &["--flow", "18446744073709551614", "--yes"], 0);
    let (none_here, _) = kill(&lab, Side::Client, &["--flow", &orphan, "--lport", "1", "--yes"], 0);
    assert!(none.is_empty() && none_here.is_empty());
    let hexadecimal = format!("sk:{:x}", orphan.parse::<u64>().expect("a number"));
    let (killed, _) = kill(&lab, Side::Client, &["--flow", &hexadecimal, "--yes"], 0);
    assert_eq!(told(&killed[0]).2, u64::from(stuck.port));
    assert_eq!(ports(&lab), [stuck.healthy]);
    let (killed, _) = kill(&lab, Side::Client, &["--flow", &healthy, "--yes"], 0);
    assert_eq!((killed.len(), ports(&lab)), (1, vec![]));
}

/// IPv4 over IPv6 sockets, IPv6, IPv4, listeners of a group, and listeners only when they are named.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn families_and_listeners() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let make = || {
        let pair = |listener: &TcpListener, to: &str| {
            let client = TcpStream::connect(to).expect("connected");
            (client, listener.accept().expect("accepted").0)
        };
        let dual = TcpListener::bind("[::]:20001").expect("free");
        let kept = [
            pair(&dual, "127.0.0.1:20001"),
            pair(&dual, "[::1]:20001"),
            pair(&dual, "[::ffff:127.0.0.1]:20001"),
        ];
        let member = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
            socket.set_reuse_port(true).expect("set");
            socket.bind(&address("127.0.0.1:20002").into()).expect("bound");
            socket.listen(16).expect("listens");
            socket
        };
        (dual, kept, (0..8).map(|_| member()).collect::<Vec<_>>())
    };
    let held = lab.run_in(Side::Client, make).expect("runs");
    let servers = |family: &str| {
        kill(&lab, Side::Client, &["--lport", "20001", "--family", family, "--state", "estab", "--yes"], 0).0
    };
    for (family, count) in [(4, 2), (6, 1)] {
        let killed = servers(&family.to_string());
        assert_eq!(killed.len(), count, "{killed:?}");
        assert!(killed.iter().all(|line| told(line).0 == "killed" && line["family"] == family));
        assert_eq!(killed[0]["owner"]["pid"], std::process::id(), "{}", killed[0]);
    }
    // The RST took the other ends with it.
    let listeners = || ss(&lab, Side::Client);
    until("the other ends", || listeners().iter().all(|(state, ..)| *state == "LISTEN"));

    let (lines, sum) = kill(&lab, Side::Client, &["--port", "20001,20002", "--yes"], 0);
    assert_eq!((lines.len(), &sum["left_out"]["listeners"]), (0, &9.into()), "{sum}");
    // One of a group of listeners, by its cookie, and then the rest.
    let listening = ["--state", "listen", "--lport", "20002"];
    let (group, _) = kill(&lab, Side::Client, &listening, 0);
    assert_eq!(group.len(), 8);
    let one = group[5]["flow"].as_str().expect("a cookie");
    let (killed, _) = kill(&lab, Side::Client, &["--state", "listen", "--flow", one, "--yes"], 0);
    assert_eq!(told(&killed[0]), ("killed", "LISTEN", 20002, 0));
    let (left, _) = kill(&lab, Side::Client, &listening, 0);
    assert!(left.len() == 7 && left.iter().all(|line| line["flow"] != one), "{left:?}");
    let (killed, sum) = kill(&lab, Side::Client, &["--state", "listen", "--port", "20001,20002", "--yes"], 0);
    assert_eq!((killed.len(), &sum["killed"]), (8, &8.into()), "{killed:?}");
    assert_eq!(ss(&lab, Side::Client), BTreeSet::new());
    drop(held);
}

/// `connect(AF_UNSPEC)`.
fn disconnect(socket: &Socket) {
    // SAFETY: all zeros are an address of the family AF_UNSPEC, and it lives during the call.
    let result = unsafe {
        let nowhere: libc::sockaddr = std::mem::zeroed();
        libc::connect(socket.as_raw_fd(), &raw const nowhere, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A socket that is connected again has the cookie of its minisocket: only the one that was chosen goes.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn two_with_one_cookie_are_two() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let make = || {
        let listeners = ["127.0.0.1:20001", "127.0.0.1:20002"].map(|at| TcpListener::bind(at).expect("free"));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        let connect = |to: &str| socket.connect(&address(to).into()).expect("connected");
        connect("127.0.0.1:20001");
        let (server, _) = listeners[0].accept().expect("accepted");
        // A cookie is made when somebody asks for it; the minisocket inherits only one that was.
        socket.cookie().expect("a cookie");
        socket.shutdown(Shutdown::Write).expect("shut down");
        drop(server);
        // The minisocket is in TIME_WAIT; the socket itself is as new once it is disconnected.
        let mut end = &socket;
        assert_eq!(end.read(&mut [0]).expect("the end"), 0);
        disconnect(&socket);
        connect("127.0.0.1:20002");
        let accepted = listeners[1].accept().expect("accepted").0;
        (socket, accepted, listeners)
    };
    let held = lab.run_in(Side::Client, make).expect("runs");
    let (lines, _) = kill(&lab, Side::Client, &["--rport", "20001,20002"], 0);
    let found: BTreeSet<_> = lines.iter().map(|line| (told(line).1, told(line).3)).collect();
    assert_eq!(found, BTreeSet::from([("ESTABLISHED", 20002), ("TIME_WAIT", 20001)]), "{lines:?}");
    assert_eq!(lines[0]["flow"], lines[1]["flow"], "{lines:?}");
    let cookie = lines[0]["flow"].as_str().expect("a cookie");
    let (killed, _) = kill(&lab, Side::Client, &["--flow", cookie, "--state", "time-wait", "--yes"], 0);
    assert_eq!(killed.len(), 1, "{killed:?}");
    let left: Vec<_> = ss(&lab, Side::Client).into_iter().filter(|(.., remote)| *remote != 0).collect();
    assert!(left.iter().any(|row| (row.0, row.2) == ("ESTABLISHED", 20002)), "{left:?}");
    assert!(left.iter().all(|row| row.0 != "TIME_WAIT"), "{left:?}");
    drop(held);
}

/// Sockets that are bound to an interface are found by it.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn what_is_bound_to_an_interface_is_found() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let make = || {
        let listener = TcpListener::bind("127.0.0.1:20001").expect("free");
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.bind_device(Some(b"lo")).expect("bound");
        let to: SocketAddr = address("127.0.0.1:20001");
        client.connect_timeout(&to.into(), Duration::from_secs(5)).expect("connected");
        (listener.accept().expect("accepted").0, client, listener)
    };
    let held = lab.run_in(Side::Client, make).expect("runs");
    let (killed, _) = kill(&lab, Side::Client, &["--rport", "20001", "--yes"], 0);
    assert_eq!((killed.len(), told(&killed[0]).0), (1, "killed"));
    drop(held);
}
