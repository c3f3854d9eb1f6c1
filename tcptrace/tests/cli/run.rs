//! Running the program, and what came of it.

use crate::support::{PATIENCE, command, signal};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, PipeWriter, Read, pipe},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio, id},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Instant,
};

pub const COMMANDS: [&str; 13] = [
    "watch",
    "record",
    "stat",
    "stuck",
    "explain",
    "hist",
    "diff",
    "convert",
    "kill",
    "export",
    "lab",
    "doctor",
    "completions",
];
/// An address and a port of our own: without type information nothing else tells our host from others.
pub const SERVICE: &str = "127.77.0.1:17777";

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub out: Vec<String>,
    pub err: Vec<String>,
}

impl Ran {
    /// It ended with this code, and did not panic.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(!self.stderr().contains("panicked"), "{self:#?}");
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    pub fn stdout(&self) -> String {
        self.out.join("\n")
    }

    pub fn stderr(&self) -> String {
        self.err.join("\n")
    }

    /// Its lines as JSON, each with what every line has.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        self.out.iter().map(|line| json(line)).collect()
    }
}

/// A line of the output for machines, with what every one of them has (docs/events.md).
#[track_caller]
pub fn json(line: &str) -> Value {
    let value: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"));
    assert_eq!(value["v"], 1, "{line}");
    assert!(value["type"].is_string(), "{line}");
    assert!(value["mono_ns"].is_u64(), "{line}");
    let time = value["time"].as_str().map(str::parse::<jiff::Timestamp>);
    assert!(matches!(time, Some(Ok(_))), "{line}");
    value
}

/// Lines that are collected as they come.
pub struct Stream {
    pub incoming: Receiver<String>,
    pub lines: Vec<String>,
}

impl Stream {
    pub fn of(source: impl Read + Send + 'static) -> Self {
        let (send, incoming) = channel();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            // A terminal whose other end is closed gives an error: that is its end.
            while source.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
                if send.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { incoming, lines: Vec::new() }
    }

    /// Waits for a line, old or new. False: it did not come.
    pub fn wait(&mut self, is: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.lines.iter().any(|line| is(line)) {
            match self.incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.lines.push(line),
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits for the end. False: it is still open.
    pub fn wait_for_the_end(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

/// The program at work; killed when a test gives up on it.
pub struct Running {
    pub child: Child,
    pub out: Stream,
    pub err: Stream,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = Stream::of(child.stdout.take().expect("piped"));
        let err = Stream::of(child.stderr.take().expect("piped"));
        Self { child, out, err }
    }

    /// Starts a trace, and waits until everything is attached.
    pub fn watch<S: AsRef<OsStr>>(args: &[S]) -> Self {
        let mut running = Self::start(program(&[OsStr::new("watch")], args));
        let json = args.iter().any(|arg| arg.as_ref() == "json");
        let ready = match json {
            true => running.out.wait(|line| line.contains(r#""type":"start""#)),
            false => running.err.wait(|line| line.contains("watching through")),
        };
        if !ready {
            let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
            panic!("it does not start: {args:?}: {:#?}", running.end(Some(Signal::SIGKILL)));
        }
        running
    }

    pub fn end(mut self, how: Option<Signal>) -> Ran {
        if let Some(how) = how {
            signal(self.child.id(), how);
        }
        let ended = self.out.wait_for_the_end() && self.err.wait_for_the_end();
        let (out, err) = (std::mem::take(&mut self.out.lines), std::mem::take(&mut self.err.lines));
        assert!(ended, "it does not end: {out:#?} {err:#?}");
        Ran { status: self.child.wait().expect("it ends"), out, err }
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn stop(self) -> Ran {
        self.end(Some(Signal::SIGINT))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, in surroundings that do not depend on who runs the tests.
pub fn program<A: AsRef<OsStr>, B: AsRef<OsStr>>(first: &[A], rest: &[B]) -> Command {
    let mut command = command(&[]);
    command.args(first).args(rest);
    command.env_remove("NO_COLOR").env_remove("COLUMNS").env_remove("TCPTRACE_LOG");
    command
}

/// Runs it to its end.
pub fn run(args: &[&str]) -> Ran {
    let none: [&str; 0] = [];
    Running::start(program(args, &none)).end(None)
}

/// Waits for a process that has nothing to be read from.
pub fn exit_of(mut child: Child) -> ExitStatus {
    let pid = child.id();
    let (send, ended) = channel();
    thread::spawn(move || send.send(child.wait().expect("it ends")));
    ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        signal(pid, Signal::SIGKILL);
        panic!("it does not end");
    })
}

/// A pipe that nobody reads.
pub fn closed_pipe() -> PipeWriter {
    pipe().expect("a pipe").1
}

/// A new folder that everyone may read, gone afterwards.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tcptrace-cli-{}-{}", id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).expect("written");
        path.to_str().expect("a plain name").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The program as run by someone without privileges, copied to where they can reach it if need be.
pub struct Unprivileged {
    pub program: PathBuf,
    pub folder: Option<Folder>,
}

impl Unprivileged {
    pub fn new() -> Self {
        let mut this = Self { program: env!("CARGO_BIN_EXE_tcptrace").into(), folder: None };
        let mut try_it = this.command(&["--version"]);
        if try_it.stdout(Stdio::null()).status().is_err() {
            let folder = Folder::new();
            let copy = folder.0.join("tcptrace");
            // Not by ourselves: a file that another test's child still holds open for writing cannot be run.
            let install = Command::new("install").args(["-m", "755"]).arg(&this.program).arg(&copy).status();
            assert!(install.expect("`install` runs").success());
            this = Self { program: copy, folder: Some(folder) };
        }
        this
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null()).current_dir("/").env_remove("NO_COLOR");
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        let _kept = &self.folder;
        Running::start(self.command(args)).end(None)
    }
}

/// Runs it with its standard output on a terminal; what stands there.
pub fn on_a_terminal(mut command: Command) -> String {
    let (mut ours, mut its) = (-1, -1);
    let none = std::ptr::null_mut();
    // SAFETY: both ends are places for one number each; name, settings and size may be null.
    let made = unsafe { libc::openpty(&mut ours, &mut its, none, none.cast(), none.cast()) };
    assert_eq!(made, 0, "a terminal");
    // SAFETY: openpty made these two just now, and nobody else knows them.
    let (ours, its) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(its)) };
    let child = command.stdout(its).stderr(Stdio::null()).spawn().expect("it starts");
    drop(command); // holds its end of the terminal
    let mut out = Stream::of(fs::File::from(ours));
    assert!(out.wait_for_the_end(), "{:#?}", out.lines);
    assert!(exit_of(child).success());
    out.lines.join("\n")
}

/// The flags that a help text lists, without those that every command has.
pub fn flags(help: &str) -> BTreeSet<String> {
    let names = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let long = line.strip_prefix("-h, ").or_else(|| line.strip_prefix("-V, ")).unwrap_or(line);
        let name = long.strip_prefix("--")?.split_whitespace().next()?;
        Some(format!("--{name}"))
    });
    names.filter(|name| !["--help", "--version"].contains(&name.as_str())).collect()
}

/// The words that a flag takes, where a short help (`-h`) lists them.
pub fn words(help: &str, flag: &str) -> Vec<String> {
    let text: Vec<_> = help.split_whitespace().collect();
    let at = text.iter().position(|word| *word == flag).expect("listed");
    let end =
        text[at + 1..].iter().position(|word| word.starts_with("--")).map_or(text.len(), |n| at + 1 + n);
    let text = text[at..end].join(" ");
    let listed = text.split_once("[possible values: ").and_then(|(_, rest)| rest.split_once(']'));
    listed.map(|(words, _)| words.split(", ").map(str::to_owned).collect()).unwrap_or_default()
}
