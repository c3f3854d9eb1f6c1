//! What is left of each kind of socket, and whether the peer and the program are told: the table of docs/kill.md.

use crate::{
    alone, kill,
    sockets::{ports, resets},
    ss, told, until,
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::BTreeSet,
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
};
use tcptrace_lab::{Direction, Endpoint, Family, Lab, Side};

/// Has a segment of another connection pass in this direction.
fn something_later(lab: &Lab, direction: Direction) -> Endpoint<'_> {
    let clients = |of: &dyn Fn(u16) -> bool| {
        lab.wire().look(|traffic| {
            let sent = traffic.sightings().filter(|it| it.direction == direction).map(|it| match direction {
                Direction::ToServer => it.segment.source_port,
                Direction::ToClient => it.segment.destination_port,
            });
            sent.filter(|port| of(*port)).collect::<BTreeSet<_>>()
        })
    };
    let before = clients(&|_| true);
    let later = lab.dial().expect("dials");
    until("something later", || !clients(&|port| !before.contains(&port)).is_empty());
    later
}

/// Every kind of object, what is left of it, and whether the peer is told: the table of docs/kill.md.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_peer_sees_rst_or_nothing() {
    let _alone = alone();
    type Make = for<'a> fn(&'a Lab, &Endpoint<'a>) -> Vec<Endpoint<'a>>;
    let cases: [(&str, &str, Side, bool, Make); 9] = [
        ("ESTABLISHED", "full", Side::Client, true, |lab, listener| {
            vec![lab.dial().expect("dials"), listener.accept().expect("accepted")]
        }),
        ("CLOSE_WAIT", "full", Side::Server, true, |lab, listener| {
            let (client, server) = (lab.dial().expect("dials"), listener.accept().expect("accepted"));
            client.shutdown_write().expect("shut down");
            server.receive_end().expect("the end");
            vec![client, server]
        }),
        ("FIN_WAIT2", "full", Side::Client, true, |lab, listener| {
            let (client, server) = (lab.dial().expect("dials"), listener.accept().expect("accepted"));
            client.shutdown_write().expect("shut down");
            server.receive_end().expect("the end");
            vec![client, server]
        }),
        ("FIN_WAIT2", "timewait", Side::Client, false, |lab, listener| {
            let (client, server) = (lab.dial().expect("dials"), listener.accept().expect("accepted"));
            client.close().expect("closed");
            server.receive_end().expect("the end");
            vec![server]
        }),
        ("TIME_WAIT", "timewait", Side::Client, false, |lab, listener| {
            let (client, server) = (lab.dial().expect("dials"), listener.accept().expect("accepted"));
            client.close().expect("closed");
            server.receive_end().expect("the end");
            server.close().expect("closed");
            vec![]
        }),
        ("SYN_SENT", "full", Side::Client, false, |lab, _| {
            lab.wire().drop_when(Direction::ToServer, |it| it.syn);
            vec![lab.dial().expect("dials")]
        }),
        ("SYN_RECV", "half-open", Side::Server, false, |lab, _| {
            lab.wire().drop_when(Direction::ToServer, |it| !it.syn);
            vec![lab.dial().expect("dials")]
        }),
        ("LAST_ACK", "full", Side::Server, false, |lab, listener| {
            let (client, server) = (lab.dial().expect("dials"), listener.accept().expect("accepted"));
            lab.wire().drop_when(Direction::ToClient, |it| it.fin);
            client.shutdown_write().expect("shut down");
            server.receive_end().expect("the end");
            server.close().expect("closed");
            vec![client]
        }),
        ("CLOSING", "full", Side::Client, false, |lab, listener| {
            let (client, server) = (lab.dial().expect("dials"), listener.accept().expect("accepted"));
            lab.wire().drop_when(Direction::ToServer, |it| it.fin);
            client.shutdown_write().expect("shut down");
            server.shutdown_write().expect("shut down");
            vec![client, server]
        }),
    ];
    for (state, kind, side, told_by_rst, make) in cases {
        let lab = Lab::new(Family::V4).expect("a lab");
        let listener = lab.listen().expect("listens");
        let kept = make(&lab, &listener);
        let there = || ss(&lab, side).iter().filter(|row| row.0 == state).count();
        until(state, || there() == 1);
        let direction = Direction::from_side(side);
        assert_eq!(resets(&lab, direction), 0);
        let (lines, _) = kill(&lab, side, &["--state", state, "--yes"], 0);
        let [line] = lines.as_slice() else { panic!("{state}: {lines:?}") };
        assert_eq!((told(line).0, &line["socket"]), ("killed", &kind.into()), "{line}");
        if state != "SYN_RECV" {
            // A SYN-ACK that was lost may be asked for again.
            assert_eq!(there(), 0, "{state} {kind}");
        }
        // What is sent is sent within the kernel's answer: before anything that comes later.
        let later = something_later(&lab, direction);
        assert_eq!(resets(&lab, direction), usize::from(told_by_rst), "{state} {kind}");
        drop((kept, later));
    }
}

/// Both connect to each other: then SYN_RECV is a full socket, and the other one is told.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_full_syn_recv_sends_rst() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    // The client's SYN arrives nowhere, its own SYN-ACK neither.
    lab.wire().drop_when(Direction::ToServer, |it| it.syn);
    let ends = [(Side::Client, 40001), (Side::Server, 40002)]
        .map(|(side, port)| (side, SocketAddr::new(lab.address(side), port)));
    let connect = |(side, from): (Side, SocketAddr), to: SocketAddr| {
        let connect = move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            socket.bind(&from.into()).expect("bound");
            socket.connect(&to.into()).expect_err("under way");
            socket
        };
        lab.run_in(side, connect).expect("runs")
    };
    let held = (connect(ends[0], ends[1].1), connect(ends[1], ends[0].1));
    until("SYN_RECV", || ss(&lab, Side::Client).contains(&("SYN_RECV", 40001, 40002)));
    let (killed, _) = kill(&lab, Side::Client, &["--state", "syn-recv", "--yes"], 0);
    assert_eq!((killed.len(), told(&killed[0]).0), (1, "killed"));
    assert_eq!(killed[0]["socket"], "full", "{}", killed[0]);
    until("the RST", || resets(&lab, Direction::ToServer) > 0);
    drop(held);
}

/// What a listener has not handed out goes with it, and the other ends are told.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_listener_takes_its_queue_with_it() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let listener = lab.listen().expect("listens");
    let waiting = lab.dial().expect("dials");
    until("the handshake", || ss(&lab, Side::Server).iter().any(|row| row.0 == "ESTABLISHED"));
    let (killed, _) = kill(&lab, Side::Server, &["--state", "listen", "--port", "10000", "--yes"], 0);
    assert_eq!((killed.len(), told(&killed[0]).0), (1, "killed"));
    assert_eq!(ss(&lab, Side::Server), BTreeSet::new());
    until("the RST", || ports(&lab).is_empty());
    assert_eq!(resets(&lab, Direction::ToClient), 1);
    drop((waiting, listener));
}

/// The program that has it is told by ECONNABORTED; nothing else of it is touched.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_program_sees_an_abort() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let make = || {
        let listener = TcpListener::bind("127.0.0.1:20001").expect("free");
        let client = TcpStream::connect("127.0.0.1:20001").expect("connected");
        (listener.accept().expect("accepted").0, client, listener)
    };
    let (server, mut client, listener) = lab.run_in(Side::Client, make).expect("runs");
    let port = client.local_addr().expect("bound").port().to_string();
    let (lines, _) = kill(&lab, Side::Client, &["--lport", &port, "--yes"], 0);
    assert_eq!((lines.len(), told(&lines[0]).0), (1, "killed"));
    let error = client.read(&mut [0]).expect_err("aborted");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED));
    assert!(ss(&lab, Side::Client).contains(&("LISTEN", 20001, 0)));
    drop((server, listener));
}
