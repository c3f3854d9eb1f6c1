//! A tracer as users run it: the program itself, its NDJSON read as it comes.
#![allow(dead_code)] // each test binary uses its own part
#![allow(clippy::expect_used)] // a test that cannot go on says so

use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};
use tcptrace_lab::{Lab, Side};

/// Long enough for a loaded machine; nothing waits that long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A running `tcptrace watch --format json`.
pub struct Tracer {
    child: Child,
    incoming: Receiver<String>,
    /// Every line so far, the first one (`start`) included.
    pub lines: Vec<Value>,
}

impl Tracer {
    /// Starts it, and waits until it traces.
    pub fn start(args: &[&str]) -> Self {
        Self::run(command(&["watch", "--format", "json"]).args(args))
    }

    /// Likewise, but it does not find the kernel's type information.
    pub fn start_untyped(args: &[&str]) -> Self {
        let mut command = command(&["watch", "--format", "json"]);
        // SAFETY: only system calls; the names are constants.
        unsafe { command.pre_exec(|| hide_types().map_err(std::io::Error::from)) };
        Self::run(command.args(args))
    }

    fn run(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("tcptrace starts");
        let stdout = child.stdout.take().expect("piped");
        let (send, incoming) = channel();
        thread::spawn(move || {
            // Only collected here, parsed later: a reader that thinks would hold the tracer up.
            for line in BufReader::with_capacity(1 << 20, stdout).lines() {
                if send.send(line.expect("readable output")).is_err() {
                    return;
                }
            }
        });
        let mut tracer = Self { child, incoming, lines: Vec::new() };
        tracer.wait_for("the start line", |line| line["type"] == "start");
        tracer
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a line, old or new, is the one.
    pub fn wait_for(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.wait_until(what, |lines| lines.iter().find(|line| is(line)).cloned())
    }

    /// Waits until the lines so far have something.
    pub fn wait_until<T>(&mut self, what: &str, mut found: impl FnMut(&[Value]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(&self.lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.incoming.recv_timeout(left) {
                Ok(line) => self.lines.push(parse(&line)),
                Err(RecvTimeoutError::Timeout) => panic!("{what} did not come; seen:\n{}", text(&self.lines)),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the tracer ended before {what}:\n{}", text(&self.lines))
                }
            }
        }
    }

    /// Interrupts it, as Ctrl-C does; every line, and the summary.
    pub fn stop(mut self) -> (Vec<Value>, Value) {
        signal(self.pid(), nix::sys::signal::Signal::SIGINT);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
        self.lines.extend(self.incoming.iter().map(|line| parse(&line)));
        let summary = self.lines.pop().expect("a summary");
        assert_eq!(summary["type"], "summary", "{summary}");
        (std::mem::take(&mut self.lines), summary)
    }
}

/// For this process and its children alone.
fn hide_types() -> nix::Result<()> {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("/dev/null"), "/sys/kernel/btf/vmlinux", none, MsFlags::MS_BIND, none)
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("not JSON ({error}): {line}"))
}

/// Runs it again, twice at most, if it fails. For what waits on single events from the kernel's timers: on one virtual
/// machine such events did not reach any BPF program (tp_btf, raw or classic, with no counter showing it) when the timer
/// had interrupted a certain process, while tracefs showed them. What fails for a reason of ours fails three times.
pub fn patiently(run: impl Fn()) {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for attempt in 1..3 {
        if catch_unwind(AssertUnwindSafe(&run)).is_ok() {
            return;
        }
        println!("attempt {attempt} failed; once more");
    }
    run();
}

/// Every pair of states of an orderly life, on either side.
pub const LIFE: [(&str, &str); 10] = [
    ("CLOSE", "SYN_SENT"),
    ("SYN_SENT", "ESTABLISHED"),
    ("LISTEN", "SYN_RECV"),
    ("SYN_RECV", "ESTABLISHED"),
    ("ESTABLISHED", "FIN_WAIT1"),
    ("ESTABLISHED", "CLOSE_WAIT"),
    ("FIN_WAIT1", "FIN_WAIT2"),
    ("FIN_WAIT2", "CLOSE"),
    ("CLOSE_WAIT", "LAST_ACK"),
    ("LAST_ACK", "CLOSE"),
];

/// Opens, uses and closes connections on the loopback of a lab host, from port 10000 on to so many listeners, in turn: the
/// client closes first, and its port is held by TIME_WAIT for a minute. Returns both ends of `open` more, which stay open.
pub fn connections(lab: &Lab, count: u64, listeners: u16, open: u64) -> Vec<TcpStream> {
    let run = move || {
        let bind = |number| TcpListener::bind(("127.0.0.1", 10_000 + number)).expect("a free port");
        let listeners: Vec<_> = (0..listeners).map(bind).collect();
        let connect = |number: u64| {
            let listener = &listeners[(number % listeners.len() as u64) as usize];
            let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it connects");
            (client, listener.accept().expect("it is there").0)
        };
        let mut byte = [0; 1];
        for number in 0..count {
            let (mut client, mut server) = connect(number);
            client.write_all(b"?").expect("sent");
            server.read_exact(&mut byte).expect("received");
            drop(client);
            assert_eq!(server.read(&mut byte).expect("the end"), 0);
        }
        (0..open).flat_map(|number| <[TcpStream; 2]>::from(connect(number))).collect()
    };
    lab.run_in(Side::Client, run).expect("the host runs it")
}

/// The program with these arguments.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcptrace"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Sends a signal to a process that we started.
pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).expect("our own process");
}

/// Lines as text, for messages.
pub fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The lines of one type.
pub fn of_type<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == kind).collect()
}

/// The state changes that events told.
pub fn events(lines: &[Value]) -> Vec<&Value> {
    of_type(lines, "transition").into_iter().filter(|line| line["inferred"] == false).collect()
}

/// The argument that names a network namespace by its inode number.
pub fn netns(number: u32) -> String {
    format!("net:[{number}]")
}

/// The states of one flow, from its events: the first old one, then each new one. Self-transitions, and what was
/// inferred, left out.
pub fn path(lines: &[Value], flow: &Value) -> Vec<String> {
    let mut path = Vec::new();
    for line in of_type(lines, "transition").into_iter().filter(|line| line["flow"] == *flow) {
        if line["old"] == line["new"] || line["inferred"] == true {
            continue;
        }
        if path.is_empty() {
            path.push(line["old"].as_str().expect("a state").to_owned());
        }
        path.push(line["new"].as_str().expect("a state").to_owned());
    }
    path
}

/// The flow with this role in this namespace.
pub fn flow_of(lines: &[Value], netns: u32, role: &str) -> Option<Value> {
    let mine = |line: &&Value| line["type"] == "transition" && line["netns"] == netns && line["role"] == role;
    lines.iter().find(mine).map(|line| line["flow"].clone())
}

/// The state that a flow is in now as the lines tell it, minisockets included; `None`: it is gone, or not yet there.
pub fn state_now(lines: &[Value], flow: &Value) -> Option<String> {
    let mine = |line: &&Value| line["flow"] == *flow;
    let state = lines.iter().filter(mine).rev().find(|line| line["type"] == "transition")?["new"].as_str()?;
    (state != "CLOSE").then(|| state.to_owned())
}
