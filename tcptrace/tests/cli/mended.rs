//! What was wrong once.

use crate::refused::*;
use crate::run::*;
use crate::support::patiently;
use nix::sys::signal::Signal;
use std::process::Stdio;
use tcptrace_lab::{Family, Lab, SCENARIOS};

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_duration_of_ages_is_no_panic() {
    for ages in ["1e19", "9223372036854775807", "9000000000000000h"] {
        let mut running = Running::start(program(&["watch", "--port", "17777"], &["--duration", ages]));
        running.err.wait(|line| line.contains("watching through") || line.starts_with("error: "));
        // One that is refused ends by itself; a signal might be faster.
        let refused = running.err.lines.iter().any(|line| line.starts_with("error: "));
        let ran = running.end((!refused).then_some(Signal::SIGINT));
        assert!(!ran.stderr().contains("panicked"), "{ages}: {ran:#?}");
        assert!([Some(0), Some(2)].contains(&ran.status.code()), "{ages}: {ran:#?}");
    }
}

/// `tcptrace … 2>&1 | head -1`
#[test]
fn standard_error_may_be_a_closed_pipe_too() {
    for args in [&["lab", "no-such"] as &[_], &["watch", "--netns", "no-such"], &["watch", "--family", "5"]] {
        let none: [&str; 0] = [];
        let mut command = program(args, &none);
        let child = command.stdout(closed_pipe()).stderr(closed_pipe()).spawn().expect("it starts");
        assert_eq!(exit_of(child).code(), Some(2), "{args:?}");
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_scenario_that_nobody_reads_ends_quietly() {
    for format in ["text", "json"] {
        let mut command = program(&["lab", "handshake"], &["--format", format]);
        let mut child = command.stdout(closed_pipe()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut err = Stream::of(child.stderr.take().expect("piped"));
        let status = exit_of(child);
        assert!(err.wait_for_the_end());
        assert_eq!(status.code(), Some(0), "{format}: {:#?}", err.lines);
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn every_stage_has_its_time() {
    patiently(|| {
        let lines = run(&["lab", "handshake", "--format", "json"]).expect(0).json();
        let times: Vec<_> = lines.iter().filter_map(|line| line["mono_ns"].as_u64()).collect();
        assert!(times.iter().all(|time| *time >= times[0]), "{times:?}");
    });
}

/// What the script says comes out whole, in both formats.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn no_stage_is_left_out() {
    patiently(|| {
        for scenario in SCENARIOS {
            // All three at once: some scenarios take as long as the kernel's timers.
            let [text, json] = ["text", "json"]
                .map(|format| Running::start(program(&["lab", scenario.name], &["--format", format])));
            let lab = Lab::new(Family::V4).expect("a lab");
            let mut said = vec![scenario.title.to_owned()];
            scenario.run(&lab, &mut |stage| said.push(stage.text.to_owned())).expect("it plays");
            let text = text.end(None).expect(0);
            let told: Vec<_> = text.out.iter().filter_map(|line| line.strip_prefix("## ")).collect();
            assert_eq!(told, said, "{}", scenario.name);
            let lines = json.end(None).expect(0).json();
            let stages = lines.iter().filter(|line| line["type"] == "stage");
            let told: Vec<_> = stages.filter_map(|line| line["text"].as_str()).collect();
            assert_eq!(told, said, "{}", scenario.name);
        }
    });
}

#[test]
fn a_file_of_another_kind_is_no_namespace() {
    let unprivileged = Unprivileged::new(); // goes no further than to its privileges
    for value in ["", "/etc/passwd", "/proc"] {
        let ran = unprivileged.run(&["watch", "--netns", value]).expect(2);
        assert!(!ran.stderr().contains("CAP_BPF"), "taken: {value:?}: {ran:#?}");
    }
}

#[test]
fn a_bad_family_is_answered_with_both() {
    for bad in ["7", "inet", ""] {
        assert_refused(&["watch", "--family", bad], &["--family", "valid are 4 and 6"]);
    }
}

#[test]
fn lab_without_a_name_says_where_names_are() {
    assert_refused(&["lab"], &["--list"]);
}

/// A command is at most 15 bytes long in the kernel: a longer one, or none, matches nothing for ever.
#[test]
fn a_command_that_no_process_can_have_is_refused() {
    let unprivileged = Unprivileged::new(); // goes no further than to its privileges
    for bad in ["", "systemd-resolved-and-more"] {
        let ran = unprivileged.run(&["watch", "--comm", bad]).expect(2);
        assert!(!ran.stderr().contains("CAP_BPF"), "taken: {bad:?}: {ran:#?}");
    }
}

#[test]
fn what_to_type_can_be_typed() {
    let ran = Unprivileged::new().run(&["watch", "--duration", "1h 30m"]).expect(2);
    let quoted = ["'1h 30m'", "\"1h 30m\"", "1h\\ 30m"];
    assert!(quoted.iter().any(|text| ran.stderr().contains(text)), "{ran:#?}");
}
