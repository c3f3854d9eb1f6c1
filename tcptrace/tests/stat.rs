//! `tcptrace stat` against what `ss` counts and what the kernel does, in network namespaces of their own.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, listen, socket,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Error, Read},
    net::{Shutdown, SocketAddrV4, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    time::Instant,
};
use support::{PATIENCE, command, netns, text};
use tcptrace_common::state::TcpState;
use tcptrace_lab::{Family, Lab, Side};

/// One report.
fn stat(args: &[&str]) -> Value {
    let output = command(&[&["stat", "--format", "json"], args].concat()).output().expect("it runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {message}");
    assert!(message.is_empty(), "{args:?}: {message}");
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

/// Pairs of connected sockets on the loopback: client, server.
fn pairs(listener: &TcpListener, count: usize) -> Vec<(TcpStream, TcpStream)> {
    let address = listener.local_addr().expect("bound");
    let pair = || {
        let client = TcpStream::connect(address).expect("connected");
        (client, listener.accept().expect("accepted").0)
    };
    (0..count).map(|_| pair()).collect()
}

/// Waits for the FIN of the other side.
fn read_to_the_end(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
}

/// Sockets in many states, to be kept: three established pairs, two half closed, four in TIME_WAIT, one orphan in
/// FIN_WAIT2 whose other end is in CLOSE_WAIT.
fn many_states(lab: &Lab) -> impl Send {
    let kept = make_many_states(lab);
    let deadline = Instant::now() + PATIENCE;
    // The ACK of a FIN may be delayed.
    while ss(lab) != BTreeMap::from(MANY) {
        assert!(Instant::now() < deadline, "{:?}", ss(lab));
    }
    kept
}

/// What [`many_states`] makes.
const MANY: [(&str, u64); 5] =
    [("CLOSE_WAIT", 3), ("ESTABLISHED", 8), ("FIN_WAIT2", 3), ("LISTEN", 2), ("TIME_WAIT", 4)];

fn make_many_states(lab: &Lab) -> impl Send {
    let make = || {
        let listeners = ["127.0.0.1:10000", "[::]:10001"].map(|at| TcpListener::bind(at).expect("free"));
        let open = pairs(&listeners[0], 3);
        let half_closed = pairs(&listeners[0], 2);
        for (client, server) in &half_closed {
            client.shutdown(Shutdown::Write).expect("shut down");
            read_to_the_end(server);
        }
        let dual = TcpStream::connect("127.0.0.1:10001").expect("connected");
        let dual = (dual, listeners[1].accept().expect("accepted").0);
        for (client, server) in pairs(&listeners[0], 4) {
            drop(client);
            read_to_the_end(&server);
        }
        let mut orphaned = Vec::new();
        for (client, server) in pairs(&listeners[0], 1) {
            drop(client);
            read_to_the_end(&server);
            orphaned.push(server);
        }
        (listeners, open, half_closed, dual, orphaned)
    };
    lab.run_in(Side::Client, make).expect("runs")
}

/// How many sockets `ss` lists in each state.
fn ss(lab: &Lab) -> BTreeMap<&'static str, u64> {
    let mut command = Command::new("ss");
    command.args(["-H", "-tan"]);
    let output = lab.command(Side::Client, command).expect("ss runs");
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let word = line.split_whitespace().next().expect("a state");
        *counts.entry(TcpState::parse(word).expect("a state").name()).or_default() += 1;
    }
    counts
}

/// The states that are not 0.
fn states(of: &Value) -> BTreeMap<&str, u64> {
    let states = of["states"].as_object().expect("states");
    let counts = states.iter().map(|(name, count)| (name.as_str(), count.as_u64().expect("a count")));
    counts.filter(|(_, count)| *count > 0).collect()
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn every_state_is_counted_as_ss_does() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let kept = many_states(&lab);
    let (ours, theirs) = (stat(&["--netns", &here]), ss(&lab));
    assert_eq!(states(&ours), theirs, "{ours}");
    assert_eq!(ours["sockets"].as_u64(), Some(theirs.values().sum()), "{ours}");
    let fin_wait2 = &ours["fin_wait2"];
    assert_eq!((&fin_wait2["held"], &fin_wait2["minisockets"]), (&2.into(), &1.into()), "{ours}");
    let thread = lab.thread_id(Side::Client).to_string();
    let twice = stat(&["--netns", &here, "--netns", &thread]);
    assert_eq!(
        (&twice["counters"], &twice["limits"]),
        (&ours["counters"], &ours["limits"]),
        "one by two names"
    );
    let buckets = &ours["limits"]["timewait"][0];
    assert_eq!(buckets["used"], 5, "TIME_WAIT and the FIN_WAIT2 minisocket: {ours}");
    assert!(buckets["limit"].as_u64() > Some(0) && ours["limits"]["orphans"]["limit"].is_u64(), "{ours}");
    assert_eq!(
        (&ours["interval_ns"], &ours["counters"]["ActiveOpens"]),
        (&Value::Null, &11.into()),
        "{ours}"
    );

    let text = command(&["stat", "--netns", &here]).output().expect("it runs");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.starts_with("nothing unusual"), "{text}");
    for (state, count) in MANY {
        let row = text.lines().find(|line| line.starts_with(state)).expect("a row");
        assert_eq!(row.split_whitespace().nth(1), Some(count.to_string().as_str()), "{text}");
    }
    drop(kept);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn filters_and_groups_add_up() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let kept = many_states(&lab);
    let all = stat(&["--netns", &here]);
    for by in ["port", "process", "container", "netns", "peer"] {
        for top in ["1", "20"] {
            let grouped = stat(&["--netns", &here, "--by", by, "--top", top]);
            assert_eq!((&grouped["by"], &grouped["sockets"]), (&by.into(), &all["sockets"]), "{grouped}");
            let rows: Vec<_> = grouped["groups"].as_array().expect("groups").iter().collect();
            assert!(rows.len() <= top.parse().expect("a number"), "{grouped}");
            let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
            for row in rows.iter().copied().chain([&grouped["others"]]) {
                for (state, count) in states(row) {
                    *sums.entry(state).or_default() += count;
                }
            }
            assert_eq!(sums, states(&all), "{by}: {grouped}");
            let sizes: Vec<_> = rows.iter().map(|row| row["sockets"].as_u64()).collect();
            assert!(sizes.is_sorted_by(|one, two| one >= two), "{grouped}");
        }
    }
    let largest = |by: &str| stat(&["--netns", &here, "--by", by])["groups"][0]["key"].clone();
    // Both ends are in this namespace: of each connection one has the service's port as its own, the other as its peer's.
    let ports = stat(&["--netns", &here, "--by", "port"]);
    let keys: Vec<_> = ports["groups"].as_array().expect("groups").iter().map(|row| &row["key"]).collect();
    for (side, port) in [("local", 10000), ("remote", 10000), ("local", 10001), ("remote", 10001)] {
        assert!(keys.iter().any(|key| key["side"] == side && key["port"] == port), "{side} {port}: {ports}");
    }
    assert_eq!(keys.len(), 4, "{ports}");
    assert_eq!(largest("process")["pid"], std::process::id());
    assert_eq!(largest("netns")["netns"], lab.netns(Side::Client));
    assert_eq!(largest("peer")["addr"], "127.0.0.1");

    for (args, sockets) in [
        (&["--lport", "10000", "--state", "listen"] as &[_], 1),
        (&["--state", "time-wait,fin-wait-2"], 7),
        (&["--state", "syn-recv"], 0),
        (&["--port", "10001"], 3),
        (&["--family", "6"], 1),
        (&["--addr", "127.0.0.2"], 0),
        (&["--rport", "10001", "--family", "4"], 1),
    ] {
        let filtered = stat(&[&["--netns", &here], args].concat());
        assert_eq!(
            (&filtered["sockets"], &filtered["filtered"]),
            (&sockets.into(), &true.into()),
            "{args:?}"
        );
    }
    drop(kept);
}

/// Sockets that have begun to connect to a listener; not waited for.
fn begin_connecting(address: &SockaddrIn, count: usize) -> Vec<OwnedFd> {
    let begin = || {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket");
        let _ = connect(socket.as_raw_fd(), address); // EINPROGRESS
        socket
    };
    (0..count).map(|_| begin()).collect()
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_full_accept_queue_is_told_and_its_overflows_are_counted() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    let listen_without_accepting = || {
        let listener =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        let at: SocketAddrV4 = "127.0.0.1:10000".parse().expect("valid");
        bind(listener.as_raw_fd(), &SockaddrIn::from(at)).expect("bound");
        listen(&listener, Backlog::new(1).expect("valid")).expect("listening");
        let address: SockaddrIn = getsockname(listener.as_raw_fd()).expect("an address");
        (begin_connecting(&address, 4), listener, address)
    };
    let (waiting, listener, address) = lab.run_in(Side::Client, listen_without_accepting).expect("runs");
    // The kernel takes one more than the backlog.
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let seen = stat(&["--netns", &here]);
        if seen["accept_queues"]["full"] == 1 {
            break seen;
        }
        assert!(Instant::now() < deadline, "{seen}");
    };
    let queue = &seen["accept_queues"]["fullest"][0];
    assert_eq!((&queue["waiting"], &queue["limit"], &queue["full"]), (&2.into(), &1.into(), &true.into()));
    assert_eq!(queue["local"]["port"], 10000);
    assert_eq!(
        (&seen["not_accepted"], &seen["unusual"][0]["name"]),
        (&2.into(), &"accept-queue-full".into())
    );
    let page = command(&["stat", "--netns", &here]).output().expect("it runs");
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(
        page.starts_with("1 listener drops connections: accept queue full (127.0.0.1:10000 2/1)"),
        "{page}"
    );

    // By the second: SYNs that come now overflow it.
    let mut child = command(&["stat", "200ms", "--netns", &here, "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen = Vec::new();
    loop {
        let line: Value = serde_json::from_str(&lines.next().expect("a line").expect("read")).expect("JSON");
        assert!(line["interval_ns"].as_u64() > Some(0), "{line}");
        seen.push(line);
        let last = seen.last().expect("one");
        let overflows = last["counters"]["ListenOverflows"].as_u64();
        if overflows > Some(0) && last["traced"]["matrix"]["CLOSE"]["SYN_SENT"].as_u64() > Some(0) {
            break;
        }
        assert!(Instant::now() < deadline, "{}", text(&seen));
        drop(lab.run_in(Side::Client, move || begin_connecting(&address, 5)).expect("runs"));
    }
    support::signal(child.id(), nix::sys::signal::Signal::SIGINT);
    assert!(child.wait().expect("it ends").success());
    drop((waiting, listener));
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn rates_are_those_of_the_traffic() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = netns(lab.netns(Side::Client));
    // The first report is about a time without traffic; what is made after it is in those that follow.
    let mut child = command(&["stat", "200ms", "--netns", &here, "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next =
        || -> Value { serde_json::from_str(&lines.next().expect("a report").expect("read")).expect("JSON") };
    let first = next();
    assert_eq!((&first["counters"]["ActiveOpens"], &first["traced"]["transitions"]), (&0.into(), &0.into()));
    let traffic = || {
        let listener = TcpListener::bind("127.0.0.1:10000").expect("free");
        for (client, server) in pairs(&listener, 7) {
            drop(client);
            read_to_the_end(&server);
        }
    };
    lab.run_in(Side::Client, traffic).expect("runs");
    // In which report something is, is a matter of luck; how often, is not.
    let mut seen = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        seen.push(next());
        let sum =
            |of: &dyn Fn(&Value) -> &Value| seen.iter().filter_map(|line| of(line).as_u64()).sum::<u64>();
        let sums = [
            sum(&|line| &line["counters"]["ActiveOpens"]),
            sum(&|line| &line["counters"]["PassiveOpens"]),
            sum(&|line| &line["traced"]["matrix"]["CLOSE"]["SYN_SENT"]),
            sum(&|line| &line["traced"]["matrix"]["SYN_RECV"]["ESTABLISHED"]),
        ];
        let quiet = seen.last().is_some_and(|line| line["traced"]["transitions"] == 0);
        if sums == [7; 4] && quiet {
            break;
        }
        assert!(sums.iter().all(|sum| *sum <= 7) && Instant::now() < deadline, "{sums:?}\n{}", text(&seen));
    }
    support::signal(child.id(), nix::sys::signal::Signal::SIGTERM);
    assert!(child.wait().expect("it ends").success());
}

/// Stands for a namespace that nobody may look at and not enter.
const ELSEWHERE: &str = "elsewhere";

/// What needs no root is shown without, and what does is named.
#[test]
#[ignore = "needs root: makes network namespaces, and becomes nobody in one"]
fn nobody_sees_the_sockets_and_is_told_what_is_missing() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let kept = many_states(&lab);
    let as_nobody = |args: &[&str]| {
        // The program is where only root may look; an open file can be run all the same. Beside it another namespace.
        let program = File::open(env!("CARGO_BIN_EXE_tcptrace")).expect("there");
        let elsewhere = File::open(format!("/proc/{}/ns/net", lab.thread_id(Side::Server))).expect("there");
        let mut nobody = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        let elsewhere_path = format!("/proc/self/fd/{}", elsewhere.as_raw_fd());
        let args = args.iter().map(|arg| if *arg == ELSEWHERE { &elsewhere_path } else { *arg });
        nobody.args(args).uid(65534).gid(65534).stdin(Stdio::null());
        // SAFETY: fcntl is safe between fork and exec, and the descriptors are open: the closure owns the files.
        unsafe {
            nobody.pre_exec(move || {
                let keep = |file: &File| libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0);
                if keep(&program) == 0 && keep(&elsewhere) == 0 {
                    Ok(())
                } else {
                    Err(Error::last_os_error())
                }
            });
        }
        lab.command(Side::Client, nobody).expect("it runs")
    };
    let seen = as_nobody(&["stat", "--format", "json", "--by", "process"]);
    let message = String::from_utf8_lossy(&seen.stderr);
    assert_eq!((seen.status.code(), message.as_ref()), (Some(0), ""));
    let line: Value = serde_json::from_slice(&seen.stdout).expect("JSON");
    assert_eq!(states(&line), ss(&lab), "{line}");
    assert!(line["limits"]["orphans"]["limit"].is_null(), "only the first namespace shows it: {line}");
    let notes = line["notes"].to_string();
    for word in ["tcp_max_orphans", "CAP_SYS_ADMIN", "needs root: whose the sockets of"] {
        assert!(notes.contains(word), "{word}: {line}");
    }
    let page = String::from_utf8(as_nobody(&["stat"]).stdout).expect("text");
    assert!(page.starts_with("nothing unusual in what could be seen") && page.contains("note: "), "{page}");

    let ticks = as_nobody(&["stat", "50ms", "2", "--format", "json"]);
    assert_eq!(ticks.status.code(), Some(0));
    let ticks = String::from_utf8_lossy(&ticks.stdout);
    assert_eq!(ticks.lines().count(), 2, "as many as asked for: {ticks}");
    for line in ticks.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert!(line["counters"]["ActiveOpens"].is_u64() && line["traced"].is_null(), "{line}");
        assert!(line["not_traced"].as_str().is_some_and(|why| why.starts_with("needs root: ")), "{line}");
    }

    for (place, word) in
        [(lab.thread_id(Side::Server).to_string(), "needs root"), (ELSEWHERE.into(), "CAP_SYS_ADMIN")]
    {
        let refused = as_nobody(&["stat", "--netns", &place]);
        let message = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{message}");
        assert!(message.contains(word) && refused.stdout.is_empty(), "{message}");
    }
    drop(kept);
}
