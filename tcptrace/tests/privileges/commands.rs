//! Each command with what it needs, and what is said without.

use crate::{TRACING, run, started, support::connections, unprivileged::as_nobody};
use caps::Capability::{self, CAP_BPF, CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_PERFMON};
use serde_json::Value;
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt};
use tcptrace_lab::{Family, Lab};

#[test]
#[ignore = "needs root: becomes nobody with some capabilities, and makes network namespaces"]
fn what_traces_runs_with_two() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let kept = connections(&lab, 0, 1, 1);
    for args in [
        &["watch", "--duration", "100ms"] as &[_],
        &["hist", "--duration", "100ms"],
        &["stat", "100ms", "2", "--by", "process"],
        &["stuck", "--for", "100ms"],
        &["explain", "10000", "--for", "100ms"],
    ] {
        let ran = started(&lab, as_nobody(args, &TRACING)).end(None).expect(0);
        for word in ["CAP_BPF", "not traced", "please report"] {
            let said = ran.stdout() + &ran.stderr();
            assert!(!said.contains(word), "{args:?}: {said}");
        }
    }
    drop(kept);
}

#[test]
#[ignore = "needs root: becomes nobody with some capabilities"]
fn the_one_that_is_missing_is_named() {
    let lab = Lab::new(Family::V4).expect("a lab");
    for (has, missing) in
        [(&[CAP_BPF] as &[_], "CAP_PERFMON"), (&[CAP_PERFMON], "CAP_BPF"), (&[], "CAP_BPF and CAP_PERFMON")]
    {
        for args in [&["watch"] as &[_], &["hist"], &["export", "--listen", "127.0.0.1:0"]] {
            let ran = started(&lab, as_nobody(args, has)).end(None).expect(2);
            let wanted = format!("tracing needs {missing}, which this process does not have; type: sudo ");
            assert!(ran.stderr().contains(&wanted), "{args:?}: {ran:#?}");
            assert!(ran.stderr().contains("sudo setcap cap_bpf,cap_perfmon=ep /"), "{args:?}: {ran:#?}");
        }
        // Sockets can be looked at all the same, and it is said what is not.
        let ran = started(&lab, as_nobody(&["stuck", "--for", "100ms"], has)).end(None).expect(0);
        assert!(ran.stdout().contains(&format!("not traced (tracing needs {missing})")), "{ran:#?}");
        let ran = started(&lab, as_nobody(&["stat"], has)).end(None).expect(0);
        assert!(!ran.out.is_empty(), "{ran:#?}");
    }
}

/// With tracefs, which is for root alone, classic tracepoints are traced, too; without it is said what it takes.
#[test]
#[ignore = "needs root: becomes nobody with some capabilities"]
fn classic_tracepoints_need_a_third() {
    if !fs::exists("/sys/kernel/tracing/events").expect("root sees it") {
        println!("nothing to be read: tracefs is not mounted here");
        return;
    }
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").expect("a setting");
    let admin = if paranoid.trim().parse::<i32>().expect("a number") > 2 {
        &[Capability::CAP_SYS_ADMIN][..]
    } else {
        &[]
    };
    let lab = Lab::new(Family::V4).expect("a lab");
    let args = ["watch", "--hooks", "classic", "--duration", "100ms"];
    let with = [&TRACING, admin, &[CAP_DAC_READ_SEARCH]].concat();
    started(&lab, as_nobody(&args, &with)).end(None).expect(0);
    let ran = started(&lab, as_nobody(&args, &TRACING)).end(None).expect(2);
    for word in ["--hooks classic cannot be used here", "CAP_DAC_READ_SEARCH", "type: sudo setcap "] {
        assert!(ran.stderr().contains(word), "{word}: {ran:#?}");
    }
}

#[test]
#[ignore = "needs root: becomes nobody with one capability, and ends sockets in a network namespace of its own"]
fn one_is_enough_to_end_sockets() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let kept = connections(&lab, 0, 1, 1);
    let kill = ["kill", "--lport", "10000", "--state", "established", "--yes"];
    let refused = started(&lab, as_nobody(&kill, &TRACING)).end(None).expect(2);
    for word in ["CAP_NET_ADMIN", "type: sudo ", "sudo setcap cap_net_admin,cap_perfmon,cap_bpf=ep "] {
        assert!(refused.stderr().contains(word), "{word}: {refused:#?}");
    }
    // A network namespace of the first user namespace is ended in by whoever has it there.
    let killed = started(&lab, as_nobody(&kill, &[CAP_NET_ADMIN])).end(None);
    let text = killed.stdout();
    assert!(text.contains("killed 1 socket"), "{killed:#?}");
    drop(kept);
}

/// A program that may look everywhere, by a mark on its file, shows nobody what is not his.
#[test]
#[ignore = "needs root: becomes nobody with some capabilities"]
fn files_of_others_are_read_for_nobody() {
    let path = std::env::temp_dir().join(format!("tcptrace-foreign-{}", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("a file");
    file.write_all(b"root's").expect("written");
    let named = path.display().to_string();
    let has = [CAP_BPF, CAP_PERFMON, CAP_DAC_READ_SEARCH];
    let all = [
        &["watch", "--from", &named] as &[_],
        &["hist", "--from", &named],
        &["stat", "--from", &named],
        &["stuck", "--from", &named],
        &["explain", "10000", "--from", &named],
        &["diff", &named, &named],
        &["watch", "--btf", &named, "--duration", "100ms"],
    ];
    let ran = all.map(|args| run::Running::start(as_nobody(args, &has)).end(None));
    let shown = run::Running::start(run::program(&["watch", "--from", &named], &[""; 0])).end(None);
    fs::remove_file(&path).expect("root may");
    for (args, ran) in all.iter().zip(ran) {
        let ran = ran.expect(2);
        assert!(ran.stderr().contains("ermission denied"), "{args:?}: {ran:#?}");
    }
    assert!(!shown.stderr().contains("ermission denied"), "root reads it: {shown:#?}");
}

#[test]
#[ignore = "needs root: becomes nobody with some capabilities"]
fn doctor_says_which_are_there() {
    let has = [CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN];
    let lab = Lab::new(Family::V4).expect("a lab");
    let ran = started(&lab, as_nobody(&["doctor", "--format", "json"], &has)).end(None).expect(0);
    let told: Value = serde_json::from_str(&ran.stdout()).expect("JSON");
    let listed = told["capabilities"].as_array().expect("a list");
    assert_eq!(listed.len(), 6, "{told}");
    for line in listed {
        let expected = has.iter().any(|capability| line["name"] == capability.to_string());
        assert_eq!(line["has"], expected, "{line}");
        for key in ["needed_for", "without"] {
            assert!(line[key].as_str().is_some_and(|text| !text.is_empty()), "{line}");
        }
    }
    let sandbox =
        told["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["name"] == "sandbox"));
    assert!(sandbox.is_some(), "{told}");
    assert!(told["hooks"].as_array().is_some_and(|hooks| !hooks.is_empty()), "they were tried: {told}");
    let page = started(&lab, as_nobody(&["doctor"], &[CAP_BPF])).end(None).expect(0).stdout();
    assert!(page.contains("CAP_PERFMON") && page.contains("setcap cap_bpf,cap_perfmon=ep"), "{page}");
}
