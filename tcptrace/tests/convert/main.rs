//! `tcptrace convert`, as users run it: what a recording becomes is what the other views say of it.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "parquet")]
#[path = "../support/duckdb.rs"]
mod duckdb;
#[cfg(feature = "parquet")]
mod file;
#[cfg(feature = "parquet")]
mod table;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

/// A new folder, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tcptrace-convert-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Recordings of the lab, one a scenario.
fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/lab");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut recordings: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "tct")).collect();
    recordings.sort();
    assert!(!recordings.is_empty());
    recordings
}

/// Runs `convert` on a file, with these arguments behind it.
fn convert(recording: &Path, args: &[&str]) -> Output {
    convert_to(recording, args, Stdio::piped())
}

fn convert_to(recording: &Path, args: &[&str], stdout: Stdio) -> Output {
    let mut command = support::command(&["convert"]);
    command.arg(recording).args(args).env_remove("TCPTRACE_LOG");
    if recording.as_os_str() == "-" {
        command.stdin(File::open(&recordings()[0]).unwrap());
    }
    let output = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert!(!text(&output.stderr).contains("panicked"), "{output:?}");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// It failed and said this, in one line, and nothing else.
#[track_caller]
fn assert_refused(output: &Output, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty() && said.starts_with("tcptrace: "), "{said}");
    words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_it_says_how_to_get_it() {
    let folder = Folder::new("without");
    let path = folder.path("out.parquet");
    let output = convert(&recordings()[0], &["-o", path.to_str().unwrap()]);
    assert_refused(&output, &["without Parquet", "--features parquet", "--format json"]);
    assert!(!path.exists());
}
