//! Every recording through every view: the output is the one that is kept beside it.
//!
//! `TCPTRACE_BLESS=1` writes it anew. `TCPTRACE_RECORD=1` as root makes the recordings themselves anew, from the lab.

use crate::{support, view};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// The views, and what each of them is given.
const VIEWS: [&[&str]; 10] = [
    &["watch"],
    &["watch", "--format", "json"],
    &["watch", "--summary", "--port", "10000"],
    &["stuck", "-v", "--older-than", "1ms"],
    &["stuck", "--watch", "--format", "json"],
    &["stat", "--all-netns", "--by", "process"],
    &["stat", "500ms", "--all-netns", "--format", "json"],
    &["explain", "10000"],
    &["hist"],
    &["hist", "--by", "role", "--format", "json"],
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/lab")
}

fn recordings() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut recordings: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "tct")).collect();
    recordings.sort();
    recordings
}

/// All that the views say of a recording.
fn told(recording: &Path) -> String {
    let mut told = String::new();
    for args in VIEWS {
        let output = view(args, recording);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code();
        let err = text(&output.stderr);
        assert!(!err.contains("panicked"), "{args:?} of {}: {err}", recording.display());
        writeln!(told, "$ tcptrace {} --from FILE", args.join(" ")).unwrap();
        let out = text(&output.stdout);
        if args.contains(&"json") {
            // Long, and the same facts again: what must not change is kept, not what it is.
            let crc = crc32fast::hash(out.as_bytes());
            writeln!(told, "{} lines, {} bytes, CRC {crc:08x}", out.lines().count(), out.len()).unwrap();
        } else {
            told.push_str(&out);
        }
        told.push_str(&err);
        writeln!(told, "exit code {}\n", code.map_or("none".to_owned(), |code| code.to_string())).unwrap();
    }
    let other = folder().join("close-client-first.tct");
    let mut diff = support::command(&["diff"]);
    let output = diff.arg(&other).arg(recording).env("TZ", "UTC").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // They are named by where they are.
    let text = text.replace(&folder().display().to_string(), "…");
    writeln!(told, "$ tcptrace diff close-client-first.tct FILE\n{text}").unwrap();
    told
}

#[test]
fn every_recording_through_every_view() {
    let recordings = recordings();
    assert!(recordings.len() >= 20, "only {} recordings", recordings.len());
    let mut differing = Vec::new();
    for recording in &recordings {
        let told = told(recording);
        let kept = recording.with_extension("txt");
        if std::env::var_os("TCPTRACE_BLESS").is_some() {
            fs::write(&kept, &told).unwrap();
        }
        let expected = fs::read_to_string(&kept).unwrap_or_default();
        if let Some((line, (was, is))) =
            expected.lines().zip(told.lines()).enumerate().find(|(_, (was, is))| was != is)
        {
            differing.push(format!("{}:{}:\n  was {was}\n  is  {is}", kept.display(), line + 1));
        } else if expected != told {
            differing.push(format!("{}: {} bytes were {}", kept.display(), told.len(), expected.len()));
        }
    }
    assert!(
        differing.is_empty(),
        "{}\nif that is meant: TCPTRACE_BLESS=1 cargo test -p tcptrace --test replay",
        differing.join("\n")
    );
}

#[test]
fn the_same_recording_says_the_same_twice() {
    for recording in recordings().iter().take(5) {
        let (one, two) = (told(recording), told(recording));
        let differing = one.lines().zip(two.lines()).find(|(one, two)| one != two);
        assert_eq!(differing, None, "{}", recording.display());
    }
}

/// Every prefix of a recording is one: what is there is told, and that it is not all.
#[test]
fn a_cut_recording_tells_what_is_there() {
    let whole = fs::read(folder().join("lossy.tct")).unwrap();
    let lines = |output: &std::process::Output| output.stdout.split(|byte| *byte == b'\n').count();
    let full = lines(&view(&["watch", "--format", "json"], &folder().join("lossy.tct")));
    let cut = crate::fresh("cut");
    let mut most = 0;
    for part in [3, 10, 50, 90, 99] {
        fs::write(&cut, &whole[..whole.len() * part / 100]).unwrap();
        let output = view(&["watch", "--format", "json"], &cut);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked"), "{err}");
        assert!(!err.is_empty(), "{part} % of the file: nobody says that it is cut off");
        if output.status.success() {
            assert!(lines(&output) >= most && lines(&output) <= full, "{part} %");
            most = lines(&output);
        } else {
            assert_eq!(output.status.code(), Some(2), "{part} %: {err}");
        }
    }
    assert!(most > 3, "nothing was read of 99 % of the file");
    fs::remove_file(cut).unwrap();
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn recordings_are_made() {
    if std::env::var_os("TCPTRACE_RECORD").is_none() {
        // One, to know that it can be done, and that it is as good as those that are kept.
        let path = crate::fresh("lab");
        let output = support::command(&["lab", "refused", "--record"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(told(&path).contains("closed: refused"), "{}", told(&path));
        fs::remove_file(path).unwrap();
        return;
    }
    let list = support::command(&["lab", "--list"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let names = list.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    for name in names.filter_map(|line| line.split_whitespace().next()) {
        let path = folder().join(name).with_extension("tct");
        let _ = fs::remove_file(&path);
        let output = support::command(&["lab", name, "--record"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
