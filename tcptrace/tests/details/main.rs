//! What the iterator over TCP sockets says, beside what the sockets were told, sock_diag, `ss`, and the wire.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod options;
mod queues;
mod refusal;
mod stalls;

use hashbrown::HashMap;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tcptrace::{
    sight::Sight,
    source::{
        details::{DetailSource, SocketDetail, Wanted},
        netns::Namespace,
        sockdiag::{Detail, Query, SockDiag, States},
    },
};
use tcptrace_lab::{Lab, Side};

const PATIENCE: Duration = Duration::from_secs(20);
const MS: u64 = 1_000_000;

/// One at a time: a child that another test starts holds all our descriptors until its exec, and nothing is closed.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it is there.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

fn namespace(lab: &Lab, side: Side) -> Namespace {
    lab.run_in(side, Namespace::own).expect("the host runs it").expect("its namespace")
}

/// The machine these tests run on must have the iterator.
fn source(wanted: Wanted) -> DetailSource {
    let source = DetailSource::of(wanted);
    assert_eq!(source.refused(), None);
    source
}

fn read(source: &mut DetailSource, lab: &Lab, side: Side) -> HashMap<u64, SocketDetail> {
    let details = source.read(&namespace(lab, side)).expect("details");
    assert!(details.iter().all(|(cookie, detail)| {
        *cookie == detail.cookie && *cookie != 0 && detail.netns == lab.netns(side)
    }));
    details
}

/// What sock_diag lists, by cookie.
fn sights(lab: &Lab, side: Side) -> HashMap<u64, Sight> {
    let mut diag = SockDiag::open(&namespace(lab, side)).expect("sock_diag");
    let mut dump = diag.dump(Query::of(States::ALL, Detail::Full)).expect("a dump");
    let mut sights = Vec::new();
    while dump.next_batch(&mut sights).expect("a batch").is_some() {}
    sights.into_iter().map(|sight| (sight.cookie, sight)).collect()
}

/// A socket of that host. Asking for its cookie makes it.
fn tcp(lab: &Lab, side: Side, prepare: impl FnOnce(&Socket) + Send + 'static) -> (Socket, u64) {
    let domain = Domain::for_address(SocketAddr::new(lab.address(side), 0));
    let make = move || {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_nonblocking(true).expect("set");
        prepare(&socket);
        let cookie = socket.cookie().expect("a cookie");
        (socket, cookie)
    };
    lab.run_in(side, make).expect("runs")
}

/// A listener at the server's address.
fn listen(lab: &Lab, backlog: i32, prepare: impl FnOnce(&Socket) + Send + 'static) -> (Socket, u64) {
    let address = lab.server_address();
    tcp(lab, Side::Server, move |socket| {
        prepare(socket);
        socket.set_reuse_address(true).expect("set");
        socket.bind(&address.into()).expect("bound");
        socket.listen(backlog).expect("listens");
    })
}

/// Begins to connect from this port; 0: any.
fn dial(lab: &Lab, port: u16, prepare: impl FnOnce(&Socket) + Send + 'static) -> (Socket, u64) {
    let (here, there) = (SocketAddr::new(lab.address(Side::Client), port), lab.server_address());
    tcp(lab, Side::Client, move |socket| {
        prepare(socket);
        socket.bind(&here.into()).expect("bound");
        let error = socket.connect(&there.into()).expect_err("under way");
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
    })
}

/// Both ends of an established connection, the client's first, and the listener.
fn pair(lab: &Lab) -> [(Socket, u64); 3] {
    pair_with(lab, |_| {})
}

/// The same; the server's end inherits what is set on the listener.
fn pair_with(lab: &Lab, prepare: impl FnOnce(&Socket) + Send + 'static) -> [(Socket, u64); 3] {
    let listener = listen(lab, 16, prepare);
    let client = dial(lab, 0, |_| {});
    let server = until("the connection", || listener.0.accept().ok()).0;
    let cookie = server.cookie().expect("a cookie");
    [client, (server, cookie), listener]
}
