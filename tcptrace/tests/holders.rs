//! Who holds which socket: the iterator and /proc beside each other, beside /proc read plainly, and beside `ss`.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use hashbrown::HashSet;
use std::{
    fs,
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio, id},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};
use support::command;
use tcptrace::{
    enrich::Places,
    source::holders::{HolderSource, Holders, Way},
};
use tcptrace_lab::{Family, Lab, Side};

/// One test at a time: a process that another one starts holds all our descriptors for a moment, between fork and exec.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listener and both ends of some connections through it, all of this process, and their inodes.
struct Sockets {
    listener: TcpListener,
    streams: Vec<TcpStream>,
    inodes: HashSet<u32>,
}

impl Sockets {
    fn new(connections: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut streams = Vec::new();
        for _ in 0..connections {
            streams.push(TcpStream::connect(address).expect("connected"));
            streams.push(listener.accept().expect("accepted").0);
        }
        let inodes = streams.iter().map(inode).chain([inode(&listener)]).collect();
        Self { listener, streams, inodes }
    }

    /// Made in the lab's client namespace.
    fn in_lab(lab: &Lab, connections: usize) -> Self {
        lab.run_in(Side::Client, move || Self::new(connections)).expect("runs")
    }
}

/// As the kernel itself says it.
fn inode(socket: &impl AsRawFd) -> u32 {
    let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("an open descriptor");
    let link = link.to_str().expect("text").to_owned();
    link.trim_start_matches("socket:[").trim_end_matches(']').parse().expect("an inode")
}

fn number(socket: &impl AsRawFd) -> u32 {
    socket.as_raw_fd().try_into().expect("not negative")
}

/// A process that holds this socket as its descriptor 0, until it is killed.
struct Keeper(Child);

impl Keeper {
    fn of(socket: impl Into<OwnedFd>) -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("60").stdin(Stdio::from(socket.into())).spawn().expect("`sleep` runs"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The iterator; the machine these tests run on must have it.
fn by_iterator() -> HolderSource {
    let source = HolderSource::new();
    assert_eq!(source.way(), Way::Iterator, "{:?}", source.refused());
    source
}

fn by_proc() -> HolderSource {
    HolderSource::without_iterator("asked not to")
}

/// Inode, pid, descriptor, number of holders: sorted, so that they compare.
fn plain(holders: &Holders) -> Vec<(u32, u32, u32, u32)> {
    let all = holders.by_inode.iter();
    let mut all: Vec<_> =
        all.map(|(inode, holder)| (*inode, holder.process.pid, holder.fd, holder.processes)).collect();
    all.sort_unstable();
    all
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn both_ways_agree_with_each_other_and_with_proc() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let sockets = Sockets::in_lab(&lab, 100);
    let _keepers: Vec<_> = sockets.streams[..20]
        .iter()
        .map(|stream| Keeper::of(stream.try_clone().expect("a descriptor")))
        .collect();
    let kernel = by_iterator().read(Some(&sockets.inodes));
    let proc = by_proc().read(Some(&sockets.inodes));
    assert_eq!((kernel.way, proc.way, kernel.unread, proc.unread), (Way::Iterator, Way::Proc, 0, 0));
    assert_eq!(kernel.by_inode.len(), sockets.inodes.len(), "every socket, and no other");
    assert_eq!(plain(&kernel), plain(&proc));
    for (inode, holder) in &kernel.by_inode {
        assert_eq!(holder.process, proc.get(*inode).expect("the same").process, "uid, cgroup and comm, too");
    }

    let me = &kernel.get(inode(&sockets.listener)).expect("held").process;
    let comm = fs::read_to_string("/proc/self/comm").expect("readable");
    assert_eq!((me.pid, me.uid, &*me.comm), (id(), 0, comm.trim_end()));
    for stream in &sockets.streams {
        let holder = kernel.get(inode(stream)).expect("held");
        assert_eq!((holder.process.pid, holder.fd), (id(), number(stream)));
    }
    assert!(Places::new().find(me).is_some(), "and where it is: {me:?}");
}

/// `ss -tanp` as (inode, comm, pid, descriptor).
fn ss(lab: &Lab) -> Vec<(u32, String, u32, u32)> {
    let mut command = Command::new("ss");
    command.args(["-tanpeH"]);
    let output = lab.command(Side::Client, command).expect("`ss` runs (package iproute2)");
    let text = String::from_utf8(output.stdout).expect("text");
    let between = |text: &str, from: &str, to: &str| -> Option<String> {
        text.split_once(from)?.1.split_once(to).map(|(found, _)| found.to_owned())
    };
    let mut found = Vec::new();
    for line in text.lines() {
        let Some(inode) = between(line, " ino:", " ").and_then(|inode| inode.parse().ok()) else { continue };
        // users:(("sleep",pid=7,fd=0),("sleep",pid=8,fd=0))
        for user in line.split("(\"").skip(1) {
            let comm = user.split('"').next().expect("a name").to_owned();
            let pid = between(user, "pid=", ",").and_then(|pid| pid.parse().ok()).expect("a pid");
            let fd = between(user, "fd=", ")").and_then(|fd| fd.parse().ok()).expect("a descriptor");
            found.push((inode, comm, pid, fd));
        }
    }
    found
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn the_holders_are_those_of_ss() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let sockets = Sockets::in_lab(&lab, 5);
    let _keepers: Vec<_> =
        (0..3).map(|_| Keeper::of(sockets.listener.try_clone().expect("a descriptor"))).collect();
    let shown = ss(&lab);
    let holders = by_iterator().read(Some(&sockets.inodes));
    for inode in &sockets.inodes {
        let of_it: Vec<_> = shown.iter().filter(|(shown, ..)| shown == inode).collect();
        let lowest = of_it.iter().min_by_key(|(_, _, pid, fd)| (*pid, *fd)).expect("ss shows it");
        let pids: HashSet<u32> = of_it.iter().map(|(_, _, pid, _)| *pid).collect();
        let holder = holders.get(*inode).expect("held");
        let found = (*inode, holder.process.comm.to_string(), holder.process.pid, holder.fd);
        assert_eq!(found, **lowest);
        assert_eq!(holder.processes as usize, pids.len());
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_shared_socket_counts_its_processes() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    for mut source in [by_iterator(), by_proc()] {
        let Sockets { listener, mut streams, inodes } = Sockets::in_lab(&lab, 1);
        let shared = inode(&streams[0]);
        // A second descriptor of one process makes no second holder.
        let twice = streams[0].try_clone().expect("a descriptor");
        let keeper = Keeper::of(streams[0].try_clone().expect("a descriptor"));
        let child = keeper.0.id();
        let mut holder = |what: &str| {
            let holders = source.read(Some(&inodes));
            holders.get(shared).map(|holder| {
                println!("{what}: {holder:?}");
                (holder.process.pid, holder.fd, holder.processes)
            })
        };
        let first = number(&streams[0]).min(number(&twice));
        let both = [(id(), first, 2), (child, 0, 2)];
        let lower = if id() < child { both[0] } else { both[1] };
        assert_eq!(holder("both"), Some(lower));
        drop((streams.remove(0), twice));
        assert_eq!(holder("the child alone"), Some((child, 0, 1)));
        drop(keeper);
        assert_eq!(holder("nobody"), None);
        drop((listener, streams));
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn the_iterator_leaves_out_what_is_surely_not_tcp() {
    let _alone = alone();
    let lab = Lab::new(Family::V6).expect("a lab");
    let sockets = Sockets::in_lab(&lab, 1);
    let udp = UdpSocket::bind(("127.0.0.1", 0)).expect("a free port");
    let (unix, _peer) = UnixStream::pair().expect("a pair");
    let (kernel, proc) = (by_iterator().read(None), by_proc().read(None));
    for other in [inode(&udp), inode(&unix)] {
        assert!(proc.get(other).is_some());
        assert!(kernel.get(other).is_none());
    }
    assert!(sockets.inodes.iter().all(|inode| kernel.get(*inode).is_some()));
    assert!(kernel.get(0).is_none() && proc.get(0).is_none());
}

/// Processes come and go while we look: nobody minds, and what stays is found each time.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn processes_that_end_are_no_error() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let sockets = Sockets::in_lab(&lab, 10);
    let socket = sockets.streams[0].try_clone().expect("a descriptor");
    let busy = thread::spawn(move || {
        for _ in 0..300 {
            let socket = OwnedFd::from(socket.try_clone().expect("a descriptor"));
            let run = Command::new("true").stdin(Stdio::from(socket)).status().expect("`true` runs");
            assert!(run.success());
        }
    });
    let (mut kernel, mut proc) = (by_iterator(), by_proc());
    let mut rounds = 0;
    while !busy.is_finished() || rounds == 0 {
        for source in [&mut kernel, &mut proc] {
            let holders = source.read(Some(&sockets.inodes));
            assert_eq!((holders.by_inode.len(), holders.unread), (sockets.inodes.len(), 0));
        }
        rounds += 1;
    }
    busy.join().expect("it went well");
    assert_eq!(kernel.refused(), None, "after {rounds} rounds");
}

/// A thread without privileges: the kernel refuses the iterator, /proc shows what it may.
#[test]
#[ignore = "needs root: gives its privileges up in one thread"]
fn without_privileges_proc_is_read() {
    let _alone = alone();
    let sockets = Sockets::new(1);
    let wanted = sockets.inodes.clone();
    let unprivileged = thread::spawn(move || {
        const NOBODY: libc::uid_t = 65534;
        // SAFETY: plain numbers. Not through the C library, which would change all threads of the process.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(changed, 0, "{}", std::io::Error::last_os_error());
        let mut source = HolderSource::new();
        let refused = source.refused().map(str::to_owned);
        (refused, source.read(Some(&wanted)))
    });
    let (refused, holders) = unprivileged.join().expect("it runs");
    let refused = refused.expect("a reason");
    assert!(!refused.is_empty() && !refused.contains('\n'), "{refused:?}");
    assert_eq!(holders.way, Way::Proc);
    assert!(holders.unread > 0, "the first process of all is not ours");
    assert_eq!(holders.by_inode.len(), sockets.inodes.len(), "our own process is");
}

#[test]
#[ignore = "needs root: loads BPF programs"]
fn doctor_says_how_holders_are_found() {
    let _alone = alone();
    let output = command(&["doctor", "--format", "json"]).output().expect("it runs");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = value["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == "socket holders").expect("the line");
    assert_eq!(check["status"], "ok", "{check}");
    assert!(check["value"].as_str().is_some_and(|value| value.contains("iterator")), "{check}");
}
