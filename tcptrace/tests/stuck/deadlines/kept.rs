//! Sockets of a lab's hosts as these conditions need them: options set before they connect, calls made by the host's own
//! thread, and kept or closed as wanted.

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io::{Read, Write},
    net::Shutdown,
    os::fd::AsRawFd,
    process::Command,
    time::Duration,
};
use tcptrace_lab::{Direction, Family, Lab, Segment, Side};

/// Nothing that these calls wait for takes longer, but for what fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// An option of TCP as a number, set before anything happens on the socket.
pub type Option = (libc::c_int, libc::c_int);

/// Sets it.
pub fn set(socket: &Socket, (option, value): Option) {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, the value ours and that long.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), length)
    };
    assert_eq!(result, 0, "option {option}: {}", std::io::Error::last_os_error());
}

fn socket(family: Family, options: &[Option]) -> Socket {
    let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    socket.set_tcp_nodelay(true).expect("set");
    options.iter().for_each(|option| set(&socket, *option));
    socket
}

/// A listener of the server with this backlog and these options.
pub fn listen(lab: &Lab, backlog: i32, options: &'static [Option]) -> Socket {
    let (family, address) = (lab.family(), SockAddr::from(lab.server_address()));
    let make = move || {
        let socket = socket(family, options);
        socket.set_recv_buffer_size(4096).expect("set");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.bind(&address).expect("bound");
        socket.listen(backlog).expect("listens");
        socket
    };
    lab.run_in(Side::Server, make).expect("a host")
}

/// A client's socket that begins to connect.
pub fn dial(lab: &Lab, options: &'static [Option]) -> Socket {
    let (family, address) = (lab.family(), SockAddr::from(lab.server_address()));
    let make = move || {
        let socket = socket(family, options);
        socket.set_nonblocking(true).expect("set");
        let error = socket.connect(&address).expect_err("under way");
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS), "{error}");
        socket
    };
    lab.run_in(Side::Client, make).expect("a host")
}

/// A connection: client, server, listener.
pub fn open(lab: &Lab, options: &'static [Option]) -> [Socket; 3] {
    let listener = listen(lab, 16, &[]);
    let (client, server, listener) = connect(lab, options, listener);
    [client, server, listener]
}

/// One more connection to that listener.
pub fn connect(lab: &Lab, options: &'static [Option], listener: Socket) -> (Socket, Socket, Socket) {
    let client = dial(lab, options);
    let accept = move || {
        let (server, _) = listener.accept().expect("accepted");
        server.set_read_timeout(Some(PATIENCE)).expect("set");
        (server, listener)
    };
    let (server, listener) = lab.run_in(Side::Server, accept).expect("a host");
    (client, server, listener)
}

/// Closes it as its program does.
pub fn close(lab: &Lab, side: Side, socket: Socket) {
    lab.run_in(side, move || drop(socket)).expect("a host");
}

/// Ends its direction only.
pub fn shut(lab: &Lab, side: Side, socket: Socket) -> Socket {
    let shut = move || {
        socket.shutdown(Shutdown::Write).expect("shut");
        socket
    };
    lab.run_in(side, shut).expect("a host")
}

/// Writes as much as there is room for, `most` at most.
pub fn send(lab: &Lab, side: Side, socket: Socket, most: usize) -> Socket {
    let send = move || {
        socket.set_nonblocking(true).expect("set");
        let mut left = most;
        while left > 0 {
            match (&socket).write(&vec![b'x'; left]) {
                Ok(sent) => left -= sent,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        socket
    };
    lab.run_in(side, send).expect("a host")
}

/// Reads to the end of the stream.
pub fn read_end(lab: &Lab, side: Side, socket: Socket) -> Socket {
    let read = move || {
        socket.set_nonblocking(false).expect("set");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        assert_eq!((&socket).read(&mut [0]).expect("the end"), 0);
        socket
    };
    lab.run_in(side, read).expect("a host")
}

/// Loses everything of that kind from now on.
pub fn lose(lab: &Lab, direction: Direction, what: fn(&Segment) -> bool) {
    lab.wire().drop_when(direction, what);
}

/// Everything.
pub fn all(_: &Segment) -> bool {
    true
}

/// A FIN.
pub fn fin(segment: &Segment) -> bool {
    segment.fin
}

/// Sets sysctls of `net.ipv4` on that side.
pub fn sysctl(lab: &Lab, side: Side, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        lab.set_sysctl(side, &format!("net.ipv4.{name}"), value).expect("set");
    }
}

/// Waits until the path has carried or lost it.
pub fn seen(lab: &Lab, direction: Direction, what: fn(&Segment) -> bool) {
    let seen = |traffic: &tcptrace_lab::Traffic| {
        traffic.sightings().any(|it| it.direction == direction && what(&it.segment))
    };
    lab.wire().wait_until("a segment", PATIENCE, seen).expect("seen");
}

/// Runs a command there; `false`: it is not installed.
pub fn command(lab: &Lab, side: Side, program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments);
    match lab.command(side, command) {
        Ok(output) => {
            assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
            true
        }
        Err(error) => {
            println!("{program}: {error}");
            false
        }
    }
}
