//! What each thread of a running program has left.

use crate::{
    TRACING, maps_need_no_capability, run, started,
    support::connections,
    unprivileged::{NOBODY, as_nobody, mask, threads},
};
use caps::Capability::{CAP_BPF, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_ADMIN, CAP_SYS_PTRACE};
use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};
use tcptrace_lab::{Family, Lab};

/// A folder that is nobody's alone.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcptrace-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).expect("a folder");
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Another file is begun where root alone, without any capability, could not: by the thread that keeps what that takes.
#[test]
#[ignore = "needs root: loads BPF programs"]
fn a_recording_goes_on_in_somebody_elses_folder() {
    let folder = Folder::new("rotates");
    let path = folder.file("a.tct");
    let mut command = run::program(&["record", "--rotate", "1s", &path], &[""; 0]);
    command.env("SUDO_UID", NOBODY.to_string()).env("SUDO_GID", NOBODY.to_string());
    let mut recorder = run::Running::start(command);
    assert!(recorder.err.wait(|line| line.contains("recording to")), "{:#?}", recorder.err.lines);
    let maps = if maps_need_no_capability() { 0 } else { mask(&[CAP_BPF]) };
    for status in threads(recorder.child.id()) {
        let kept = match status.thread.as_str() {
            "record" => mask(&[CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER]),
            _ => mask(&[CAP_SYS_ADMIN, CAP_SYS_PTRACE]) | maps,
        };
        assert_eq!(status.effective & !kept, 0, "{status:?}");
        assert!(status.no_new_privileges && status.filtered, "{status:?}");
    }
    let deadline = Instant::now() + crate::support::PATIENCE;
    let second = loop {
        match fs::metadata(format!("{path}.1")) {
            Ok(second) => break second,
            Err(_) => assert!(Instant::now() < deadline, "no further file is begun"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(second.uid(), NOBODY, "it is theirs who typed sudo");
    recorder.stop().expect(0);
}

#[test]
#[ignore = "needs root: becomes nobody with two capabilities, and makes network namespaces"]
fn nobody_records_and_looks_at_it() {
    let (lab, folder) = (Lab::new(Family::V4).expect("a lab"), Folder::new("records"));
    let path = folder.file("a.tct");
    let mut recorder = started(&lab, as_nobody(&["record", &path], &TRACING));
    assert!(recorder.err.wait(|line| line.contains("recording to")), "{:#?}", recorder.err.lines);
    connections(&lab, 5, 1, 0);
    recorder.stop().expect(0);
    let replayed =
        run::Running::start(as_nobody(&["watch", "--from", &path, "--summary"], &[])).end(None).expect(0);
    assert!(replayed.stdout().contains("closed: orderly"), "{replayed:#?}");
}

#[test]
#[ignore = "needs root: becomes nobody with two capabilities, and makes network namespaces"]
fn the_threads_of_an_exporter_have_nothing() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let args = ["export", "--listen", "127.0.0.1:0", "--otlp", "http://127.0.0.1:9"];
    let mut exporter = started(&lab, as_nobody(&args, &TRACING));
    assert!(exporter.err.wait(|line| line.contains("pushing to")), "{:#?}", exporter.err.lines);
    // The first snapshot is pushed, or tried to be, when it is confined.
    assert!(exporter.err.wait(|line| line.contains("Connection refused")), "{:#?}", exporter.err.lines);
    let all = threads(exporter.child.id());
    for name in ["http", "otlp"] {
        assert!(all.iter().any(|status| status.thread == name), "{name}: {all:#?}");
    }
    // The main thread may keep CAP_BPF for its maps, the others nothing.
    for status in all.iter().filter(|status| ["http", "otlp"].contains(&status.thread.as_str())) {
        assert_eq!((status.effective, status.permitted), (0, 0), "{status:?}");
        assert!(status.no_new_privileges && status.filtered, "{status:?}");
    }
    exporter.stop().expect(0);
}

#[test]
#[ignore = "needs root: loads BPF programs"]
fn without_the_sandbox_everything_is_kept() {
    let before = mask(&[CAP_SYS_ADMIN, CAP_DAC_OVERRIDE]);
    let tracer = run::Running::watch(&["--no-sandbox", "--port", "1"]);
    for status in threads(tracer.child.id()) {
        assert_eq!(status.effective & before, before, "{status:?}");
        assert!(!status.no_new_privileges && !status.filtered, "{status:?}");
    }
    tracer.stop().expect(0);
}
