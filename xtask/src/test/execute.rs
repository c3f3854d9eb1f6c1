//! Runs test executables the way cargo does, streams what they print, and keeps it to be counted.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::libtest::{self, Counts, Ignored};
use crate::{artifacts::Executable, root::Access, tools::Tools, workspace};

/// How long the output may stay open after a test executable ended. A process that a failed test left
/// behind holds it open, and must not hold us up for ever.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 2000 });

/// One run of an executable.
pub struct Run {
    /// What it comes to.
    pub counts: Counts,
    /// What it did not run.
    pub ignored: Vec<Ignored>,
}

/// Runs what needs no root, in parallel.
pub fn as_anyone(tools: &Tools, executable: &Executable, filter: Option<&str>) -> Result<Run> {
    heading(&executable.label());
    let mut command = tools.command(&executable.path);
    command.args(filter);
    run(in_its_package(&mut command, executable), 0, Which::Last, io::stdout())
}

/// Runs the named tests, which need something that is there, and no root.
pub fn with_tools(tools: &Tools, executable: &Executable, tests: &[Ignored]) -> Result<Run> {
    heading(&format!("{}, with tools", executable.label()));
    let mut command = tools.command(&executable.path);
    command.args(["--ignored", "--exact"]).args(tests.iter().map(|test| &test.name));
    run(in_its_package(&mut command, executable), tests.len(), Which::Last, io::stdout())
}

/// Runs the named tests as root, one at a time: they share the kernel's tracepoints.
pub fn as_root(tools: &Tools, executable: &Executable, tests: &[Ignored], access: Access) -> Result<Run> {
    heading(&format!("{}, as root", executable.label()));
    let mut command = match access {
        Access::Sudo => {
            let mut sudo = tools.command("sudo");
            // sudo sets a PATH of its own even with -E, so what we set is given again behind it.
            sudo.args(["-n", "-E", "env"]);
            let variables = tools.variables().iter().map(|(key, value)| (*key, value.as_os_str()));
            for (key, value) in variables.chain([("PATH", tools.path())]) {
                let mut word = OsString::from(key);
                word.push("=");
                word.push(value);
                sudo.arg(word);
            }
            sudo.arg(&executable.path);
            sudo
        }
        Access::Already | Access::None => tools.command(&executable.path),
    };
    command.args(["--ignored", "--exact", "--test-threads=1"]);
    command.args(tests.iter().map(|test| &test.name));
    run(in_its_package(&mut command, executable), tests.len(), Which::Last, io::stdout())
}

/// Runs the doc tests; only cargo can.
pub fn doc_tests(tools: &Tools, filter: Option<&str>) -> Result<Run> {
    heading("doc tests");
    let mut cargo = tools.cargo();
    cargo.args(["test", "--workspace", "--doc"]).args(workspace::OPTIONAL);
    cargo.args(["--no-fail-fast", "--", "--color=never"]).args(filter);
    run(&mut cargo, 0, Which::All, io::stdout())
}

/// Which result lines are the harness's own: one executable has one, doc tests one for each library.
enum Which {
    Last,
    All,
}

fn run(command: &mut Command, asked: usize, which: Which, out: impl Write + Send + 'static) -> Result<Run> {
    let (output, status) = stream(command, out)?;
    let mut results = libtest::results(&output);
    if matches!(which, Which::Last) {
        results.drain(..results.len().saturating_sub(1));
    }
    if results.is_empty() {
        eprintln!("error: the tests ended without a result ({status})");
    }
    let counts = libtest::judge(&results, status.success(), asked);
    Ok(Run { counts, ignored: libtest::ignored(&output) })
}

/// As cargo runs it: in the folder of its package, which it is told as well.
fn in_its_package<'a>(command: &'a mut Command, executable: &Executable) -> &'a mut Command {
    command.current_dir(&executable.package_dir).env("CARGO_MANIFEST_DIR", &executable.package_dir)
}

fn heading(text: &str) {
    let mut out = io::stdout().lock();
    // A reader that went away is not our problem.
    let _ = writeln!(out, "\n--- {text}").and_then(|()| out.flush());
}

/// Runs a command; what it prints is passed on as it comes, and returned.
fn stream(command: &mut Command, out: impl Write + Send + 'static) -> Result<(String, ExitStatus)> {
    let start = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = start.with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let output = child.stdout.take().context("no output to read")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || pass_on(output, out, &sender));

    let status = child.wait()?;
    let mut bytes = Vec::new();
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(chunk) => bytes.extend::<Vec<u8>>(chunk),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                eprintln!("warning: a test left a process behind, which still holds its output open");
                break;
            }
        }
    }
    Ok((String::from_utf8_lossy(&bytes).into_owned(), status))
}

fn pass_on(mut output: impl Read, mut out: impl Write, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        let chunk = &buffer[..length];
        // A reader that went away is not our problem: the tests must still be counted.
        let _ = out.write_all(chunk).and_then(|()| out.flush());
        if sender.send(chunk.to_vec()).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status_come_back() {
        let (output, status) = stream(&mut shell("echo one; echo two; exit 3"), io::sink()).unwrap();
        assert_eq!((output.as_str(), status.code()), ("one\ntwo\n", Some(3)));
    }

    #[test]
    fn a_process_left_behind_does_not_hold_us_up() {
        let mut command = shell("echo done; sleep 1 & exit 0");
        let (output, status) = stream(&mut command, io::sink()).unwrap();
        assert_eq!(output, "done\n");
        assert!(status.success());
    }

    #[test]
    fn an_executable_without_a_result_line_failed() {
        let ran = run(&mut shell("true"), 0, Which::Last, io::sink()).unwrap();
        assert_eq!(ran.counts, Counts { passed: 0, failed: 1, ignored: 0 });
    }
}
