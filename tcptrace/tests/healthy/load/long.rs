//! Connections that last: idle, busy, and slow.

use super::{Kind, Worker, carry, drain};
use socket2::{Socket, TcpKeepalive};
use std::{
    io::{self, Read, Write},
    thread,
    time::Duration,
};

const BACKLOG: i32 = 128;
/// A window that is soon full.
const SMALL: usize = 32 << 10;
/// What a slow reader reads between two pauses, and how often.
const SIP: usize = 128 << 10;
const SIPS: usize = 4;
/// A large transfer.
const LARGE: usize = 2 << 20;

/// What is done.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "keep-alive",
        workers: 2,
        rest_ms: 50,
        least: 12,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: keep_alive,
    },
    Kind {
        name: "idle",
        workers: 4,
        rest_ms: 0,
        least: 0,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: idle,
    },
    Kind {
        name: "large-transfer",
        workers: 1,
        rest_ms: 500,
        least: 30,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: transfer,
    },
    Kind {
        name: "slow-reader",
        workers: 2,
        rest_ms: 100,
        least: 15,
        on: |_| true,
        listen: small_window,
        play: slow_reader,
    },
    Kind {
        name: "slow-reader-of-a-closed-answer",
        workers: 2,
        rest_ms: 100,
        least: 15,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: slow_reader_closed,
    },
    Kind {
        name: "slow-server",
        workers: 2,
        rest_ms: 50,
        least: 20,
        on: |_| true,
        listen: |way| way.listener(BACKLOG),
        play: slow_server,
    },
];

fn small_window(way: &super::Way) -> io::Result<Socket> {
    let listener = way.bound()?;
    listener.set_recv_buffer_size(SMALL)?;
    listener.listen(BACKLOG)?;
    Ok(listener)
}

/// Requests with pauses in between.
fn keep_alive(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    for _ in 0..20 {
        carry(&client, &server, 300)?;
        carry(&server, &client, 5000)?;
        worker.nap_between(20, 800);
    }
    drop(client);
    drain(&server).map(drop)
}

/// Nothing happens on it until the load ends; then it still works.
fn idle(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    if worker.once_in(2) {
        let second = Duration::from_secs(1);
        client.set_tcp_keepalive(&TcpKeepalive::new().with_time(second).with_interval(second))?;
    }
    while !worker.stops() {
        worker.nap(1000);
    }
    carry(&client, &server, 100)?;
    carry(&server, &client, 100)
}

/// Up and down at once.
fn transfer(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    let send = |mut from: &Socket| from.write_all(&vec![b'x'; LARGE]);
    let receive = |mut to: &Socket| to.read_exact(&mut vec![0; LARGE]);
    thread::scope(|scope| {
        let others =
            [scope.spawn(|| send(&client)), scope.spawn(|| send(&server)), scope.spawn(|| receive(&client))];
        receive(&server)?;
        others.into_iter().try_for_each(|other| other.join().map_err(|_| io::Error::other("a panic"))?)
    })
}

/// The sender waits again and again for a reader that rests.
fn slow_reader(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    thread::scope(|scope| {
        let sent = scope.spawn(|| (&client).write_all(&vec![b'x'; SIP * SIPS]));
        sip(worker, &server)?;
        sent.join().map_err(|_| io::Error::other("a panic"))?
    })
}

/// The same, but the sender has written everything and closed: its kernel does the rest.
fn slow_reader_closed(worker: &Worker<'_>) -> io::Result<()> {
    let client = worker.way.client()?;
    client.set_recv_buffer_size(SMALL)?;
    client.connect(&worker.address().into())?;
    let server = worker.accept()?;
    server.set_send_buffer_size(SIP * SIPS)?; // which the kernel doubles
    (&server).write_all(&vec![b'x'; SIP * SIPS])?;
    drop(server);
    sip(worker, &client)?;
    drain(&client).map(drop)
}

fn sip(worker: &Worker<'_>, mut reader: &Socket) -> io::Result<()> {
    for _ in 0..SIPS {
        worker.nap_between(1000, 3000);
        reader.read_exact(&mut vec![0; SIP])?;
    }
    Ok(())
}

/// A request whose answer takes seconds.
fn slow_server(worker: &Worker<'_>) -> io::Result<()> {
    let (client, server) = worker.connect()?;
    carry(&client, &server, 300)?;
    worker.nap_between(1000, 6000);
    carry(&server, &client, 3000)?;
    drop(client);
    drain(&server).map(drop)
}
