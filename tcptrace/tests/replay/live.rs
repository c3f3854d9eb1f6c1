//! Recorded while it was shown: the recording shows the same, to the byte.

use crate::{fresh, support, view};
use nix::sys::signal::Signal;
use socket2::SockRef;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};
use tcptrace_lab::{Family, Lab, Side};

/// Connections of which each ends in one of three ways.
const CONNECTIONS: usize = 300;

/// Connections from the client to the server, one after the other; each returns when both ends are closed.
fn mixed(lab: &Lab, count: usize) {
    let address = lab.server_address();
    let listener = lab.run_in(Side::Server, move || TcpListener::bind(address).unwrap()).unwrap();
    for number in 0..count {
        let client = lab.run_in(Side::Client, move || TcpStream::connect(address).unwrap()).unwrap();
        let accept = listener.try_clone().unwrap();
        let server = lab.run_in(Side::Server, move || accept.accept().unwrap().0).unwrap();
        let [mut first, mut second] = if number % 2 == 0 { [client, server] } else { [server, client] };
        first.write_all(b"a question").unwrap();
        if number % 3 == 0 {
            SockRef::from(&first).set_linger(Some(Duration::ZERO)).unwrap();
        } else {
            first.shutdown(Shutdown::Write).unwrap();
            second.read_to_end(&mut Vec::new()).unwrap();
        }
        drop(first);
        drop(second);
    }
}

/// A lab with traffic, and a tracer of it that also records.
fn traced(format: &str, recording: &std::path::Path) -> (String, String) {
    let lab = Lab::new(Family::V4).unwrap();
    let netns = Side::ALL.map(|side| format!("net:[{}]", lab.netns(side)));
    let mut child =
        support::command(&["watch", "--format", format, "--netns", &netns[0], "--netns", &netns[1]])
            .arg("--record")
            .arg(recording)
            .env("TZ", "UTC")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut out = String::new();
    lines.read_line(&mut out).unwrap();
    mixed(&lab, CONNECTIONS);
    support::signal(child.id(), Signal::SIGINT);
    lines.read_to_string(&mut out).unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success(), "{err}");
    (out, err)
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_replay_is_the_live_output_to_the_byte() {
    for format in ["json", "text"] {
        let path = fresh(format);
        let (live, _) = traced(format, &path);
        let replay = view(&["watch", "--format", format], &path);
        let replayed = String::from_utf8(replay.stdout).unwrap();
        assert!(replay.status.success(), "{}", String::from_utf8_lossy(&replay.stderr));
        assert!(live.lines().count() > 10 * CONNECTIONS, "{live}");
        let differing = live.lines().zip(replayed.lines()).find(|(was, is)| was != is);
        assert_eq!(differing, None);
        assert!(live == replayed, "{} bytes live, {} bytes from the recording", live.len(), replayed.len());
        fs::remove_file(path).unwrap();
    }
}

/// The recorder has no time to end its file.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_killed_recorder_leaves_what_it_had() {
    let lab = Lab::new(Family::V4).unwrap();
    let path = fresh("killed");
    let netns = format!("net:[{}]", lab.netns(Side::Client));
    let mut child =
        support::command(&["record", "--netns", &netns]).arg(&path).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.contains("recording to"), "{line}");
    mixed(&lab, 50);
    let closes = || {
        let output = view(&["watch", "--only", "closes", "--format", "json"], &path);
        let text = String::from_utf8(output.stdout).unwrap();
        (text.lines().filter(|line| line.contains("\"type\":\"close\"")).count(), output.stderr)
    };
    // It is read while it is written.
    let deadline = Instant::now() + support::PATIENCE;
    while closes().0 < 50 {
        assert!(Instant::now() < deadline, "the closes of 50 connections are not in the file");
        thread::sleep(Duration::from_millis(50));
    }
    support::signal(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    let (count, err) = closes();
    let err = String::from_utf8_lossy(&err).into_owned();
    assert!(count >= 50, "{count}");
    assert!(err.contains("cut off") || err.contains("not ended"), "{err}");
    fs::remove_file(path).unwrap();
}
