//! The lab itself: its hosts, its wire, and that nothing of it is left.
#![allow(clippy::expect_used, reason = "a test reports by panicking, its helpers too")]

use std::{
    fs,
    net::SocketAddr,
    panic::{self, AssertUnwindSafe},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tcptrace_lab::{Direction, Family, Fate, Lab, LabError, Side, find};

/// The tests here count threads and files of the whole process, so they run one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lab_threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("own tasks").flatten();
    let comm = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(comm).filter(|comm| ["lab-client", "lab-server", "lab-wire"].contains(&comm.trim())).count()
}

fn open_tuns() -> usize {
    let files = fs::read_dir("/proc/self/fd").expect("own files").flatten();
    files.filter(|file| fs::read_link(file.path()).is_ok_and(|to| to.ends_with("net/tun"))).count()
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn nothing_is_left_of_a_dropped_lab() {
    let _alone = alone();
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        assert_eq!((lab_threads(), open_tuns()), (3, 2));
        // A connection in full swing does not keep it from ending at once.
        let listener = lab.listen().expect("a listener");
        let client = lab.dial().expect("a client");
        let server = listener.accept().expect("a connection");
        client.send(b"unread").expect("sent");
        drop((listener, client, server));
        let before = Instant::now();
        drop(lab);
        assert!(before.elapsed() < Duration::from_secs(2), "took {:?}", before.elapsed());
        assert_eq!(open_tuns(), 0);
        // A joined thread is listed until the kernel has put it away.
        let deadline = Instant::now() + Duration::from_secs(5);
        while lab_threads() > 0 {
            assert!(Instant::now() < deadline, "{} threads left", lab_threads());
            thread::yield_now();
        }
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_hosts_are_elsewhere_and_named() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let own = fs::read_link("/proc/thread-self/ns/net").expect("own namespace");
    for (side, name) in [(Side::Client, "lab-client"), (Side::Server, "lab-server")] {
        let (namespace, comm, task) = lab
            .run_in(side, || {
                let read = |file| fs::read_to_string(format!("/proc/thread-self/{file}")).expect("readable");
                let task = read("stat").split(' ').next().map(str::to_owned);
                (fs::read_link("/proc/thread-self/ns/net").expect("its namespace"), read("comm"), task)
            })
            .expect("the host runs it");
        assert_ne!(namespace, own);
        assert_eq!(namespace.to_str(), Some(format!("net:[{}]", lab.netns(side)).as_str()));
        assert_eq!(comm.trim(), name);
        assert_eq!(task, Some(lab.thread_id(side).to_string()));
    }
    assert_ne!(lab.netns(Side::Client), lab.netns(Side::Server));
    assert_eq!(fs::read_link("/proc/thread-self/ns/net").ok(), Some(own), "the caller stays where it was");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn sysctls_are_set_in_one_host_only() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    lab.set_sysctl(Side::Server, "net.ipv4.tcp_fin_timeout", "5").expect("set");
    let value = |side| {
        let mut cat = Command::new("cat");
        cat.arg("/proc/sys/net/ipv4/tcp_fin_timeout");
        String::from_utf8(lab.command(side, cat).expect("cat runs").stdout).expect("a number")
    };
    // /proc/sys shows a process its own namespace, so this also shows where commands run.
    assert_eq!((value(Side::Client).trim(), value(Side::Server).trim()), ("60", "5"));
    let refused = lab.set_sysctl(Side::Server, "net.ipv4.no_such_thing", "1").expect_err("there is none");
    assert!(refused.to_string().contains("net.ipv4.no_such_thing"), "{refused}");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_rule_counts_and_can_be_removed() {
    let _alone = alone();
    let lab = Lab::new(Family::V6).expect("a lab");
    let wire = lab.wire();
    let first = wire.drop_first(1, Direction::ToServer, |segment| segment.syn);
    let listener = lab.listen().expect("a listener");
    let client = lab.dial().expect("a client");
    let server = listener.accept().expect("the second SYN gets through");
    assert_eq!(wire.look(|traffic| traffic.dropped(Direction::ToServer)), 1);
    wire.remove(first);
    wire.remove(first);

    let all = wire.drop_when(Direction::ToClient, |_| true);
    server.send(b"lost").expect("sent");
    let lost = |traffic: &tcptrace_lab::Traffic| {
        traffic.count(Direction::ToClient, Fate::Dropped, |it| it.payload == 4)
    };
    wire.wait_until("the data to be lost", Duration::from_secs(5), |traffic| lost(traffic) >= 1)
        .expect("lost");
    wire.remove(all);
    assert_eq!(client.receive(4).expect("sent again"), b"lost");

    let never = wire.wait_until("a miracle", Duration::from_millis(1), |_| false);
    assert!(matches!(never, Err(LabError::Timeout { .. })), "{never:?}");
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_packet_that_no_host_has_sent_is_carried() {
    let _alone = alone();
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        let wire = lab.wire();
        let _listener = lab.listen().expect("a listener");
        // The client's own address, which knows of no such attempt: its kernel answers the SYN-ACK with a RST.
        let source = SocketAddr::new(lab.address(Side::Client), 20_000);
        wire.hold();
        wire.inject_syn(Direction::ToServer, source, lab.server_address(), 7).expect("carried");
        assert_eq!(wire.look(|traffic| traffic.held().len()), 1, "it is held as any other");
        assert_eq!(lab.states(Side::Server).expect("the table"), [""; 0]);
        wire.step().expect("passed on");
        assert_eq!(lab.states(Side::Server).expect("the table"), ["SYN_RECV"]);
        wire.release().expect("passed on");
        wire.wait_until("a RST", Duration::from_secs(5), |traffic| {
            traffic.count(Direction::ToServer, Fate::Forwarded, |segment| segment.rst) > 0
        })
        .expect("the client refuses");
        assert_eq!(lab.states(Side::Server).expect("the table"), [""; 0]);

        let refused = wire.inject(Direction::ToServer, vec![0x45; 39]).expect_err("no segment");
        assert!(matches!(refused, LabError::NoSegment), "{refused}");
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_panic_in_a_host_is_the_callers() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let in_host = AssertUnwindSafe(|| lab.run_in(Side::Client, || panic!("on purpose")));
    assert!(panic::catch_unwind(in_host).is_err());
    assert_eq!(lab.run_in(Side::Client, || 7).expect("the host is still there"), 7);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn a_used_lab_is_refused() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let refused = find("refused").expect("listed");
    refused.run(&lab, &mut |_| ()).expect("the first run");
    assert!(matches!(refused.run(&lab, &mut |_| ()), Err(LabError::Used)));
}
