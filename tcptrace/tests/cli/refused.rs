//! Help, and what is refused: no root needed.

use crate::diff;
use crate::export;
use crate::hist;
use crate::kill;
use crate::lab::*;
use crate::otlp;
use crate::record;
use crate::run::*;
use crate::stuck;
use crate::works::*;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    env, fs,
    process::{Command, Stdio},
};
use tcptrace_common::state::TcpState;
use tcptrace_lab::SCENARIOS;

#[test]
fn both_helps_of_each_command_list_every_flag() {
    for name in COMMANDS {
        let long = run(&[name, "--help"]).expect(0);
        let short = run(&[name, "-h"]).expect(0);
        let asked = run(&["help", name]).expect(0);
        let all = flags(&long.stdout());
        // These write no lines.
        let silent = ["export", "record", "convert", "completions"].contains(&name);
        assert_eq!(all.contains("--format"), !silent, "{long:#?}");
        assert_eq!(all, flags(&short.stdout()), "{name}");
        assert_eq!(asked.out, long.out);
        for ran in [long, short] {
            assert!(ran.err.is_empty(), "{ran:#?}");
            for word in ["--help", "--version", "Usage: tcptrace"] {
                assert!(ran.stdout().contains(word), "{word}: {ran:#?}");
            }
        }
    }
    for help in ["--help", "-h", "help"] {
        let ran = run(&[help]).expect(0);
        COMMANDS.iter().for_each(|name| assert!(ran.stdout().contains(*name), "{name}: {ran:#?}"));
    }
}

#[test]
fn every_flag_has_its_tests() {
    let listed = |name| flags(&run(&[name, "--help"]).stdout());
    let (watch, stat, lab, doctor) = (listed("watch"), listed("stat"), listed("lab"), listed("doctor"));
    let (kill, stuck, explain) = (listed("kill"), listed("stuck"), listed("explain"));
    let (hist, diff, export, record) = (listed("hist"), listed("diff"), listed("export"), listed("record"));
    let convert = listed("convert");

    let good = Good::all(&Place::nowhere());
    let tested: BTreeSet<_> = good.iter().map(|case| case.flag.to_owned()).collect();
    // What a recording shows is in tests/replay.
    let rest: BTreeSet<_> =
        watch.iter().filter(|flag| !["--from", "--force"].contains(&flag.as_str())).cloned().collect();
    assert_eq!(tested, rest, "good values of `watch`");
    let tested: BTreeSet<_> = lab_cases("").into_iter().map(|(flag, ..)| flag.to_owned()).collect();
    // Two only print; to record is in tests/replay.
    let plays = |flag: &&String| !["--list", "--explain", "--record", "--force"].contains(&flag.as_str());
    let rest: BTreeSet<_> = lab.iter().filter(plays).cloned().collect();
    assert_eq!(tested, rest, "good values of `lab`");

    let any_value = [
        "--comm",
        "--btf",
        "--summary",
        "--list",
        "--explain",
        "--all-netns",
        "--yes",
        "--verbose",
        "--no-trace",
        "--no-sandbox",
        "--force",
    ];
    let all = [
        ("watch", &watch),
        ("stat", &stat),
        ("stuck", &stuck),
        ("explain", &explain),
        ("hist", &hist),
        ("diff", &diff),
        ("convert", &convert),
        ("kill", &kill),
        ("export", &export),
        ("record", &record),
        ("lab", &lab),
        ("doctor", &doctor),
    ];
    for (name, flags) in all {
        for flag in flags.iter().filter(|flag| !any_value.contains(&flag.as_str())) {
            let refused = REFUSED
                .iter()
                .chain(kill::REFUSED)
                .chain(stuck::REFUSED)
                .chain(export::REFUSED)
                .chain(hist::REFUSED)
                .chain(otlp::REFUSED)
                .chain(record::REFUSED)
                .chain(diff::REFUSED)
                .any(|(args, _)| args[0] == name && args.contains(&flag.as_str()));
            // What the others share with `watch` is one piece of code.
            assert!(refused || watch.contains(flag) && name != "watch", "no bad value of {name} {flag}");
        }
    }

    let help = run(&["watch", "-h"]).stdout();
    let mut with_words = 0;
    for flag in &watch {
        for word in words(&help, flag) {
            with_words += 1;
            assert!(good.iter().any(|case| case.flag == flag && case.value == word), "{flag} {word}");
        }
    }
    assert!(with_words >= 14, "{with_words}: the help lists what each takes: {help}");
    for word in words(&run(&["lab", "-h"]).stdout(), "--family") {
        assert!(lab_cases("").iter().any(|(flag, value, _)| *flag == "--family" && *value == word));
    }
}

#[test]
fn versions() {
    let version = env!("CARGO_PKG_VERSION");
    for args in [&["--version"] as &[_], &["-V"]] {
        assert_eq!(run(args).expect(0).stdout(), format!("tcptrace {version}"));
    }
    for name in COMMANDS {
        let ran = run(&[name, "--version"]).expect(0);
        assert!(ran.stdout().starts_with("tcptrace") && ran.stdout().ends_with(version), "{ran:#?}");
    }
}

#[test]
fn without_arguments_the_help_is_shown() {
    let ran = run(&[]).expect(2);
    assert!(ran.out.is_empty(), "{ran:#?}");
    COMMANDS.iter().for_each(|name| assert!(ran.stderr().contains(*name), "{name}: {ran:#?}"));
    assert!(ran.stderr().contains("Usage: tcptrace"), "{ran:#?}");
}

pub const PORTS: &str = "ports are 1 to 65535, lists (80,443) and ranges (8000-8100)";
pub const NETWORKS: &str = "valid are 10.0.0.9, 10.0.0.0/8, fd00::/16";
pub const TIMES: &str = "valid are 10s, 500ms, 1h 30m (no days), or seconds as a number";
pub const SIZES: &str = "valid are 4096 bytes to 1GiB";
pub const FLOWS: &str = "valid are 1 to 100000000";
pub const KINDS: &str = "transitions, retransmits, resets, closes";
pub const HELP: &str = "--help";

/// Arguments that are refused, and words that the message has: the bad value, and what is valid.
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["nonsense"], &["'nonsense'", HELP]),
    (&["--nonsense"], &["'--nonsense'", HELP]),
    (&["watch", "--nonsense"], &["'--nonsense'", HELP]),
    (&["lab", "--nonsense"], &["'--nonsense'", HELP]),
    (&["doctor", "--nonsense"], &["'--nonsense'", HELP]),
    (&["watch", "eth0"], &["'eth0'", HELP]),
    (&["doctor", "eth0"], &["'eth0'", HELP]),
    (&["watch", "--port", "0"], &["--port", "\"0\"", PORTS]),
    (&["watch", "--port", "65536"], &["--port", "\"65536\"", PORTS]),
    (&["watch", "--port", "http"], &["--port", "\"http\"", PORTS]),
    (&["watch", "--port", "90-80"], &["--port", "the range 90-80 is empty", PORTS]),
    (&["watch", "--port", "80-"], &["--port", "'80-'", PORTS]),
    (&["watch", "--port", "80,,81"], &["--port", "'80,,81'", PORTS]),
    (&["watch", "--port", ""], &["--port", "''", PORTS]),
    (&["watch", "--port", "80", "--port", "0"], &["--port", "\"0\"", PORTS]),
    (&["watch", "--port"], &["--port", "a value is required"]),
    (&["watch", "--lport", "0"], &["--lport", "\"0\"", PORTS]),
    (&["watch", "--rport", "70000"], &["--rport", "\"70000\"", PORTS]),
    (&["watch", "--addr", "10.0.0.0/33"], &["--addr", "\"10.0.0.0/33\"", NETWORKS]),
    (&["watch", "--addr", "fd00::/129"], &["--addr", "\"fd00::/129\"", NETWORKS]),
    (&["watch", "--addr", "host.example"], &["--addr", "\"host.example\"", NETWORKS]),
    (&["watch", "--addr", "10.0.0.1,10.0.0"], &["--addr", "\"10.0.0\"", NETWORKS]),
    (&["watch", "--addr", ""], &["--addr", "''", NETWORKS]),
    (&["watch", "--family", "5"], &["--family", "5", "valid are 4 and 6"]),
    (&["watch", "--family", "7"], &["--family", "7", "4", "6"]),
    (&["watch", "--family", "inet"], &["--family", "'inet'", "4", "6"]),
    (&["watch", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`", "/run/netns/no-such"]),
    (&["watch", "--netns", "4194305"], &["--netns", "\"4194305\"", "`lsns -t net`"]),
    (&["watch", "--netns", "/no/such/file"], &["--netns", "\"/no/such/file\"", "`lsns -t net`"]),
    (&["watch", "--netns", "net:[x]"], &["--netns", "net:[x]", "no namespace number"]),
    (&["watch", "--cgroup", "no-such"], &["--cgroup no-such", "not a cgroup v2 folder", "/sys/fs/cgroup"]),
    (&["watch", "--cgroup", "/proc"], &["--cgroup /proc", "not a cgroup v2 folder", "/sys/fs/cgroup"]),
    (&["watch", "--uid", "no-such-user"], &["--uid no-such-user", "no such user", "/etc/passwd or a number"]),
    (&["watch", "--uid", "4294967296"], &["--uid 4294967296", "no such user"]),
    (&["watch", "--comm"], &["--comm", "a value is required"]),
    (&["watch", "--state", "OPEN"], &["--state", "\"OPEN\"", "is not a TCP state"]),
    (&["watch", "--only", "everything"], &["--only", "'everything'", KINDS]),
    (&["watch", "--only", "closes,"], &["--only", KINDS]),
    (&["watch", "--only", "closes,opens"], &["--only", "'opens'", KINDS]),
    (&["watch", "--duration", "soon"], &["--duration", "\"soon\"", TIMES]),
    (&["watch", "--duration", "0"], &["--duration", "\"0\"", TIMES]),
    (&["watch", "--duration=-5s"], &["--duration", "\"-5s\"", TIMES]),
    (&["watch", "--duration", "5 parsecs"], &["--duration", "\"5 parsecs\"", TIMES]),
    (&["watch", "--duration", "1e400"], &["--duration", "\"1e400\"", TIMES]),
    (&["watch", "--duration", ""], &["--duration", "''", TIMES]),
    (&["watch", "--count", "0"], &["--count", "'0'", "valid are 1 and more"]),
    (&["watch", "--count", "some"], &["--count", "'some'"]),
    (&["watch", "--count", "3", "--summary"], &["--count", "--summary", "cannot be used with"]),
    (&["watch", "--format", "xml"], &["--format", "'xml'", "text, json"]),
    (&["watch", "--format", "json", "--format", "text"], &["--format", "multiple times"]),
    (&["watch", "--color", "red"], &["--color", "'red'", "auto, always, never"]),
    (&["watch", "--hooks", "best"], &["--hooks", "'best'", "auto, btf, raw, classic"]),
    (&["watch", "--retransmit-hook", "xdp"], &["--retransmit-hook", "'xdp'", "auto, kprobe, tracepoint"]),
    (&["watch", "--ring-size", "0"], &["--ring-size", "\"0\"", SIZES]),
    (&["watch", "--ring-size", "2GiB"], &["--ring-size", "\"2GiB\"", SIZES]),
    (&["watch", "--ring-size", "big"], &["--ring-size", "\"big\"", SIZES]),
    (&["watch", "--ring-size", "8 parrots"], &["--ring-size", "\"8 parrots\"", SIZES]),
    (&["watch", "--ring-size", ""], &["--ring-size", "''", SIZES]),
    (&["watch", "--resync", "0"], &["--resync", "\"0\"", "or off"]),
    (&["watch", "--resync", "1ns"], &["--resync", "100ms"]),
    (&["watch", "--resync", "never"], &["--resync", "\"never\"", "or off"]),
    (&["watch", "--resync", "-1s"], &["--resync"]),
    (&["watch", "--max-flows", "0"], &["--max-flows", "\"0\"", FLOWS]),
    (&["watch", "--max-flows", "100000001"], &["--max-flows", "\"100000001\"", FLOWS]),
    (&["watch", "--max-flows", "many"], &["--max-flows", "\"many\"", FLOWS]),
    (&["watch", "--btf"], &["--btf", "a value is required"]),
    (&["stat", "0"], &["[INTERVAL]", "\"0\"", TIMES]),
    (&["stat", "-1"], &["[INTERVAL]", "\"-1\"", TIMES]),
    (&["stat", "abc"], &["[INTERVAL]", "\"abc\"", TIMES]),
    (&["stat", ""], &["[INTERVAL]", TIMES]),
    (&["stat", "1", "0"], &["[COUNT]", "\"0\"", "valid are 1 and more"]),
    (&["stat", "1", "-1"], &["[COUNT]", "\"-1\"", "valid are 1 and more"]),
    (&["stat", "1", "2", "3"], &["'3'", HELP]),
    (&["stat", "--by", "nothing"], &["--by", "'nothing'", "port, process, container, netns, peer"]),
    (&["stat", "--by", "port", "--top", "0"], &["--top", "\"0\"", "valid are 1 and more"]),
    (&["stat", "--top", "5"], &["--by"]),
    (&["stat", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`", "/run/netns/no-such"]),
    (&["stat", "--netns", "net:[1]"], &["--netns", "\"net:[1]\"", "`lsns -t net`"]),
    (&["stat", "--netns", "/proc/self/ns/mnt"], &["--netns", "is not a network namespace"]),
    (&["stat", "--netns", "1", "--all-netns"], &["--netns", "--all-netns", "cannot be used with"]),
    (&["stat", "--port", "0"], &["--port", "\"0\"", PORTS]),
    (&["stat", "--state", "OPEN"], &["--state", "\"OPEN\"", "is not a TCP state"]),
    (&["stat", "--uid", "no-such-user"], &["--uid no-such-user", "no such user"]),
    (&["stat", "--format", "xml"], &["--format", "'xml'", "text, json"]),
    (&["stat", "--duration", "5s"], &["'--duration'", HELP]),
    (&["convert"], &["<FILE>", HELP]),
    (&["convert", "a.tct", "--to", "csv"], &["--to", "'csv'", "parquet"]),
    (&["convert", "a.tct", "b.tct"], &["'b.tct'", HELP]),
    (&["completions"], &["<SHELL>", HELP]),
    (&["completions", "csh"], &["'csh'", "bash, zsh, fish"]),
    (&["completions", "bash", "zsh"], &["'zsh'", HELP]),
    (&["manual"], &["<FOLDER>", HELP]),
    (&["lab"], &["--list"]),
    (&["lab", "handshake", "refused"], &["'refused'", HELP]),
    (&["lab", "handshake", "--family", "5"], &["--family", "'5'", "4, 6"]),
    (&["lab", "handshake", "--format", "xml"], &["--format", "'xml'", "text, json"]),
    (&["lab", "handshake", "--port", "80"], &["'--port'", HELP]),
    (&["doctor", "--format", "xml"], &["--format", "'xml'", "text, json"]),
    (&["doctor", "--color", "red"], &["--color", "'red'", "auto, always, never"]),
];

#[track_caller]
pub fn assert_refused(args: &[&str], said: &[&str]) {
    let ran = run(args).expect(2);
    assert!(ran.out.is_empty(), "{args:?}: {ran:#?}");
    let message = ran.stderr();
    assert!(message.starts_with("error: ") || message.starts_with("tcptrace: "), "{args:?}: {message}");
    for word in said {
        assert!(message.contains(word), "{args:?} should say {word}:\n{message}");
    }
}

#[test]
fn bad_input_is_refused_with_a_message_that_helps() {
    REFUSED
        .iter()
        .chain(kill::REFUSED)
        .chain(hist::REFUSED)
        .chain(diff::REFUSED)
        .for_each(|(args, said)| assert_refused(args, said));
}

#[test]
fn a_bad_state_is_answered_with_all_states() {
    let names =
        TcpState::ALL.iter().filter(|state| **state != TcpState::NewSynRecv).map(|state| state.name());
    for bad in ["NOPE", "", "NEW_SYN_RECV", "listen,nope"] {
        let said: Vec<_> = names.clone().chain(["--state", "is not a TCP state"]).collect();
        assert_refused(&["watch", "--state", bad], &said);
    }
}

#[test]
fn a_bad_scenario_is_answered_with_all_scenarios() {
    for bad in ["no-such", "", "Handshake"] {
        let quoted = format!("{bad:?}");
        let said: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).chain([quoted.as_str()]).collect();
        assert_refused(&["lab", bad], &said);
    }
}

#[test]
fn a_folder_of_another_kind_is_no_cgroup() {
    let folder = Folder::new();
    let path = folder.0.to_str().expect("a plain name");
    assert_refused(&["watch", "--cgroup", path], &[path, "not a cgroup v2 folder", "/sys/fs/cgroup"]);
}

#[test]
fn scenarios_are_listed() {
    let unprivileged = Unprivileged::new();
    for ran in [run(&["lab", "--list"]), unprivileged.run(&["lab", "--list"])] {
        let ran = ran.expect(0);
        assert!(ran.err.is_empty(), "{ran:#?}");
        for scenario in SCENARIOS {
            let line = ran.out.iter().find(|line| line.split_whitespace().next() == Some(scenario.name));
            assert!(line.is_some_and(|line| line.ends_with(scenario.title)), "{}: {ran:#?}", scenario.name);
            assert!(ran.stdout().contains(scenario.replaces), "{}: {ran:#?}", scenario.name);
        }
    }
}

/// Nobody reads: that is an end, not an error.
#[test]
fn what_is_only_printed_may_go_into_a_closed_pipe() {
    let cases: [&[&str]; 12] = [
        &["kill", "--port", "1"],
        &["kill", "--port", "1", "--format", "json"],
        &["stat"],
        &["stat", "--format", "json"],
        &["stat", "50ms"],
        &["lab", "--list"],
        &["doctor"],
        &["doctor", "--format", "json"],
        &["completions", "bash"],
        &["--help"],
        &["watch", "--help"],
        &["--version"],
    ];
    for args in cases {
        let none: [&str; 0] = [];
        let mut command = program(args, &none);
        let mut child = command.stdout(closed_pipe()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut err = Stream::of(child.stderr.take().expect("piped"));
        assert!(exit_of(child).success(), "{args:?}");
        assert!(err.wait_for_the_end() && err.lines.is_empty(), "{args:?}: {:#?}", err.lines);
    }
}

/// What cannot be written is an error that is told.
#[test]
fn a_full_disk_is_an_error() {
    for args in [
        &["lab", "--list"] as &[_],
        &["kill", "--port", "1"],
        &["stat"],
        &["stat", "50ms"],
        &["doctor"],
        &["doctor", "--format", "json"],
        &["completions", "bash"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let none: [&str; 0] = [];
        let output = program(args, &none).stdout(full).output().expect("it runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {message}");
        assert!(
            message.starts_with("tcptrace: ") && message.contains("No space left"),
            "{args:?}: {message}"
        );
    }
}

/// The object that `doctor --format json` prints.
#[track_caller]
pub fn diagnosis(ran: &Ran) -> Value {
    let [line] = ran.out.as_slice() else { panic!("one line: {ran:#?}") };
    let value: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&value["v"], &value["type"]), (&Value::from(1), &Value::from("doctor")));
    let checks = value["checks"].as_array().expect("checks");
    assert!(!checks.is_empty(), "{value}");
    for check in checks {
        let known = ["name", "status", "value"].iter().all(|key| check[*key].is_string());
        assert!(known && (check["advice"].is_string() || check["advice"].is_null()), "{check}");
    }
    assert!(value["hooks"].is_array(), "{value}");
    value
}

#[test]
fn doctor_without_privileges_says_what_it_could_not_check() {
    let unprivileged = Unprivileged::new();
    let ran = unprivileged.run(&["doctor"]).expect(0);
    let text = ran.stdout();
    for word in ["CAP_BPF", "CAP_PERFMON", "not tried: ", "type: sudo tcptrace doctor", "inet_sock_set_state"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(ran.err.is_empty() && !text.contains('\x1b'), "{ran:#?}");

    let value = diagnosis(&unprivileged.run(&["doctor", "--format", "json"]).expect(0));
    assert_eq!(value["hooks"], Value::Array(Vec::new()));
    let why = value["not_tried"].as_str().expect("a reason");
    assert!(why.contains("CAP_BPF") && why.contains("sudo tcptrace doctor"), "{why}");
    let check = |check: &&Value| check["name"] == "capabilities";
    let capabilities = value["checks"].as_array().and_then(|checks| checks.iter().find(check)).expect("one");
    assert_eq!(capabilities["status"], "bad", "{capabilities}");
}

#[test]
fn tracing_without_privileges_says_what_to_type() {
    let unprivileged = Unprivileged::new();
    let args = ["watch", "--port", "10000", "--format", "json"];
    let ran = unprivileged.run(&args).expect(2);
    let message = ran.stderr();
    let typed = format!("sudo {} {}", unprivileged.program.display(), args.join(" "));
    for word in ["CAP_BPF", "CAP_PERFMON", typed.as_str(), "sudo setcap cap_bpf,cap_perfmon=ep"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(ran.out.is_empty(), "{ran:#?}");

    let ran = unprivileged.run(&["lab", "handshake"]).expect(2);
    assert!(ran.out.is_empty(), "{ran:#?}");
    for word in ["the lab needs root", "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "sudo"] {
        assert!(ran.stderr().contains(word), "{word}: {ran:#?}");
    }
}

/// `doctor` needs nobody's leave: it stands for all commands here, which choose colours in one place.
#[test]
fn colours_are_for_terminals() {
    let doctor = |args: &[&str]| program(&["doctor"], args);
    let colored = |text: &str| text.contains('\x1b');
    let piped = |command| Running::start(command).end(None).expect(0).stdout();
    let with = |mut command: Command, value: &str| {
        command.env("NO_COLOR", value);
        command
    };
    assert!(!colored(&piped(doctor(&[]))));
    assert!(!colored(&piped(doctor(&["--color", "auto"]))));
    assert!(!colored(&piped(doctor(&["--color", "never"]))));
    assert!(colored(&piped(doctor(&["--color", "always"]))));
    assert!(colored(&piped(with(doctor(&["--color", "always"]), "1"))), "who says always means it");
    assert!(!colored(&piped(doctor(&["--color", "always", "--format", "json"]))));

    assert!(colored(&on_a_terminal(doctor(&[]))));
    assert!(colored(&on_a_terminal(doctor(&["--color", "auto"]))));
    assert!(colored(&on_a_terminal(with(doctor(&[]), ""))), "an empty NO_COLOR says nothing");
    assert!(!colored(&on_a_terminal(with(doctor(&[]), "1"))));
    assert!(!colored(&on_a_terminal(doctor(&["--color", "never"]))));
    let plain = piped(doctor(&["--color", "never"]));
    assert!(plain.lines().any(|line| line.starts_with("HOOK ")), "{plain}");
}
