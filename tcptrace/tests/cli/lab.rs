//! The lab command.

use crate::run::*;
use crate::support::{self, patiently};
use crate::works::*;
use nix::sys::signal::Signal;
use tcptrace_lab::{Family, Lab, SCENARIOS, Side};

/// Flag, value, and how the run ends, for `lab handshake`.
pub fn lab_cases(btf: &str) -> Vec<(&'static str, &str, i32)> {
    vec![
        ("--family", "4", 0),
        ("--family", "6", 0),
        ("--format", "text", 0),
        ("--format", "json", 0),
        ("--color", "auto", 0),
        ("--color", "always", 0),
        ("--color", "never", 0),
        ("--hooks", "auto", 0),
        ("--hooks", "btf", 0),
        ("--hooks", "raw", 0),
        ("--hooks", "classic", 0),
        ("--retransmit-hook", "auto", 0),
        ("--retransmit-hook", "tracepoint", 0),
        ("--retransmit-hook", "kprobe", if has_kprobes() { 0 } else { 2 }),
        ("--ring-size", "5000", 0),
        ("--ring-size", "8MiB", 0),
        ("--resync", "off", 0),
        ("--max-flows", "1", 0),
        ("--max-flows", "100", 0),
        ("--btf", btf, 0),
        ("--no-sandbox", "", 0),
        ("--btf", "none", 2), // its namespaces cannot be told from others then
    ]
}

#[track_caller]
pub fn assert_as_expected(ran: &Ran) {
    for side in ["client", "server"] {
        let start = format!("tcptrace: {side}: ");
        let verdict = ran.err.iter().find(|line| line.starts_with(&start));
        assert!(verdict.is_some_and(|line| line.ends_with(": as expected")), "{ran:#?}");
    }
    assert!(!ran.stderr().contains("NOT as expected"), "{ran:#?}");
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn lab_takes_every_flag() {
    patiently(|| {
        for (flag, value, code) in lab_cases("/sys/kernel/btf/vmlinux") {
            let args = ["lab", "handshake", flag, value];
            // A switch has no value.
            let ran = run(&args[..args.len() - usize::from(value.is_empty())]).expect(code);
            if code == 0 {
                assert_as_expected(&ran);
                assert_eq!(ran.stdout().contains('\x1b'), value == "always", "{flag} {value}");
                let wanted = if value == "6" { "[fd00::9]:10000" } else { "10.0.0.9:10000" };
                assert!(value == "json" || ran.stdout().contains(wanted), "{flag} {value}: {ran:#?}");
            } else {
                assert!(
                    ran.out.is_empty()
                        && (ran.stderr().contains("cannot be used here")
                            || ran.stderr().contains("--btf none")),
                    "{ran:#?}"
                );
            }
        }
    });
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn every_scenario_plays_as_expected() {
    patiently(|| {
        for scenario in SCENARIOS {
            // All four at once: each has hosts of its own.
            let plays = ["4", "6"].map(|family| {
                let play = |format| {
                    Running::start(program(
                        &["lab", scenario.name],
                        &["--family", family, "--format", format],
                    ))
                };
                (family, play("text"), play("json"))
            });
            for (family, text, json) in plays {
                let name = scenario.name;
                let ran = text.end(None).expect(0);
                assert_as_expected(&ran);
                assert!(ran.out[0].starts_with("TIME ") && has_summary(&ran), "{name}: {ran:#?}");
                let remarks = ran.out.iter().filter(|line| line.starts_with("## ")).count();
                assert!(ran.out.contains(&format!("## {}", scenario.title)), "{name}: {ran:#?}");
                assert!(remarks > 1 && !entries(&ran).is_empty(), "{name}: {ran:#?}");

                let ran = json.end(None).expect(0);
                assert_as_expected(&ran);
                let lines = ran.json();
                assert_eq!(
                    (&lines[0]["type"], &lines.last().expect("one")["type"]),
                    (&"start".into(), &"summary".into())
                );
                let stage = lines.iter().find(|line| line["type"] == "stage").expect("one");
                assert_eq!(stage["text"], scenario.title);
                let flows = lines.iter().filter(|line| line["type"] == "transition");
                assert!(flows.clone().count() > 0, "{name}");
                assert!(
                    flows.clone().all(|line| line["family"].as_u64() == family.parse().ok()),
                    "{name}: {ran:#?}"
                );
            }
        }
    });
}

/// An interrupted scenario is an end, not a failure.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_scenario_can_be_interrupted() {
    for how in [Signal::SIGINT, Signal::SIGTERM] {
        let none: [&str; 0] = [];
        let mut running = Running::start(program(&["lab", "syn-drop"], &none));
        assert!(running.out.wait(|line| line.contains("SYN_SENT")), "{:#?}", running.err.lines);
        let ran = running.end(Some(how)).expect(0);
        assert!(has_summary(&ran), "{how}: {ran:#?}");
    }
}

/// It plays nothing, so it takes no time and no privileges.
#[test]
fn every_scenario_is_explained() {
    let unprivileged = Unprivileged::new();
    for scenario in SCENARIOS {
        let ran = unprivileged.run(&["lab", scenario.name, "--explain"]).expect(0);
        let text = ran.stdout();
        let first = format!("{}: ", scenario.name);
        assert!(ran.err.is_empty() && text.starts_with(&first), "{ran:#?}");
        // The diagram with its boxes, and what the scenario is called.
        for part in ["┃    CLOSE    ┃", "SYN-ACK in, ACK out", "What is often believed"] {
            assert!(text.contains(part), "{}: {part}: {ran:#?}", scenario.name);
        }
        for (_, finding) in scenario.findings {
            assert!(text.contains(finding), "{}: {finding}: {ran:#?}", scenario.name);
        }
        assert!(ran.out.iter().all(|line| line.chars().count() <= 100), "{ran:#?}");
    }
    let ran = run(&["lab", "no-such", "--explain"]).expect(2);
    assert!(ran.stderr().contains("there is no scenario"), "{ran:#?}");
}

/// The values of settings are those of the namespace that it is asked in.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn an_explanation_shows_the_values_here() {
    let lab = Lab::new(Family::V4).expect("a lab");
    lab.set_sysctl(Side::Server, "net.ipv4.tcp_fin_timeout", "17").expect("set");
    let explained = |side| {
        let output = lab.command(side, support::command(&["lab", "fin-wait2-orphan", "--explain"]));
        String::from_utf8(output.expect("it runs").stdout).expect("text")
    };
    assert!(explained(Side::Server).contains("seconds; default 60; here 17"), "{}", explained(Side::Server));
    assert!(explained(Side::Client).contains("seconds; default 60; here 60"), "{}", explained(Side::Client));
}
