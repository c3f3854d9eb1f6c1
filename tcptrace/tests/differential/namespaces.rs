//! Many namespaces with the same addresses and ports in all of them, and one tracer.

use crate::{
    compare::agree,
    road::Road,
    space::Space,
    support::{Tracer, of_type, text},
    traffic::QUIET,
};
use socket2::Socket;
use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
    time::Duration,
};
use tcptrace::source::netns::Namespace;

const SPACES: usize = 50;
/// Connections in each, and things that can be done to one.
const CONNECTIONS: usize = 8;

/// Client and server.
type Pair = [Option<Socket>; 2];

/// What a namespace has.
struct Inhabited {
    space: Space,
    _listener: Socket,
    pairs: Vec<Pair>,
}

impl Inhabited {
    /// The same ends in each, and what becomes of them another in each.
    fn new(number: usize) -> Self {
        let space = Space::new();
        let road = &Road::loopback(&space.namespace)[0];
        let listener = road.listener();
        listener.bind(&road.bind_listener(10_000).into()).expect("bound");
        listener.listen(64).expect("listens");
        let connect = |at: usize| {
            let client = road.client();
            client.bind(&road.bind_client(40_000 + at as u16).into()).expect("bound");
            let _ = client.connect(&road.dial(10_000).into()); // on loopback it is done when this returns
            let (server, from) = listener.accept().expect("accepted");
            assert_eq!(from.as_socket().map(|from| usize::from(from.port())), Some(40_000 + at));
            server.set_nonblocking(true).expect("set");
            [Some(client), Some(server)]
        };
        let mut pairs: Vec<_> = (0..CONNECTIONS).map(connect).collect();
        for (at, pair) in pairs.iter_mut().enumerate() {
            act(pair, number + at);
        }
        Self { space, _listener: listener, pairs }
    }
}

fn act([client, server]: &mut Pair, what: usize) {
    match what % CONNECTIONS {
        0 => {}
        1 => client.as_ref().into_iter().for_each(|client| drop(client.shutdown(Shutdown::Write))),
        2 => *client = None,
        3 => {
            *client = None;
            *server = None;
        }
        4 => *server = None,
        5 => {
            if let Some(client) = client.take() {
                client.set_linger(Some(Duration::ZERO)).expect("set");
            }
        }
        6 => {
            if let Some(mut server) = server.as_ref() {
                let _ = server.write(b"nobody reads this");
            }
            *client = None;
        }
        _ => {
            if let Some(mut server) = server.as_ref() {
                let _ = server.shutdown(Shutdown::Write);
                let _ = server.read(&mut [0; 64]);
            }
            *client = None;
        }
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn the_same_ends_in_fifty_namespaces_are_as_many_connections() {
    let older = SPACES / 2;
    let mut all: Vec<_> = (0..older).map(Inhabited::new).collect();
    let mut tracer = Tracer::start(&["--ring-size", "64MiB"]);
    tracer.wait_for("the first dump", |line| line["type"] == "resync");
    all.extend((older..SPACES).map(Inhabited::new));
    let check = |tracer: &mut Tracer, all: &[Inhabited]| {
        thread::sleep(QUIET);
        let namespaces: Vec<&Namespace> = all.iter().map(|it| &it.space.namespace).collect();
        agree(tracer, &namespaces)
    };
    let told = check(&mut tracer, &all);
    // The listener, and what is left of eight connections.
    let sockets = |it: &Inhabited| told.flows.get(&it.space.inode()).map_or(0, |flows| flows.len());
    assert!(all.iter().all(|it| sockets(it) > CONNECTIONS), "{:?}", told.flows);
    // From any state to any other.
    for step in 1..4 {
        for (number, it) in all.iter_mut().enumerate() {
            for (at, pair) in it.pairs.iter_mut().enumerate() {
                act(pair, number / CONNECTIONS + at * step + step);
            }
        }
        check(&mut tracer, &all);
    }
    all.truncate(older);
    check(&mut tracer, &all);

    let (lines, summary) = tracer.stop();
    assert_eq!(summary["lost"], summary["lost_by_kind"]["missed"], "{summary}");
    // A flow never changes its namespace.
    for it in &all {
        let inode = it.space.inode();
        let here: Vec<_> = lines.iter().filter(|line| line["netns"] == inode).cloned().collect();
        assert!(!of_type(&here, "sight").is_empty() || !of_type(&here, "transition").is_empty());
        let flows: std::collections::BTreeSet<_> =
            here.iter().filter_map(|line| line["flow"].as_str()).collect();
        let elsewhere = lines.iter().find(|line| {
            line["flow"].as_str().is_some_and(|flow| flows.contains(flow)) && line["netns"] != inode
        });
        assert!(elsewhere.is_none(), "{elsewhere:?}:\n{}", text(&here));
    }
}
