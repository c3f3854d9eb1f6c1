//! How connections begin: many at once, with little room, refused, or put off.

use super::{Kind, Worker, carry, drain};
use socket2::Socket;
use std::{
    io::{self, ErrorKind, Read, Write},
    thread,
    time::Duration,
};

/// Connects at once.
const BURST: usize = 12;
/// How long the kernel keeps a connection without data from its program, where that is asked for.
const DEFERRED: Duration = Duration::from_secs(10);

/// What is done.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "burst-and-hardly-a-backlog",
        workers: 1,
        rest_ms: 300,
        least: 20,
        on: |_| true,
        // With 0 every client is answered with a cookie, and one whose ACK finds no room may never get in.
        listen: |way| way.listener(1),
        play: burst,
    },
    Kind {
        name: "burst-and-a-small-backlog",
        workers: 1,
        rest_ms: 300,
        least: 20,
        on: |_| true,
        listen: |way| way.listener(2),
        play: burst,
    },
    Kind {
        name: "refused",
        workers: 1,
        rest_ms: 700,
        least: 40,
        on: |way| matches!(way.name, "IPv4" | "IPv6 over a wire"),
        listen: |way| way.bound(),
        play: refused,
    },
    Kind {
        name: "no-data-yet",
        workers: 2,
        rest_ms: 100,
        least: 20,
        on: |_| true,
        listen: deferring,
        play: no_data_yet,
    },
];

/// More connects than there is room for; the server takes them as fast as it can.
fn burst(worker: &Worker<'_>) -> io::Result<()> {
    // The client speaks first: if the kernel answered its SYN with a cookie and had no room for its ACK, only that
    // brings the connection about.
    let client = || {
        let mut client = &worker.client()?;
        client.write_all(b"?")?;
        drain(client).map(drop)
    };
    let server = || {
        let accepted: io::Result<Vec<Socket>> = (0..BURST).map(|_| worker.accept()).collect();
        accepted?.iter().try_for_each(|mut server| server.read_exact(&mut [0]))
    };
    thread::scope(|scope| {
        let clients = (0..BURST).map(|_| scope.spawn(client)).collect::<Vec<_>>();
        server()?;
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| io::Error::other("a panic"))?)
    })
}

/// Once or twice a second, as by a program that waits for another one to start.
fn refused(worker: &Worker<'_>) -> io::Result<()> {
    match worker.way.client()?.connect(&worker.address().into()) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("connected, and nobody listens")),
    }
}

fn deferring(way: &super::Way) -> io::Result<Socket> {
    let listener = way.bound()?;
    let seconds = libc::c_int::try_from(DEFERRED.as_secs()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the option takes an int.
    let set = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&listener),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            std::ptr::from_ref(&seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    listener.listen(128)?;
    Ok(listener)
}

/// Connected early, as browsers do: SYN_RECV at a server that is told of requests only (TCP_DEFER_ACCEPT).
fn no_data_yet(worker: &Worker<'_>) -> io::Result<()> {
    let mut client = &worker.client()?;
    worker.nap_between(500, 5000);
    client.write_all(b"?")?;
    let server = worker.accept()?;
    (&server).read_exact(&mut [0])?;
    carry(&server, client, 1000)?;
    drop(server);
    drain(client).map(drop)
}
