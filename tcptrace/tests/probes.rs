//! What function probes tell, on kernels that have them. Others refuse them; then nothing may claim to come from one.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use serde_json::Value;
use support::{PATIENCE, Tracer, flow_of, netns, of_type, path, patiently, text};
use tcptrace_lab::{Direction, Family, Lab, Side, find};

const PROBES: [&str; 5] = [
    "inet_twsk_kill()",
    "__inet_twsk_schedule()",
    "__inet_csk_reqsk_queue_drop()",
    "inet_csk_reqsk_queue_hash_add()",
    "inet_csk_accept()",
];

fn tracer(lab: &Lab, more: &[&str]) -> Tracer {
    let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
    Tracer::start(&[&["--netns", &spaces[0], "--netns", &spaces[1]], more].concat())
}

/// A lab and its tracer; `None`: this kernel lacks one of the probes.
fn probed() -> Option<(Lab, Tracer)> {
    let lab = Lab::new(Family::V4).expect("a lab");
    let tracer = tracer(&lab, &[]);
    let missing: Vec<_> =
        PROBES.iter().filter(|probe| tracer.lines[0]["hooks"][probe].is_null()).copied().collect();
    if !missing.is_empty() {
        println!("skipped: no probe of {} here", missing.join(", "));
        return None;
    }
    Some((lab, tracer))
}

fn inferred(lines: &[Value]) -> Vec<&Value> {
    of_type(lines, "transition").into_iter().filter(|line| line["inferred"] == true).collect()
}

fn by_probe(line: &Value, old: &str, new: &str) -> bool {
    line["known"] == "probe" && line["old"] == old && line["new"] == new
}

/// With probes every line that no event tells comes from one; without them none does. The events are the same.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn probes_add_to_what_events_tell() {
    patiently(|| {
        for name in ["close-client-first", "close-server-first", "half-close", "simultaneous-close"] {
            for family in Family::ALL {
                let lab = Lab::new(family).expect("a lab");
                let spaces = Side::ALL.map(|side| lab.netns(side));
                let mut with = tracer(&lab, &[]);
                let without = tracer(&lab, &["--hooks", "raw"]);
                let all = PROBES.iter().all(|probe| !with.lines[0]["hooks"][probe].is_null());
                assert!(PROBES.iter().all(|probe| without.lines[0]["hooks"].get(probe).is_none()));
                find(name).expect("listed").run(&lab, &mut |_| {}).expect("it plays");
                drop(lab);
                if all {
                    // The namespace goes, and its TIME_WAIT with it.
                    with.wait_for("the end of TIME_WAIT", |line| by_probe(line, "TIME_WAIT", "CLOSE"));
                }
                let ((with, end), (without, other_end)) = (with.stop(), without.stop());
                assert_eq!((&end["lost"], &other_end["lost"]), (&Value::from(0), &Value::from(0)));
                for (space, role) in [(spaces[0], "active"), (spaces[1], "passive")] {
                    let flow = |lines: &[Value]| flow_of(lines, space, role).expect("a flow");
                    assert_eq!(path(&with, &flow(&with)), path(&without, &flow(&without)), "{name}");
                }
                assert!(inferred(&without).iter().all(|line| line["known"] != "probe"), "{}", text(&without));
                let probed = inferred(&with).iter().filter(|line| line["known"] == "probe").count();
                if all {
                    assert_eq!(probed, inferred(&with).len(), "{name}:\n{}", text(&with));
                    assert!(probed >= 3, "{name}: SYN, TIME_WAIT, its end\n{}", text(&with));
                } else if PROBES.iter().all(|probe| with[0]["hooks"][probe].is_null()) {
                    assert_eq!(probed, 0, "{name}:\n{}", text(&with));
                }
            }
        }
    });
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn an_orphan_ends_by_its_timer_or_by_an_rst_and_both_are_told() {
    let Some((lab, mut tracer)) = probed() else { return };
    lab.set_sysctl(Side::Client, "net.ipv4.tcp_fin_timeout", "1").expect("a sysctl");
    let listener = lab.listen().expect("a listener");
    for resets in [false, true] {
        let client = lab.dial().expect("a client");
        client.connected(PATIENCE).expect("connected");
        let server = listener.accept().expect("accepted");
        if resets {
            lab.set_sysctl(Side::Client, "net.ipv4.tcp_fin_timeout", "60").expect("a sysctl");
        }
        let before = tracer.lines.len();
        client.close().expect("closed");
        let began =
            |lines: &[Value]| lines.iter().skip(before).find(|l| l["continues_as"] == "FIN_WAIT2").cloned();
        let close = tracer.wait_until("the minisocket", began);
        let server = if resets {
            drop(server);
            None
        } else {
            Some(server)
        };
        let ends = |line: &Value| by_probe(line, "FIN_WAIT2", "CLOSE") && line["flow"] == close["flow"];
        let end = tracer.wait_for("the minisocket's end", ends);
        let lasted_ns = end["in_state_ns"].as_u64().expect("known");
        assert_eq!((lasted_ns >= 900_000_000, &end["exact"]), (!resets, &Value::from(true)), "{end}");
        drop(server);
    }
    let (lines, summary) = tracer.stop();
    assert_eq!((&summary["lost"], &summary["minisockets"]), (&Value::from(0), &Value::from(0)));
    assert!(inferred(&lines).iter().all(|line| line["known"] == "probe"), "{}", text(&lines));
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_half_open_request_is_told_from_its_syn_to_its_end() {
    let Some((lab, mut tracer)) = probed() else { return };
    lab.set_sysctl(Side::Server, "net.ipv4.tcp_synack_retries", "1").expect("a sysctl");
    let _listener = lab.listen().expect("a listener");
    lab.wire().drop_when(Direction::ToServer, |segment| !segment.syn && !segment.rst);
    for resets in [false, true] {
        let before = tracer.lines.len();
        let client = lab.dial().expect("a client");
        client.connected(PATIENCE).expect("connected");
        let begins = |line: &&Value| by_probe(line, "LISTEN", "SYN_RECV");
        let begin = tracer.wait_until("the request", |lines| lines.iter().skip(before).find(begins).cloned());
        assert_eq!((&begin["role"], &begin["netns"]), (&"passive".into(), &lab.netns(Side::Server).into()));
        let client = if resets {
            drop(client);
            None
        } else {
            Some(client)
        };
        let ends = |line: &Value| by_probe(line, "SYN_RECV", "CLOSE") && line["flow"] == begin["flow"];
        let end = tracer.wait_for("the request's end", ends);
        let lasted_ns = end["in_state_ns"].as_u64().expect("known");
        assert_eq!((lasted_ns >= 2_500_000_000, &end["exact"]), (!resets, &Value::from(true)), "{end}");
        let closed = |line: &Value| line["type"] == "close" && line["flow"] == begin["flow"];
        assert_eq!(tracer.wait_for("the close", closed)["cause"], "half-open-gone");
        drop(client);
    }
    let (_, summary) = tracer.stop();
    assert_eq!((&summary["lost"], &summary["vanished"]), (&Value::from(0), &Value::from(0)));
}

/// The request's flow becomes the connection's, and whoever accepts it its owner.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn who_accepts_is_the_owner() {
    let Some((lab, mut tracer)) = probed() else { return };
    let listener = lab.listen().expect("a listener");
    let client = lab.dial().expect("a client");
    client.connected(PATIENCE).expect("connected");
    let server = listener.accept().expect("accepted");
    client.shutdown_write().expect("shut down");
    let fin = tracer.wait_for("the FIN", |line| line["new"] == "CLOSE_WAIT");
    assert_eq!(fin["owner"]["source"], "accept", "{fin}");
    assert_eq!(
        (&fin["owner"]["pid"], &fin["owner"]["comm"]),
        (&std::process::id().into(), &"lab-server".into())
    );
    drop((client, server, listener));
    let (lines, summary) = tracer.stop();
    let flow = fin["flow"].clone();
    let mine = |line: &&Value| line["flow"] == flow && line["type"] == "transition";
    let told: Vec<_> =
        lines.iter().filter(mine).map(|l| (&l["old"], &l["known"], &l["owner"]["source"])).collect();
    let [syn, child, established, ..] = told.as_slice() else { panic!("{}", text(&lines)) };
    let value = |text: &str| Value::from(text);
    assert_eq!(*syn, (&value("LISTEN"), &value("probe"), &value("listener")));
    assert_eq!((child.0, child.1), (&value("LISTEN"), &value("event")));
    assert_eq!((established.0, established.1), (&value("SYN_RECV"), &value("event")));
    assert_eq!(summary["lost"], 0);
}
