//! Every lab scenario through the program, on the real kernel, beside `ss`.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;
#[path = "lab/ways.rs"]
mod ways;

use serde_json::Value;
use std::{process::Command, thread};
use support::{Tracer, flow_of, netns, of_type, path, patiently, state_now, text};
use tcptrace_lab::{Direction, Expected, Family, Lab, SCENARIOS, Scenario, Side, Stage, find};

/// What `ss -tan` shows of the connection at one side, in netstat's names; where there are many, of the first, which is
/// the one that the wire has carried a segment of first.
fn ss(lab: &Lab, side: Side) -> Option<String> {
    let port = lab.wire().look(|traffic| {
        let decided = traffic.sightings().map(|seen| (seen.direction, seen.segment.source_port));
        let held = traffic.held().map(|(direction, segment)| (direction, segment.source_port));
        decided.chain(held).find(|(direction, _)| *direction == Direction::ToServer).map(|(_, port)| port)
    })?;
    let mut command = Command::new("ss");
    command.args(["-tanH"]);
    let output = lab.command(side, command).expect("`ss` runs (package iproute2)");
    let text = String::from_utf8(output.stdout).expect("text");
    let end = format!(":{port}");
    // State, two queues, then the local and the remote end.
    let shown = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let connection: Vec<_> =
        shown.filter(|fields| fields[3..5].iter().any(|it| it.ends_with(&end))).collect();
    assert!(connection.len() <= 1, "more than one connection: {text}");
    connection.first().map(|fields| {
        match fields[0] {
            "ESTAB" => "ESTABLISHED",
            "SYN-SENT" => "SYN_SENT",
            "SYN-RECV" => "SYN_RECV",
            "FIN-WAIT-1" => "FIN_WAIT1",
            "FIN-WAIT-2" => "FIN_WAIT2",
            "TIME-WAIT" => "TIME_WAIT",
            "CLOSE-WAIT" => "CLOSE_WAIT",
            "LAST-ACK" => "LAST_ACK",
            other => other,
        }
        .to_owned()
    })
}

/// Tracer and `ss` agree. A half-open request shows no earlier than at its first repeated SYN-ACK, or in a dump.
fn agree(traced: Option<&str>, shown: Option<&str>) -> bool {
    traced == shown || (traced, shown) == (None, Some("SYN_RECV"))
}

fn role(side: Side) -> &'static str {
    match side {
        Side::Client => "active",
        Side::Server => "passive",
    }
}

/// What `ss` shows of either side at a stage, which the tracer has to show as well.
fn shown_at(lab: &Lab, scenario: &Scenario, stage: &Stage) -> [(Side, Option<String>, String); 2] {
    Side::ALL.map(|side| {
        let shown = ss(lab, side);
        let what = format!("{}: {side} in {shown:?} as ss shows at {:?}", scenario.name, stage.text);
        (side, shown, what)
    })
}

fn traced(lines: &[Value], space: u32, side: Side) -> Option<String> {
    flow_of(lines, space, role(side)).and_then(|flow| state_now(lines, &flow))
}

fn play(scenario: &Scenario, family: Family) {
    let lab = Lab::new(family).expect("a lab");
    let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
    let mut tracer = Tracer::start(&["--netns", &spaces[0], "--netns", &spaces[1]]);
    let mut stages = 0;
    scenario
        .run(&lab, &mut |stage| {
            stages += 1;
            for (side, shown, what) in shown_at(&lab, scenario, stage) {
                tracer.wait_until(&what, |lines| {
                    let traced = traced(lines, lab.netns(side), side);
                    agree(traced.as_deref(), shown.as_deref()).then_some(())
                });
            }
        })
        .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    assert!(stages > 0, "{}: no stage", scenario.name);
    let (lines, summary) = tracer.stop();
    assert_eq!(summary["lost"], 0);
    check_both(scenario, &lines, &lab);
}

fn check_both(scenario: &Scenario, lines: &[Value], lab: &Lab) {
    check(scenario, &scenario.client, lines, lab.netns(Side::Client), Side::Client);
    check(scenario, &scenario.server, lines, lab.netns(Side::Server), Side::Server);
}

fn check(scenario: &Scenario, expected: &Expected, lines: &[Value], space: u32, side: Side) {
    let name = scenario.name;
    let flow = flow_of(lines, space, role(side));
    let seen = flow.as_ref().map(|flow| path(lines, flow)).unwrap_or_default();
    assert_eq!(seen, expected.path, "{name}: {side}\n{}", text(lines));

    let here: Vec<_> = lines.iter().filter(|line| line["netns"] == space).cloned().collect();
    let resets = of_type(&here, "reset");
    let sent = resets.iter().filter(|line| line["direction"] == "sent").count();
    // Before Linux 6.10 no tracepoint shows an RST that has no socket.
    let socketless_unseen = lines[0]["kernel"].as_str().and_then(version) < Some((6, 10));
    let resets = expected.resets - if socketless_unseen { expected.socketless_resets } else { 0 };
    assert_eq!(sent, resets as usize, "{name}: RST sent by the {side}\n{}", text(&here));

    let retransmits = of_type(&here, "retransmit");
    let of = |segment: &str| retransmits.iter().filter(|line| line["segment"] == segment).count() as u32;
    for (segment, least) in [
        ("syn", expected.retransmits.syn),
        ("syn-ack", expected.retransmits.syn_ack),
        ("data", expected.retransmits.data),
        ("fin", expected.retransmits.fin),
    ] {
        assert!(
            of(segment) >= least,
            "{name}: {side} repeated {} {segment}, not {least}\n{}",
            of(segment),
            text(&here)
        );
    }
    if let Some(flow) = flow {
        let closes: Vec<_> =
            of_type(lines, "close").into_iter().filter(|line| line["flow"] == flow).collect();
        assert_eq!(closes.len(), 1, "{name}: {side} closes once");
        assert_ne!(closes[0]["cause"], "unknown", "{name}: {side}\n{}", closes[0]);
        // Of a listener older than the trace the process is known, not the thread.
        assert_eq!(closes[0]["owner"]["pid"], std::process::id(), "{name}: {side}");
    }
}

macro_rules! scenarios {
    ($($test:ident: $name:literal;)*) => {
        $(
            #[test]
            #[ignore = "needs root: loads BPF programs and makes network namespaces"]
            fn $test() {
                let scenario = find($name).expect("listed");
                match ways::asked() {
                    Some(all) => ways::play(scenario, &all),
                    None => Family::ALL.iter().for_each(|family| patiently(|| play(scenario, *family))),
                }
            }
        )*

        #[test]
        fn every_scenario_has_a_test() {
            let tested = [$($name),*];
            let missing: Vec<_> = SCENARIOS.iter().map(|s| s.name).filter(|name| !tested.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

scenarios! {
    handshake: "handshake";
    refused: "refused";
    syn_drop: "syn-drop";
    synack_drop: "synack-drop";
    close_client_first: "close-client-first";
    close_server_first: "close-server-first";
    half_close: "half-close";
    simultaneous_close: "simultaneous-close";
    close_wait_leak: "close-wait-leak";
    fin_wait2_orphan: "fin-wait2-orphan";
    fin_wait1_drop: "fin-wait1-drop";
    fin_wait1_zero_window: "fin-wait1-zero-window";
    syn_flood: "syn-flood";
    backlog_full: "backlog-full";
    time_wait_burst: "time-wait-burst";
    rst_unread: "rst-unread";
    rst_linger: "rst-linger";
    keepalive_timeout: "keepalive-timeout";
    user_timeout: "user-timeout";
    lossy: "lossy";
}

fn cause(lines: &[Value], space: u32, role: &str) -> String {
    let flow = flow_of(lines, space, role).expect("a flow");
    let close = lines.iter().find(|line| line["type"] == "close" && line["flow"] == flow).expect("a close");
    close["cause"].as_str().expect("a cause").to_owned()
}

/// The causes that the scenarios are about, by name.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn causes_are_the_right_ones() {
    const CAUSES: [(&str, &str, Option<&str>); 10] = [
        ("refused", "refused", None),
        ("syn-drop", "timeout", None),
        ("rst-unread", "reset-received", Some("unread-data")),
        ("rst-linger", "aborted", Some("reset-received")),
        ("simultaneous-close", "orderly", Some("orderly")),
        ("half-close", "orderly", Some("orderly")),
        ("close-client-first", "fin-wait2-minisocket", Some("orderly")),
        ("fin-wait2-orphan", "fin-wait2-minisocket", Some("reset-received")),
        ("keepalive-timeout", "keepalive-timeout", Some("reset-received")),
        ("user-timeout", "timeout", Some("reset-received")),
    ];
    let right = |name: &str, client: &str, server: Option<&str>| {
        let lab = Lab::new(Family::V4).expect("a lab");
        let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
        let tracer = Tracer::start(&["--netns", &spaces[0], "--netns", &spaces[1]]);
        find(name).expect("listed").run(&lab, &mut |_| {}).expect("it plays");
        let (lines, _) = tracer.stop();
        assert_eq!(cause(&lines, lab.netns(Side::Client), "active"), client, "{name}: client");
        if let Some(server) = server {
            assert_eq!(cause(&lines, lab.netns(Side::Server), "passive"), server, "{name}: server");
        }
    };
    // All at once: some scenarios take as long as the kernel's timers.
    thread::scope(|scope| {
        for (name, client, server) in CAUSES {
            scope.spawn(move || patiently(|| right(name, client, server)));
        }
    });
}

/// What a line says, apart from identity and time, which differ from tracer to tracer. Not the cause: where the program
/// is woken before the event (seen on 5.10) it may clear the error between two tracers' looks at it.
fn story(lines: &[Value]) -> Vec<String> {
    const TOLD: [&str; 21] = [
        "type",
        "netns",
        "family",
        "local",
        "remote",
        "role",
        "old",
        "new",
        "exact",
        "inferred",
        "state",
        "segment",
        "reason",
        "segments",
        "flags",
        "seq",
        "end_seq",
        "direction",
        "socket",
        "continues_as",
        "bytes_sent",
    ];
    // Half-open requests have no events but repeated SYN-ACKs: only a dump tells that one is the passive end, and since
    // when at least. Whether it met one is a matter of moments.
    let by_chance = |line: &Value, key: &str| match key {
        "role" => line["segment"] == "syn-ack",
        "exact" => line["old"] == "SYN_RECV",
        _ => false,
    };
    let told = |line: &Value| -> String {
        let keys = TOLD.iter().filter(|key| !by_chance(line, key));
        keys.map(|key| format!("{key}={} ", line[*key])).collect()
    };
    // What was asked, and when, is each tracer's own affair.
    let event = |line: &&Value| {
        !matches!(line["type"].as_str(), Some("start" | "resync" | "sight")) && line["inferred"] != true
    };
    let mut story: Vec<_> = lines.iter().filter(event).map(told).collect();
    // Closes are told a few milliseconds late: between two flows their order is not part of the story.
    story.sort();
    story
}

/// The causes of the closes, in the order of their ends; a tracer that missed the evidence says so.
fn causes(lines: &[Value]) -> Vec<(String, Option<String>)> {
    let cause = |line: &&Value| line["cause"].as_str().filter(|cause| *cause != "unknown").map(str::to_owned);
    let mut causes: Vec<_> = of_type(lines, "close")
        .iter()
        .map(|line| (format!("{}{}", line["role"], line["local"]), cause(line)))
        .collect();
    causes.sort();
    causes
}

/// The three ways of attaching tell the same story of the same packets.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn all_ways_tell_the_same_story() {
    for scenario in SCENARIOS {
        // Both at once: some scenarios take as long as the kernel's timers.
        thread::scope(|scope| {
            for family in Family::ALL {
                scope.spawn(move || patiently(|| all_ways(scenario, family)));
            }
        });
    }
}

fn all_ways(scenario: &Scenario, family: Family) {
    let lab = Lab::new(family).expect("a lab");
    let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
    let ways = ["btf", "raw", "classic"];
    let tracers =
        ways.map(|way| Tracer::start(&["--hooks", way, "--netns", &spaces[0], "--netns", &spaces[1]]));
    scenario.run(&lab, &mut |_| {}).expect("it plays");
    let stories = tracers.map(|tracer| {
        let (lines, summary) = tracer.stop();
        assert_eq!(summary["lost"], 0);
        (story(&lines), causes(&lines))
    });
    assert!(!stories[0].0.is_empty());
    for (way, (told, causes)) in ways.iter().zip(&stories) {
        assert_eq!(told, &stories[0].0, "{} told by {way} and by btf", scenario.name);
        for ((flow, one), (_, other)) in causes.iter().zip(&stories[0].1) {
            let agree = one == other || one.is_none() || other.is_none();
            assert!(agree, "{}: {flow} ended by {one:?}, {other:?}", scenario.name);
        }
    }
}

/// Where the kernel's type information cannot be found the classic records alone still show every state of both ends.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn without_type_information_the_states_are_still_right() {
    patiently(|| {
        let scenario = find("close-client-first").expect("listed");
        for family in Family::ALL {
            let lab = Lab::new(family).expect("a lab");
            // No namespace filter: without BTF the namespace is unknown. The addresses are the lab's own.
            let address = lab.address(Side::Client).to_string();
            let tracer = Tracer::start_untyped(&["--addr", &address, "--port", "10000"]);
            scenario.run(&lab, &mut |_| {}).expect("it plays");
            let (lines, _) = tracer.stop();
            check_untyped(scenario, &lines);
        }
    });
}

fn check_untyped(scenario: &Scenario, all: &[Value]) {
    // A dump tells of the same connections by their cookies, which no event has.
    let lines: Vec<_> = all.iter().filter(|line| line["flow_id"] != "cookie").cloned().collect();
    let lines = lines.as_slice();
    assert_eq!(lines[0]["hooks"]["inet_sock_set_state"], "classic");
    for (role, expected) in [("active", scenario.client.path), ("passive", scenario.server.path)] {
        let mine = |line: &&Value| line["type"] == "transition" && line["role"] == role;
        let flow = lines.iter().find(mine).map(|line| line["flow"].clone());
        let seen = flow.as_ref().map(|flow| path(lines, flow)).unwrap_or_default();
        assert_eq!(seen, expected, "{}: {role}\n{}", scenario.name, text(lines));
        if let Some(flow) = flow {
            let closes = of_type(lines, "close").into_iter().filter(|line| line["flow"] == flow).count();
            assert_eq!(closes, 1, "{}: {role} closes once", scenario.name);
        }
    }
    let events = lines.iter().filter(|line| line["type"] == "transition" || line["type"] == "close");
    assert!(events.into_iter().all(|line| line["netns"].is_null()), "{}", text(lines));
}

/// A segment that finds no way out is told with its error: by the tracepoint from Linux 6.17 on, before that by the
/// function probe.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_segment_that_cannot_leave_is_told() {
    patiently(|| {
        let lab = Lab::new(Family::V4).expect("a lab");
        let mut tracer = Tracer::start(&["--netns", &netns(lab.netns(Side::Client))]);
        let tracepoint_tells =
            tracer.lines[0]["kernel"].as_str().and_then(version).is_some_and(|v| v >= (6, 17));
        if !tracepoint_tells && tracer.lines[0]["hooks"]["tcp_retransmit_skb()"].is_null() {
            println!(
                "skipped: before Linux 6.17 only kprobes tell of failed sends, and this kernel has none"
            );
            return;
        }
        let listener = lab.listen().expect("a listener");
        let client = lab.dial().expect("a client");
        client.connected(support::PATIENCE).expect("connected");
        let server = listener.accept().expect("accepted");
        lab.wire().drop_when(Direction::ToServer, |_| true);
        client.send(b"lost").expect("sent");
        let mut flush = Command::new("ip");
        flush.args(["route", "flush", "table", "main"]);
        assert!(lab.command(Side::Client, flush).expect("`ip` runs (package iproute2)").status.success());
        let failed = tracer
            .wait_for("a failed retransmission", |line| line["err"].as_i64().is_some_and(|err| err < 0));
        assert_eq!(failed["err"], -113, "EHOSTUNREACH: {failed}");
        assert_eq!(failed["segment"], "data");
        drop((client, server, listener));
        let (_, summary) = tracer.stop();
        assert!(summary["failed_sends"].as_u64() > Some(0), "{summary}");
    });
}

/// `6.18.44-fc` is (6, 18).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}
