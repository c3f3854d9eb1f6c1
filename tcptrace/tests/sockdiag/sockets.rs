//! What is listed, what is found, and when it was so.

use crate::{
    all, alone, diag, list,
    population::{on_loopback, over_the_wire, tcp},
    ss::{line, ss},
    until,
};
use socket2::{Domain, Socket, Type};
use std::{
    collections::{BTreeSet, HashSet},
    net::{SocketAddr, TcpListener},
    time::Duration,
};
use tcptrace::{
    event::TcpState,
    sight::{Kind, Sight, Taken, TimerKind},
    source::{
        live::boot_time_ns,
        sockdiag::{Detail, Family as SocketFamily, Query, SockDiag, States},
    },
};
use tcptrace_lab::{Family, Lab, Side};

/// The object that must hold this state, as we made it.
fn expected_kind(sight: &Sight) -> Kind {
    match (sight.state, sight.ends.rport) {
        (TcpState::NewSynRecv, 40002) => Kind::Request,
        (TcpState::TimeWait, _) => Kind::Minisocket,
        // Of those on loopback the ones without a descriptor.
        (TcpState::FinWait2, 20000..=20002) if sight.inode == 0 => Kind::Minisocket,
        _ => Kind::Full,
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn every_state_is_seen_as_ss_sees_it() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let held = (lab.run_in(Side::Client, on_loopback).expect("runs"), over_the_wire(&lab));
    let mut states = HashSet::new();
    for side in Side::ALL {
        let mut diag = diag(&lab, side);
        let full = list(&mut diag, all(Detail::Full));
        let plain = list(&mut diag, all(Detail::Plain));
        let lines: BTreeSet<_> = full.iter().map(line).collect();
        assert_eq!(lines, ss(&lab, side), "{side}");
        assert_eq!(lines.len(), full.len(), "each once");
        assert_eq!(lines, plain.iter().map(line).collect());
        for sight in &full {
            assert_eq!(sight.kind, expected_kind(sight), "{sight:?}");
            let full = sight.kind == Kind::Full;
            assert_eq!(sight.netns, lab.netns(side));
            assert_eq!(sight.memory.is_some() && sight.shutdown.is_some(), full, "{sight:?}");
            assert_eq!(sight.info.is_some(), full && sight.state != TcpState::Listen, "{sight:?}");
            states.insert((sight.state, sight.kind));
            let plain = plain.iter().find(|plain| plain.cookie == sight.cookie).expect("there");
            assert_eq!(
                (plain.kind, plain.shutdown, plain.cgroup),
                (sight.kind, sight.shutdown, sight.cgroup)
            );
            assert_eq!((plain.info, plain.memory), (None, None));
            // A look-up shows the same, but for what moves.
            for found in [diag.look(&sight.ends, sight.cookie), diag.search(&sight.ends, sight.cookie)] {
                let found = found.expect("an answer").unwrap_or_else(|| panic!("not found: {sight:?}"));
                assert_eq!((line(&found), found.kind, found.inode), (line(sight), sight.kind, sight.inode));
            }
            let other = diag.look(&sight.ends, sight.cookie + (1 << 32)).expect("an answer");
            assert_eq!(other, None, "another cookie is another socket");
        }
        // One family at a time, and one state at a time, come to the same.
        let by = |queries: Vec<Query>, diag: &mut SockDiag| -> BTreeSet<_> {
            queries.into_iter().flat_map(|query| list(diag, query)).map(|sight| line(&sight)).collect()
        };
        let family = |family| Query { family: Some(family), ..all(Detail::Plain) };
        assert_eq!(by(vec![family(SocketFamily::Inet), family(SocketFamily::Inet6)], &mut diag), lines);
        let mut each = 0;
        for state in TcpState::ALL {
            let sights = list(&mut diag, Query::of(States::of([state]), Detail::Plain));
            assert!(sights.iter().all(|sight| sight.state == state), "{state:?}: {sights:?}");
            each += sights.len();
        }
        assert_eq!(each, lines.len());
    }
    use TcpState as S;
    let all = TcpState::ALL.into_iter().filter(|state| *state != S::Close && *state != S::NewSynRecv);
    let kind = |state| if state == S::TimeWait { Kind::Minisocket } else { Kind::Full };
    let mut expected: HashSet<_> = all.map(|state| (state, kind(state))).collect();
    expected.extend([(S::FinWait2, Kind::Minisocket), (S::NewSynRecv, Kind::Request)]);
    assert_eq!(states, expected);
    drop(held);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn what_is_gone_is_not_found() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    lab.set_sysctl(Side::Client, "net.ipv4.tcp_fin_timeout", "1").expect("set");
    let mut diag = diag(&lab, Side::Client);
    let (listeners, streams) = lab.run_in(Side::Client, on_loopback).expect("runs");
    let before = list(&mut diag, all(Detail::Full));
    let waiting: Vec<_> = before.iter().filter(|sight| sight.kind == Kind::Minisocket).collect();
    assert!(waiting.iter().all(|sight| sight.timer.is_some_and(|timer| timer.kind == TimerKind::TimeWait)));
    let fin_wait2: Vec<_> = waiting.iter().filter(|sight| sight.state == TcpState::FinWait2).collect();
    for sight in fin_wait2 {
        let mut gone = || diag.look(&sight.ends, sight.cookie).expect("an answer").is_none();
        until("the end of FIN_WAIT2", &mut gone);
    }
    // Closed with RST, nothing is left of a connection; and nothing of a listener in any case.
    for stream in &streams {
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("set");
    }
    drop((listeners, streams));
    for sight in before.iter().filter(|sight| sight.kind == Kind::Full) {
        assert_eq!(diag.look(&sight.ends, sight.cookie).expect("an answer"), None, "{sight:?}");
        assert_eq!(diag.search(&sight.ends, sight.cookie).expect("an answer"), None, "{sight:?}");
    }
    let after: BTreeSet<_> = list(&mut diag, all(Detail::Plain)).iter().map(line).collect();
    let left = before.iter().filter(|sight| sight.state == TcpState::TimeWait).map(line);
    assert_eq!(after, left.collect());
}

/// Several sockets that a look-up by ends alone cannot tell apart, or does not find.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn hard_cases_are_found() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let make = || {
        let listen = |device: Option<&[u8]>| {
            let socket = tcp(None);
            socket.set_reuse_port(true).expect("set");
            socket.bind_device(device).expect("bound");
            socket.bind(&"127.0.0.1:20000".parse::<SocketAddr>().expect("valid").into()).expect("bound");
            socket.listen(16).expect("listens");
            socket
        };
        let group: Vec<_> = (0..8).map(|_| listen(None)).collect();
        let bound = listen(Some(b"lo"));
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.bind_device(Some(b"lo")).expect("bound");
        client.connect(&"127.0.0.1:20000".parse::<SocketAddr>().expect("valid").into()).expect("connected");
        (group, bound, client)
    };
    let held = lab.run_in(Side::Client, make).expect("runs");
    let seen = list(&mut diag(&lab, Side::Client), all(Detail::Plain));
    assert_eq!(seen.len(), 11, "{seen:?}");
    for sight in &seen {
        let mut diag = diag(&lab, Side::Client);
        let found = diag.search(&sight.ends, sight.cookie).expect("an answer").expect("found");
        assert_eq!(line(&found), line(sight));
        // The search has told it of the interface.
        let found = diag.look(&sight.ends, sight.cookie).expect("an answer").expect("found");
        assert_eq!(line(&found), line(sight));
    }
    drop(held);
}

/// The kernel fills a datagram during the receive before; and a dump that is left half-way is forgotten.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_batch_was_taken_when_it_says() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let make = || (0..1000).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect::<Vec<_>>();
    let mut listeners = lab.run_in(Side::Client, make).expect("runs");
    let mut diag = diag(&lab, Side::Client);
    let mut dump = diag.dump(all(Detail::Plain)).expect("a dump");
    let (mut order, mut windows): (Vec<Vec<Sight>>, Vec<Taken>) = Default::default();
    loop {
        let mut batch = Vec::new();
        let Some(taken) = dump.next_batch(&mut batch).expect("a batch") else { break };
        order.push(batch);
        windows.push(taken);
    }
    assert!(order.len() >= 3, "{} batches", order.len());
    assert!(windows.iter().all(|window| window.from_ns <= window.to_ns));
    assert!(
        windows.is_sorted_by_key(|window| window.from_ns) && windows.is_sorted_by_key(|window| window.to_ns)
    );

    let mut dump = diag.dump(all(Detail::Plain)).expect("a dump");
    let mut batches = vec![Vec::new(); 3];
    dump.next_batch(&mut batches[0]).expect("a batch");
    // The second datagram is filled by now, the third is not.
    let victims = [1, 2].map(|at| order[at][order[at].len() / 2]);
    for victim in victims {
        let is_it = |listener: &TcpListener| listener.local_addr().expect("bound") == victim.ends.local();
        drop(listeners.remove(listeners.iter().position(is_it).expect("ours")));
    }
    let closed_ns = boot_time_ns();
    let windows = [1, 2].map(|at| dump.next_batch(&mut batches[at]).expect("a batch").expect("not the end"));
    let shown = |at: usize| batches[at].iter().any(|sight| sight.cookie == victims[at - 1].cookie);
    assert!(shown(1) && windows[0].to_ns <= closed_ns, "{windows:?}, closed at {closed_ns}");
    assert!(!shown(2) && windows[1].from_ns >= closed_ns, "{windows:?}, closed at {closed_ns}");

    // The dump is not at its end. Whatever is asked next is answered all the same.
    let alive = batches[0][0];
    assert!(diag.look(&alive.ends, alive.cookie).expect("an answer").is_some());
    let _ = diag.dump(all(Detail::Full)).expect("a dump").next_batch(&mut Vec::new());
    assert_eq!(list(&mut diag, all(Detail::Plain)).len(), 998);
}
