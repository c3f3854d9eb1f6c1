//! Ages are of the boot-time clock, which nobody sets: neither the time of day nor a time namespace makes them wrong.
//!
//! The time of day cannot be stepped for one process alone, and not at all without disturbing the whole machine: that
//! nothing but what is shown depends on it is a matter of who reads it.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod support;

use serde_json::Value;
use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};
use support::{command, connections, netns};
use tcptrace_lab::{Family, Lab, Side};

/// What a time namespace adds, in seconds.
const ADDED: i64 = 5000;

/// The same in a time namespace of its own.
fn shifted(mut command: Command, seconds: i64) -> Command {
    let offsets = format!("boottime {seconds} 0\nmonotonic {seconds} 0\n");
    // SAFETY: unshare and write are safe between fork and exec; what is written was made before.
    unsafe {
        command.pre_exec(move || {
            if libc::unshare(CLONE_NEWTIME) != 0 {
                return Err(io::Error::last_os_error());
            }
            fs::write("/proc/self/timens_offsets", &offsets)
        });
    }
    command
}

/// Of include/uapi/linux/sched.h.
const CLONE_NEWTIME: libc::c_int = 0x80;

#[test]
#[ignore = "needs root: loads BPF programs, makes network and time namespaces"]
fn a_time_namespace_changes_no_age() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let kept = connections(&lab, 0, 1, 1);
    let space = netns(lab.netns(Side::Client));
    let uptime = |command: Command| {
        let out = shifted(command, ADDED).stdin(Stdio::null()).output().expect("it runs").stdout;
        String::from_utf8_lossy(&out)
            .split('.')
            .next()
            .and_then(|text| text.parse::<i64>().ok())
            .expect("seconds")
    };
    let mut cat = Command::new("cat");
    cat.arg("/proc/uptime");
    let mut plain = Command::new("cat");
    let plain = plain.arg("/proc/uptime").output().expect("it runs").stdout;
    let plain: i64 =
        String::from_utf8_lossy(&plain).split('.').next().and_then(|s| s.parse().ok()).expect("seconds");
    if uptime(cat) < plain + ADDED - 60 {
        println!("not here: this kernel puts no program into a time namespace by exec (before 6.3)");
        return;
    }
    for seconds in [ADDED, -ADDED] {
        if plain + seconds < 0 {
            continue;
        }
        let watch = command(&["watch", "--netns", &space, "--format", "json", "--count", "14"]);
        let mut child = shifted(watch, seconds).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut lines = io::BufRead::lines(io::BufReader::new(child.stdout.take().expect("piped")));
        let mut line =
            || -> Option<Value> { Some(serde_json::from_str(&lines.next()?.expect("text")).expect("JSON")) };
        while line().expect("it traces")["type"] != "resync" {}
        // Two for the listener, five for each end, and two closes.
        connections(&lab, 1, 1, 0);
        let mut aged = 0;
        while let Some(line) = line() {
            // How long it was in its state: no connection here is older than the test.
            for key in ["in_state_ns", "age_ns", "dwell_ns", "duration_ns"] {
                let Some(ns) = line[key].as_u64() else { continue };
                aged += 1;
                assert!(ns < 120_000_000_000, "{seconds} s added: {line}");
            }
        }
        assert!(aged >= 5, "ages were shown: {aged}");
        assert!(child.wait().expect("it ends").success());

        let stuck = command(&["stuck", "--netns", &space, "--for", "100ms", "--older-than", "20m"]);
        let told = shifted(stuck, seconds).output().expect("it runs");
        let text = String::from_utf8_lossy(&told.stdout);
        assert!(text.starts_with("nothing is stuck"), "nothing here is 20 minutes old: {text}");
    }
    drop(kept);
}

/// The time of day is read where it is shown or sent, and nowhere else.
#[test]
fn the_time_of_day_is_read_in_few_places() {
    const READS: [&str; 5] =
        ["CLOCK_REALTIME", "SystemTime::now", "Timestamp::now", "UNIX_EPOCH.elapsed", "Zoned::now"];
    // What to add to boot time, once; what a receiver says of its own time of day.
    const MAY: [&str; 2] = ["source/live.rs", "export/otlp/client.rs"];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![sources.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            let inside = path.strip_prefix(&sources).expect("below").display().to_string();
            if READS.iter().any(|read| text.contains(read)) && !inside.contains("tests") {
                found.push(inside);
            }
        }
    }
    found.sort();
    let mut may = MAY.map(str::to_owned).to_vec();
    may.sort();
    assert_eq!(found, may, "ages are of boot time");
}
