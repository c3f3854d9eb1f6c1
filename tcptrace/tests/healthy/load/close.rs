//! Short connections, and the ways in which they end.

use super::{Kind, Worker, carry, drain};
use socket2::SockAddr;
use std::{
    io::{self, Write},
    net::{IpAddr, Shutdown, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};

const BACKLOG: i32 = 128;

/// What is done.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "client-closes-first",
        workers: 1,
        rest_ms: 15,
        least: 2000,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: client_first,
    },
    Kind {
        name: "server-closes-first",
        workers: 1,
        rest_ms: 15,
        least: 2000,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: server_first,
    },
    Kind {
        name: "no-backlog",
        workers: 1,
        rest_ms: 100,
        least: 300,
        on: |_| true,
        listen: |way| way.listener(0),
        play: client_first,
    },
    Kind {
        name: "both-close",
        workers: 1,
        rest_ms: 100,
        least: 300,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: both,
    },
    Kind {
        name: "to-itself",
        workers: 1,
        rest_ms: 200,
        least: 100,
        on: |way| way.loopback && matches!(way.name, "IPv4" | "IPv6"),
        listen: |way| way.bound(),
        play: to_itself,
    },
    Kind {
        name: "half-close",
        workers: 2,
        rest_ms: 100,
        least: 10,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: half_close,
    },
    Kind {
        name: "process-exits",
        workers: 1,
        rest_ms: 500,
        least: 15,
        on: |way| way.loopback && way.name != "mapped IPv4",
        listen: |way| way.listener(BACKLOG),
        play: process_exits,
    },
    Kind {
        name: "kept-in-a-pool",
        workers: 2,
        rest_ms: 100,
        least: 12,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: pool,
    },
];

fn request_and_answer(client: &socket2::Socket, server: &socket2::Socket) -> io::Result<()> {
    carry(client, server, 200)?;
    carry(server, client, 3000)
}

/// As a browser does; a few in a hundred end hard.
fn client_first(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    request_and_answer(&client, &server)?;
    if worker.once_in(30) {
        client.set_linger(Some(Duration::ZERO))?;
        drop(client);
        // Over a wire the RST may be lost: the next segment would be answered with another.
        server.set_read_timeout(Some(Duration::from_secs(1)))?;
        let _ = drain(&server);
        return Ok(());
    }
    drop(client);
    drain(&server).map(drop)
}

/// As HTTP/1.0 does, and every server whose patience with an idle client ends.
fn server_first(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    request_and_answer(&client, &server)?;
    if worker.once_in(60) {
        // One byte more that the server does not want: it ends hard.
        (&client).write_all(b"?")?;
    }
    drop(server);
    let _ = drain(&client);
    Ok(())
}

/// Over a wire the FINs cross: CLOSING.
fn both(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    request_and_answer(&client, &server)?;
    drop((client, server));
    Ok(())
}

/// A simultaneous open: the socket's SYN meets itself.
fn to_itself(worker: &Worker<'_>) -> io::Result<()> {
    let socket = worker.way.client()?;
    socket.bind(&SocketAddr::new(worker.way.dial, 0).into())?;
    let own: SockAddr = socket.local_addr()?;
    socket.connect(&own)?;
    carry(&socket, &socket, 100)
}

/// The client has said all and waits; the answer takes its time.
fn half_close(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    carry(&client, &server, 200)?;
    client.shutdown(Shutdown::Write)?;
    drain(&server)?;
    // Now and then longer than any limit of the states in between.
    let chunks = if worker.once_in(3) { 25 } else { 5 };
    for _ in 0..chunks {
        worker.nap_between(500, 1500);
        carry(&server, &client, 1000)?;
    }
    drop(server);
    drain(&client).map(drop)
}

/// A program that ends without a close; one in four has not read what came. Of one in two, chance makes ten of eleven in a
/// row now and then, and that is an rst-storm.
fn process_exits(worker: &Worker<'_>) -> io::Result<()> {
    let (host, port) = match worker.address().ip() {
        IpAddr::V4(host) => (host.to_string(), worker.port),
        IpAddr::V6(host) => (host.to_string(), worker.port),
    };
    let talk = format!("exec 3<>/dev/tcp/{host}/{port} && echo hello >&3 && read -r line <&3");
    let mut program = Command::new("bash").args(["-c", &talk]).stdin(Stdio::null()).spawn()?;
    let server = worker.accept()?;
    carry_line(&server, worker.once_in(4))?;
    let ended = program.wait()?;
    let _ = drain(&server);
    if ended.success() { Ok(()) } else { Err(io::Error::other(format!("bash: {ended}"))) }
}

fn carry_line(mut server: &socket2::Socket, more: bool) -> io::Result<()> {
    io::Read::read_exact(&mut server, &mut [0; 6])?;
    server.write_all(if more { b"hello\nand more that nobody reads\n" } else { b"hello\n" })
}

/// The server has closed an idle connection, and the client's pool notices when it next wants it.
fn pool(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    request_and_answer(&client, &server)?;
    drop(server);
    worker.nap_between(2000, 12_000);
    drop(client);
    Ok(())
}
