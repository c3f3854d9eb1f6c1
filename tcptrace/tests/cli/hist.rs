//! `tcptrace hist`: what is refused, and what it prints.

use crate::run::*;
use crate::works::*;
use nix::sys::signal::Signal;
use std::{ffi::OsStr, fs, process::Stdio};
use tcptrace_lab::{Family, Lab};

/// As [`crate::refused::REFUSED`].
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["hist", "--nonsense"], &["'--nonsense'", "--help"]),
    (&["hist", "eth0"], &["'eth0'", "--help"]),
    (&["hist", "--by", "nothing"], &["--by", "'nothing'", "port, process, container, peer, netns, role"]),
    (&["hist", "--by", "port", "--top", "0"], &["--top", "\"0\"", "valid are 1 and more"]),
    (&["hist", "--by", "port", "--top", "-1"], &["--top", "\"-1\"", "valid are 1 and more"]),
    (&["hist", "--top", "5"], &["--by"]),
    (&["hist", "--state", "OPEN"], &["--state", "\"OPEN\"", "is not a TCP state"]),
    (&["hist", "--duration", "0"], &["--duration", "\"0\"", "valid are 10s"]),
    (&["hist", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`"]),
    (&["hist", "--count", "3"], &["'--count'", "--help"]),
];

/// Starts it, and waits until everything is attached.
fn start<S: AsRef<OsStr>>(args: &[S]) -> Running {
    let mut running = Running::start(program(&["hist"], args));
    assert!(running.err.wait(|line| line.contains("watching through")), "{:#?}", running.err.lines);
    running
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn the_answer_comes_first_and_is_a_table() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let [all, chosen, grouped, somebodys] =
        [&[] as &[_], &["--state", "syn-sent"], &["--by", "role", "--top", "1"], &["--comm", "nobody"]]
            .map(|args| start(&[&["--netns", &here], args].concat()));
    traffic(&lab);
    let all = all.stop().expect(0);
    assert!(all.out[0].starts_with(&format!("{TRANSITIONS} transitions in ")), "{all:#?}");
    assert!(all.out[0].contains("by the kernel's own count"), "{all:#?}");
    let header = &all.out[1];
    let count = header.find("COUNT").expect("a title") + "COUNT".len();
    let row = |ran: &Ran, start: &str| ran.out.iter().find(|line| line.starts_with(start)).cloned();
    for pair in ["CLOSE       -> LISTEN", "SYN_SENT    -> ESTABLISHED", "LAST_ACK    -> CLOSE"] {
        let line = row(&all, pair).expect(pair);
        assert!(line[..count].ends_with(" 1"), "under its title: {line}");
        assert_eq!(line.trim_end(), line, "nothing invisible at the end");
    }
    let time = row(&all, "SYN_SENT    -> ESTABLISHED").expect("one");
    assert!(time.contains(" us ") && time.contains('█'), "{time}");
    assert!(all.out.iter().any(|line| line.starts_with("STATE ")), "{all:#?}");

    let chosen = chosen.stop().expect(0);
    assert!(row(&chosen, "SYN_SENT    -> ESTABLISHED").is_some_and(|line| line.contains('█')), "{chosen:#?}");
    assert!(row(&chosen, "CLOSE       -> SYN_SENT").is_some(), "{chosen:#?}");
    assert!(
        row(&chosen, "LAST_ACK").is_none() && row(&chosen, "CLOSE       -> LISTEN").is_none(),
        "{chosen:#?}"
    );
    assert!(chosen.out[0].starts_with(&format!("{TRANSITIONS} transitions in ")), "{chosen:#?}");

    let grouped = grouped.stop().expect(0);
    assert!(row(&grouped, "role active: 5 transitions").is_some(), "{grouped:#?}");
    assert!(row(&grouped, "others (2 more): ").is_some(), "{grouped:#?}");

    let somebodys = somebodys.stop().expect(0);
    assert!(
        somebodys.out[0].contains("0 transitions") && somebodys.out[0].contains("counted from events"),
        "{somebodys:#?}"
    );
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn it_ends_by_time_signal_and_closed_pipe() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let timed = Running::start(program(&["hist", "--netns", &here], &["--duration", "200ms"]));
    assert!(timed.end(None).expect(0).out[0].starts_with("0 transitions in "));
    let ended = start(&["--netns", &here]).end(Some(Signal::SIGTERM)).expect(0);
    assert!(ended.out[0].starts_with("0 transitions in "), "{ended:#?}");
    assert!(ended.stderr().contains("nothing matched the filter"), "{ended:#?}");

    let limited = || program(&["hist", "--netns", &here], &["--duration", "100ms"]);
    let child = limited().stdout(closed_pipe()).stderr(Stdio::null()).spawn().expect("it starts");
    assert_eq!(exit_of(child).code(), Some(0));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output = limited().stdout(full).output().expect("it runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("No space left") && !message.contains("panicked"), "{message}");
}
