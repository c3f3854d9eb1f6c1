//! Sockets in every state there is.

use crate::{ss::ss, until};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
};
use tcptrace_lab::{Direction, Lab, Segment, Side};

pub fn tcp(local: Option<SocketAddr>) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_reuse_address(true).expect("set");
    socket.set_nonblocking(true).expect("set");
    if let Some(local) = local {
        socket.bind(&local.into()).expect("bound");
    }
    socket
}

/// Connections over loopback from every kind of address, each in a state that lasts. What is returned holds them.
pub fn on_loopback() -> (Vec<TcpListener>, Vec<TcpStream>) {
    let (mut listeners, mut streams) = (Vec::new(), Vec::new());
    for (listen, dial) in [
        ("127.0.0.1:20000", "127.0.0.1:20000"),
        ("[::1]:20001", "[::1]:20001"),
        ("[::]:20002", "127.0.0.1:20002"),
    ] {
        let listener = TcpListener::bind(listen).expect("a free port");
        let pair = || {
            let client = TcpStream::connect(dial).expect("connected");
            (client, listener.accept().expect("accepted").0)
        };
        let (established, half_closed, orphaned, closed) = (pair(), pair(), pair(), pair());
        half_closed.0.shutdown(Shutdown::Write).expect("shut down");
        drop(orphaned.0);
        drop(closed.0);
        let mut server = closed.1;
        assert_eq!(server.read(&mut [0]).expect("the end"), 0);
        drop(server);
        streams.extend([established.0, established.1, half_closed.0, half_closed.1, orphaned.1]);
        listeners.push(listener);
    }
    (listeners, streams)
}

/// Makes one connection for each state that only losses keep alive, told apart by the client's port. All the client's
/// sockets in the order of their ports, and the server's.
pub fn over_the_wire(lab: &Lab) -> [Vec<Socket>; 2] {
    let wire = lab.wire();
    let drop = |direction, port: u16, which: fn(&Segment) -> bool| {
        wire.drop_when(direction, move |it| {
            let client = if direction == Direction::ToServer { it.source_port } else { it.destination_port };
            client == port && which(it)
        })
    };
    drop(Direction::ToServer, 40001, |it| it.syn); // SYN_SENT
    drop(Direction::ToServer, 40002, |it| !it.syn); // a request at the server
    drop(Direction::ToServer, 40003, |it| it.fin); // FIN_WAIT1
    drop(Direction::ToServer, 40004, |it| it.fin); // FIN_WAIT1, orphaned
    drop(Direction::ToClient, 40005, |it| it.fin); // LAST_ACK at the server
    drop(Direction::ToServer, 40006, |it| it.fin); // CLOSING
    drop(Direction::ToServer, 40007, |it| it.syn); // a full SYN_RECV: both connect to each other

    let (here, there) = (lab.address(Side::Client), lab.server_address());
    let server_end = SocketAddr::new(there.ip(), 10007);
    let listener = lab.run_in(Side::Server, move || {
        let listener = tcp(Some(there));
        listener.listen(16).expect("listens");
        listener
    });
    let mut server = vec![listener.expect("a listener")];
    let clients = lab.run_in(Side::Client, move || {
        let dial = |port| {
            let socket = tcp(Some(SocketAddr::new(here, port)));
            let to = if port == 40007 { server_end } else { there };
            let error = socket.connect(&to.into()).expect_err("under way");
            assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
            socket
        };
        (40001..=40007).map(dial).collect::<Vec<_>>()
    });
    let mut clients = clients.expect("clients");
    // 40003 to 40006 are open at both ends.
    let mut accepted = BTreeMap::new();
    while accepted.len() < 4 {
        let listener = server[0].try_clone().expect("a duplicate");
        let next = lab.run_in(Side::Server, move || {
            let mut next = None;
            until("a connection", || {
                next = listener.accept().ok();
                next.is_some()
            });
            next
        });
        let (socket, from): (Socket, SockAddr) = next.expect("runs").expect("accepted");
        accepted.insert(from.as_socket().expect("an address").port(), socket);
    }
    for port in [40003, 40005, 40006] {
        clients[port - 40001].shutdown(Shutdown::Write).expect("shut down");
    }
    std::mem::drop(clients.remove(3)); // 40004
    let states = |side| {
        ss(lab, side).into_iter().map(|(_, state, local, remote)| (state, local.port(), remote.port()))
    };
    until("40005's FIN", || states(Side::Server).any(|it| it == ("CLOSE_WAIT", 10000, 40005)));
    std::mem::drop(accepted.remove(&40005));
    accepted[&40006].shutdown(Shutdown::Write).expect("shut down");
    let peer = lab.run_in(Side::Server, move || {
        let socket = tcp(Some(server_end));
        socket.connect(&SocketAddr::new(here, 40007).into()).expect_err("under way");
        socket
    });
    server.push(peer.expect("a peer"));
    server.extend(accepted.into_values());

    for (side, expected) in [
        (
            Side::Client,
            &[
                ("SYN_SENT", 40001, 10000),
                ("ESTABLISHED", 40002, 10000),
                ("FIN_WAIT1", 40003, 10000),
                ("FIN_WAIT1", 40004, 10000),
                ("FIN_WAIT2", 40005, 10000),
                ("CLOSING", 40006, 10000),
                ("SYN_RECV", 40007, 10007),
            ][..],
        ),
        (
            Side::Server,
            &[
                ("LISTEN", 10000, 0),
                ("SYN_RECV", 10000, 40002),
                ("ESTABLISHED", 10000, 40003),
                ("ESTABLISHED", 10000, 40004),
                ("LAST_ACK", 10000, 40005),
                ("FIN_WAIT2", 10000, 40006),
                ("SYN_SENT", 10007, 40007),
            ][..],
        ),
    ] {
        until("the states", || {
            let states: BTreeSet<_> = states(side).collect();
            expected.iter().all(|it| states.contains(it))
        });
    }
    [clients, server]
}
