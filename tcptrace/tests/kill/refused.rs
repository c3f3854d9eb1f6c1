//! What is not done, and what is said then: bad arguments, no privilege, no room for the audit, too many.

use crate::{alone, kill, ss, told, until};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Error,
    net::{TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use tcptrace_lab::{Family, Lab, Side};

/// Connections on the loopback of the client's host, by the port of the service.
fn pairs(lab: &Lab, count: usize) -> (TcpListener, Vec<(TcpStream, TcpStream)>) {
    let make = move || {
        let listener = TcpListener::bind("127.0.0.1:20001").expect("free");
        let pair = || {
            let client = TcpStream::connect("127.0.0.1:20001").expect("connected");
            (client, listener.accept().expect("accepted").0)
        };
        let pairs = (0..count).map(|_| pair()).collect();
        (listener, pairs)
    };
    lab.run_in(Side::Client, make).expect("runs")
}

/// Runs it on the client's host, in its namespace, with nothing said about namespaces.
fn run(lab: &Lab, args: &[&str]) -> Output {
    let mut command = crate::support::command(&["kill"]);
    command.args(args);
    lab.command(Side::Client, command).expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file for this test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcptrace-kill-{name}-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain name")
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn without_a_selection_nothing_is_done() {
    for args in
        [&[] as &[&str], &["--yes"], &["--older-than", "5m", "--yes"], &["--family", "4", "--all-netns"]]
    {
        let output = crate::support::command(&[&["kill"], args].concat()).output().expect("it runs");
        let message = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {message}");
        for word in ["which sockets?", "--state", "--port", "--flow", "for example: tcptrace kill "] {
            assert!(message.contains(word), "{word}: {message}");
        }
    }
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn the_audit_has_everything_and_only_grows() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let held = pairs(&lab, 1);
    let file = Scratch::new("audit");
    let chosen = ["--lport", "20001", "--state", "estab", "--audit", file.path()];
    let shown = run(&lab, &chosen);
    assert_eq!(shown.status.code(), Some(0));
    assert!(!file.0.exists(), "a dry run records nothing");
    let page = text(&shown.stdout);
    let last = page.lines().last().expect("a line");
    assert!(
        last.starts_with("nothing was killed; to kill 1 socket type: ") && last.ends_with(" --yes"),
        "{page}"
    );
    let row = page.lines().find(|line| line.starts_with("ESTABLISHED")).expect("a row");
    let owner = format!("/{} fd {}", std::process::id(), held.1[0].1.as_raw_fd());
    assert!(
        row.contains("at least ") && row.contains(&owner) && row.contains("127.0.0.1:20001 -> "),
        "{page}"
    );

    let killed = run(&lab, &[&chosen[..], &["--yes"]].concat());
    assert_eq!(killed.status.code(), Some(0), "{killed:?}");
    assert!(text(&killed.stdout).ends_with("killed 1 socket\n"), "{killed:?}");
    let lines = file.lines();
    let phases: Vec<_> = lines.iter().map(|line| (&line["phase"], &line["result"])).collect();
    assert_eq!(phases, [(&"intent".into(), &Value::Null), (&"result".into(), &"killed".into())]);
    for line in &lines {
        let by = &line["by"];
        assert_eq!((&line["type"], &line["v"], &by["uid"]), (&"kill-audit".into(), &1.into(), &0.into()));
        assert!(by["command"].as_str().is_some_and(|words| words.contains("kill --lport 20001")), "{line}");
        assert_eq!(
            (&line["netns"], &line["state"]),
            (&lab.netns(Side::Client).into(), &"ESTABLISHED".into())
        );
        assert_eq!(
            (&line["local"]["port"], &line["owner"]["pid"]),
            (&20001.into(), &std::process::id().into())
        );
        let known = line["flow"].is_string() && line["time"].is_string() && line["in_state_ns"].is_u64();
        assert!(known && by["pid"].is_u64() && !line["fd"].is_null(), "{line}");
    }
    // Nothing that is there already is lost.
    drop(held);
    let held = pairs(&lab, 1);
    assert_eq!(run(&lab, &[&chosen[..], &["--yes"]].concat()).status.code(), Some(0));
    let more = file.lines();
    assert_eq!((more.len(), &more[..2]), (4, &lines[..]));
    drop(held);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn what_cannot_be_audited_is_not_done() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let held = pairs(&lab, 2);
    let before = ss(&lab, Side::Client);
    for (file, why) in [
        ("/dev/full", "No space left"),
        ("/proc/no/such/folder", "No such file"),
        ("/proc", "Is a directory"),
    ] {
        let ran = run(&lab, &["--port", "20001", "--yes", "--audit", file]);
        let message = text(&ran.stderr);
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(2), ""), "{message}");
        assert!(message.contains(&format!("cannot audit: {file}: {why}")), "{message}");
        assert_eq!(ss(&lab, Side::Client), before, "{file}: nothing may be killed");
    }
    // What cannot be told stops before the first.
    let full = File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut unwritable = crate::support::command(&["kill", "--port", "20001", "--yes"]);
    unwritable.stdout(full).stderr(Stdio::piped());
    let ran = lab
        .run_in(Side::Client, move || unwritable.spawn()?.wait_with_output())
        .expect("runs")
        .expect("runs");
    assert_eq!(ran.status.code(), Some(2));
    assert!(text(&ran.stderr).contains("No space left"), "{ran:?}");
    assert_eq!(ss(&lab, Side::Client), before);
    drop(held);
}

#[test]
#[ignore = "needs root: makes network namespaces"]
fn too_many_are_none() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let held = pairs(&lab, 3);
    let before = ss(&lab, Side::Client);
    let chosen = ["--port", "20001", "--state", "estab"];
    let ran = run(&lab, &[&chosen[..], &["--yes", "--max", "5"]].concat());
    let message = text(&ran.stderr);
    assert_eq!((ran.status.code(), ran.stdout.len()), (Some(2), 0), "{message}");
    for word in ["6 sockets match, more than --max 5: nothing was killed", "--max 6"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let shown = run(&lab, &[&chosen[..], &["--max", "5"]].concat());
    let page = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0));
    assert_eq!(page.lines().filter(|line| line.starts_with("ESTABLISHED")).count(), 5, "{page}");
    for word in ["… and 1 socket", "6 sockets match, more than --max 5", "add --yes --max 6"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    assert_eq!(ss(&lab, Side::Client), before);
    let ran = run(&lab, &[&chosen[..], &["--yes", "--max", "6"]].concat());
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    until("all of them", || ss(&lab, Side::Client).len() == 1);
    drop(held);
}

/// The same ports in another namespace are other sockets.
#[test]
#[ignore = "needs root: makes network namespaces"]
fn other_namespaces_are_left_alone_unless_they_are_named() {
    let _alone = alone();
    let labs = [(); 2].map(|()| Lab::new(Family::V4).expect("a lab"));
    let held = labs.each_ref().map(|lab| pairs(lab, 1));
    let chosen = ["--lport", "20001", "--state", "estab", "--yes"];
    let (killed, _) = kill(&labs[0], Side::Client, &chosen, 0);
    assert_eq!((killed.len(), &killed[0]["netns"]), (1, &labs[0].netns(Side::Client).into()));
    assert!(ss(&labs[1], Side::Client).iter().any(|row| (row.0, row.1) == ("ESTABLISHED", 20001)));
    // Both of the namespaces that have such a socket, from the other side's, by name and by "all".
    drop(held);
    let held = labs.each_ref().map(|lab| pairs(lab, 1));
    let here = labs.each_ref().map(|lab| crate::support::netns(lab.netns(Side::Client)));
    let both = ["--netns", &here[0], "--netns", &here[1], "--netns", &here[0], "--format", "json"];
    let all = ["--all-netns", "--addr", "127.0.0.1", "--format", "json"];
    for args in [&both as &[&str], &all] {
        let shown = run(&labs[0], &[&chosen[..4], args].concat());
        let lines: Vec<Value> =
            text(&shown.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let spaces: Vec<_> =
            lines.iter().filter(|line| line["type"] == "kill").map(|line| &line["netns"]).collect();
        for lab in &labs {
            let here = Value::from(lab.netns(Side::Client));
            assert_eq!(spaces.iter().filter(|space| ***space == here).count(), 1, "{args:?}: {lines:?}");
        }
    }
    let ran = run(&labs[0], &[&chosen[..], &both].concat());
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    for lab in &labs {
        assert!(ss(lab, Side::Client).iter().all(|row| (row.0, row.1) != ("ESTABLISHED", 20001)));
    }
    drop(held);
}

/// Nobody may look, and is told what ending takes.
#[test]
#[ignore = "needs root: makes network namespaces, and becomes nobody in one"]
fn nobody_is_told_what_it_takes() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let held = pairs(&lab, 1);
    let before = ss(&lab, Side::Client);
    let as_nobody = |args: &[&str]| {
        // The program is where only root may look; an open file can be run all the same.
        let program = File::open(env!("CARGO_BIN_EXE_tcptrace")).expect("there");
        let mut nobody = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        nobody.args(args).uid(65534).gid(65534).stdin(Stdio::null());
        // SAFETY: fcntl is safe between fork and exec, and the descriptor is open: the closure owns the file.
        unsafe {
            nobody.pre_exec(move || match libc::fcntl(program.as_raw_fd(), libc::F_SETFD, 0) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            });
        }
        lab.command(Side::Client, nobody).expect("it runs")
    };
    let chosen = ["kill", "--lport", "20001", "--state", "estab"];
    let shown = as_nobody(&chosen);
    let page = text(&shown.stdout);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    assert!(page.contains("type: sudo ") && page.contains(" unknown "), "{page}");
    assert!(page.contains("note: needs root: whose the sockets of"), "{page}");

    let refused = as_nobody(&[&chosen[..], &["--yes"]].concat());
    let (page, message) = (text(&refused.stdout), text(&refused.stderr));
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(page.contains("refused: EPERM: it needs CAP_NET_ADMIN"), "{page}");
    for word in ["1 of 1 socket were not killed", "CAP_NET_ADMIN", "type: sudo "] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let refused = as_nobody(&[&chosen[..], &["--yes", "--format", "json"]].concat());
    let line: Value =
        serde_json::from_str(text(&refused.stdout).lines().next().expect("a line")).expect("JSON");
    assert_eq!((told(&line).0, &line["errno"]), ("refused", &libc::EPERM.into()), "{line}");
    assert_eq!(ss(&lab, Side::Client), before, "nothing may be killed");
    drop(held);
}
