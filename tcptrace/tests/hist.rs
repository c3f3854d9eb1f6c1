//! `hist` beside the kernel's own counters, `watch`, and the clock.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{PATIENCE, Tracer, command, connections, netns, signal};
use tcptrace_lab::{Direction, Family, Fate, Lab, Segment, Side};

/// A running `tcptrace hist --format json`.
struct Hist {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Hist {
    /// Starts it, and waits until everything is attached.
    fn start(args: &[&str]) -> Self {
        let mut command = command(&["hist", "--format", "json"]);
        let child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("readable");
        assert!(first.contains(r#""type":"start""#), "{first}");
        Self { child, lines }
    }

    /// Its lines `hist`, once it ends.
    fn wait(&mut self) -> Vec<Value> {
        let lines =
            self.lines.by_ref().map(|line| serde_json::from_str(&line.expect("readable")).expect("JSON"));
        let lines: Vec<Value> = lines.filter(|line: &Value| line["type"] == "hist").collect();
        assert!(self.child.wait().expect("it ends").success());
        assert!(!lines.is_empty());
        lines
    }

    fn stop(&mut self) -> Vec<Value> {
        signal(self.child.id(), nix::sys::signal::Signal::SIGINT);
        self.wait()
    }
}

impl Drop for Hist {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state<'a>(line: &'a Value, name: &str) -> &'a Value {
    let states = line["states"].as_array().expect("states");
    states.iter().find(|state| state["state"] == name).unwrap_or(&Value::Null)
}

fn pair<'a>(line: &'a Value, from: &str, to: &str) -> &'a Value {
    let pairs = line["pairs"].as_array().expect("pairs");
    pairs.iter().find(|pair| pair["from"] == from && pair["to"] == to).unwrap_or(&Value::Null)
}

/// All numbers of a matrix, by pair.
fn cells(matrix: &Value) -> Vec<(String, u64)> {
    let rows = matrix.as_object().expect("an object").iter();
    let mut cells: Vec<_> = rows
        .flat_map(|(old, row)| {
            let row = row.as_object().expect("an object").iter();
            row.map(move |(new, count)| (format!("{old} -> {new}"), count.as_u64().expect("a count")))
        })
        .collect();
    cells.sort();
    cells
}

/// The same of several lines together.
fn sum(lines: &[Value], field: &str) -> Vec<(String, u64)> {
    let mut sum = std::collections::BTreeMap::new();
    for (pair, count) in lines.iter().flat_map(|line| cells(&line[field])) {
        *sum.entry(pair).or_default() += count;
    }
    sum.into_iter().collect()
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn the_matrix_is_the_kernels_and_groups_add_up_to_it() {
    const COUNT: u64 = 500;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let args = ["--netns", &space, "--ring-size", "64MiB"];
    let by = ["port", "process", "container", "peer", "netns", "role"];
    let tracer = Tracer::start(&args);
    let running = by.map(|by| Hist::start(&[&args as &[_], &["--by", by, "--top", "3"]].concat()));
    let open = connections(&lab, COUNT, 2, 3);
    let (_, summary) = tracer.stop();
    assert_eq!(summary["lost"], 0, "{summary}");
    for (by, mut running) in by.into_iter().zip(running) {
        let lines = running.stop();
        let all = &lines[0];
        assert_eq!(
            (&all["group"], &all["counted_by"], &all["lost"]),
            (&"all".into(), &"kernel".into(), &0.into())
        );
        assert_eq!(cells(&all["matrix"]), cells(&summary["matrix"]), "{by}");
        assert_eq!(pair(all, "SYN_SENT", "ESTABLISHED")["transitions"], COUNT + 3, "{by}");
        assert_eq!(sum(&lines[1..], "matrix"), cells(&all["matrix"]), "{by}");
        assert_eq!(sum(&lines[1..], "inferred"), cells(&all["inferred"]), "{by}");
        assert!(lines.len() <= 3 + 2, "{by}: all, three groups, the others");
        // Those that were closed have a time; those that are open are no part of it.
        for (name, left, open) in [
            ("SYN_SENT", COUNT + 3, 0),
            ("ESTABLISHED", 2 * COUNT, 6),
            ("LAST_ACK", COUNT, 0),
            ("TIME_WAIT", 0, COUNT),
        ] {
            let state = state(all, name);
            assert_eq!(
                (&state["count"], &state["open"]["count"]),
                (&left.into(), &open.into()),
                "{by}: {state}"
            );
            let buckets = state["buckets"].as_array().expect("buckets");
            let counted: u64 = buckets.iter().filter_map(|bucket| bucket[1].as_u64()).sum();
            assert_eq!(counted, left, "{state}");
        }
        assert_eq!(pair(all, "FIN_WAIT2", "TIME_WAIT")["count"], COUNT, "FIN_WAIT2 leads there");
        assert_eq!(pair(all, "FIN_WAIT2", "CLOSE")["count"], 0, "though its socket closes");
        let expected = match by {
            "port" => json!({ "side": "remote", "port": 10_000 }),
            "peer" => json!({ "addr": "127.0.0.1" }),
            "role" => json!({ "role": "passive" }),
            "netns" => json!({ "netns": lab.netns(Side::Client) }),
            _ => lines[1]["key"].clone(), // whose it is, the tests of owners say
        };
        assert!(lines[1..].iter().any(|line| line["key"] == expected), "{by}: {lines:#?}");
    }
    drop(open);
}

/// Stopped, it drains nothing, and a page holds little: the kernel counts all the same.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn what_is_lost_is_counted_and_said() {
    const COUNT: u64 = 2_000;
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let mut hist = Hist::start(&["--netns", &space, "--ring-size", "4096", "--by", "role"]);
    signal(hist.child.id(), nix::sys::signal::Signal::SIGSTOP);
    let open = connections(&lab, COUNT, 2, 3);
    signal(hist.child.id(), nix::sys::signal::Signal::SIGCONT);
    let lines = hist.stop();
    let all = &lines[0];
    assert!(all["lost"].as_u64() > Some(0), "the page took everything");
    assert_eq!(pair(all, "SYN_SENT", "ESTABLISHED")["transitions"], COUNT + 3);
    let of_groups: u64 = lines[1..].iter().filter_map(|line| line["transitions"].as_u64()).sum();
    let lost = all["lost_by_kind"]["transition"].as_u64().expect("a count");
    assert_eq!(of_groups + lost, all["transitions"].as_u64().expect("a count"));
    drop(open);
}

/// Seconds of a state's only time.
fn only(state: &Value, name: &str) -> f64 {
    assert_eq!(
        (&state["count"], &state["at_least"], &state["unknown"]),
        (&1.into(), &0.into(), &0.into()),
        "{name}: {state}"
    );
    state["max_ns"].as_u64().expect("a time") as f64 / 1e9
}

/// A half-open connection raises no event: the child's tells what the kernel measured, a repeated SYN-ACK when the first was
/// sent.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn handshakes_have_their_true_times() {
    const HELD: Duration = Duration::from_millis(150);
    let syn_ack = |segment: &Segment| segment.syn && segment.ack;
    for (family, repeated) in
        [(Family::V4, false), (Family::V6, false), (Family::V4, true), (Family::V6, true)]
    {
        let lab = Lab::new(family).expect("a lab");
        let mut hist = Hist::start(&["--netns", &netns(lab.netns(Side::Server))]);
        let (listener, wire) = (lab.listen().expect("a listener"), lab.wire());
        if repeated {
            wire.drop_first(1, Direction::ToClient, syn_ack);
        }
        wire.hold();
        let began = Instant::now();
        let client = lab.dial().expect("a client");
        let syn = |segment: &Segment| segment.syn;
        wire.wait_until("a SYN", PATIENCE, |seen| seen.count_held(Direction::ToServer, syn) > 0)
            .expect("sent");
        wire.step().expect("passed on");
        wire.wait_until("a SYN-ACK", PATIENCE, |seen| {
            let dropped = seen.count(Direction::ToClient, Fate::Dropped, syn_ack);
            dropped + seen.count_held(Direction::ToClient, syn_ack) > 0
        })
        .expect("sent");
        let first = Instant::now();
        thread::sleep(HELD); // what is measured
        wire.wait_until("one to pass", PATIENCE, |seen| seen.count_held(Direction::ToClient, syn_ack) > 0)
            .expect("sent");
        let at_least = first.elapsed().as_secs_f64();
        wire.release().expect("passed on");
        client.connected(PATIENCE).expect("connected");
        drop(listener.accept().expect("accepted"));
        let at_most = began.elapsed().as_secs_f64();
        let lines = hist.stop();
        let time = only(pair(&lines[0], "SYN_RECV", "ESTABLISHED"), "the handshake");
        assert!((at_least..at_most).contains(&time), "{family:?} {repeated}: {at_least} {time} {at_most}");
        assert_eq!(repeated, at_least > 0.9);
    }
}

/// With SYN cookies the kernel keeps nothing of a half-open connection.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn handshakes_by_cookie_are_at_least_as_long_as_was_seen() {
    let lab = Lab::new(Family::V4).expect("a lab");
    lab.set_sysctl(Side::Server, "net.ipv4.tcp_syncookies", "2").expect("a sysctl");
    let mut hist = Hist::start(&["--netns", &netns(lab.netns(Side::Server))]);
    let listener = lab.listen().expect("a listener");
    lab.dial().expect("a client").connected(PATIENCE).expect("connected");
    drop(listener.accept().expect("accepted"));
    let lines = hist.stop();
    let time = pair(&lines[0], "SYN_RECV", "ESTABLISHED");
    assert_eq!((&time["count"], &time["at_least"]), (&0.into(), &1.into()), "{time}");
}

/// A minute and a bit: TIME_WAIT lasts that long whatever one configures.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn minisockets_have_their_true_times() {
    const HELD: Duration = Duration::from_millis(300);
    let lab = Lab::new(Family::V4).expect("a lab");
    lab.set_sysctl(Side::Client, "net.ipv4.tcp_fin_timeout", "1").expect("a sysctl");
    let space = netns(lab.netns(Side::Client));
    let mut hist = Hist::start(&["--netns", &space, "--duration", "66s"]);
    let mut tracer = Tracer::start(&["--netns", &space]);
    let listener = lab.listen().expect("a listener");
    let open = || {
        let client = lab.dial().expect("a client");
        client.connected(PATIENCE).expect("connected");
        (client, listener.accept().expect("accepted"))
    };
    // The first waits for the peer's FIN with its program and then without; the second in vain.
    let (client, server) = open();
    client.shutdown_write().expect("shut down");
    tracer.wait_for("FIN_WAIT2", |line| line["new"] == "FIN_WAIT2");
    thread::sleep(HELD);
    client.close().expect("closed");
    tracer.wait_for("its minisocket", |line| line["continues_as"] == "FIN_WAIT2");
    server.close().expect("closed");
    tracer.wait_for("TIME_WAIT", |line| line["new"] == "TIME_WAIT");
    let (client, server) = open();
    client.close().expect("closed");
    tracer.wait_for("its end", |line| {
        line["old"] == "FIN_WAIT2" && line["new"] == "CLOSE" && line["inferred"] == true
    });
    drop(tracer);
    let lines = hist.wait();
    let all = &lines[0];
    let to_time_wait = only(pair(all, "FIN_WAIT2", "TIME_WAIT"), "both parts");
    assert!((HELD.as_secs_f64()..3.0).contains(&to_time_wait), "{to_time_wait}");
    let in_vain = only(pair(all, "FIN_WAIT2", "CLOSE"), "tcp_fin_timeout");
    assert!((0.99..2.5).contains(&in_vain), "{in_vain}");
    let time_wait = only(state(all, "TIME_WAIT"), "TIME_WAIT");
    assert!((59.9..62.7).contains(&time_wait), "{time_wait}");
    assert_eq!(state(all, "FIN_WAIT2")["count"], 2, "{all}");
    // The listener is on the other host: what came in is not traced here.
    assert_eq!(state(all, "LISTEN"), &Value::Null);
    drop(server);
}
