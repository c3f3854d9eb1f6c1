//! `tcptrace stuck --watch --format json` as users run it: its looks, one after the other.
#![allow(dead_code)] // each test binary uses its own part

use crate::support::{command, signal};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// Longer than any look takes on a loaded machine, and than four expiries of a timer whose first time-out is 3 s, as after
/// a SYN that was lost (45 s).
const PATIENCE: Duration = Duration::from_secs(90);

/// One look: its findings, and the line that ends it.
#[derive(Clone, Debug)]
pub struct Look {
    /// Lines `finding`.
    pub findings: Vec<Value>,
    /// The line `stuck`.
    pub end: Value,
}

impl Look {
    /// Names of the findings, each with its namespace; sorted, each once.
    pub fn names(&self) -> Vec<(u64, String)> {
        let name = |line: &Value| {
            (line["netns"].as_u64().unwrap_or(0), line["name"].as_str().unwrap_or("").to_owned())
        };
        let mut names: Vec<_> = self.findings.iter().map(name).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The only finding of this name.
    pub fn one(&self, name: &str) -> &Value {
        let found: Vec<_> = self.findings.iter().filter(|line| line["name"] == name).collect();
        assert_eq!(found.len(), 1, "{name}: {:#?}", self.findings);
        found[0]
    }
}

/// A running `stuck --watch`.
pub struct Looks {
    child: Child,
    incoming: Receiver<String>,
    so_far: Vec<Value>,
}

impl Looks {
    /// Starts it, and waits for its first look.
    pub fn start(args: &[&str]) -> Self {
        let mut child = command(&["stuck", "--watch", "300ms", "--format", "json"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("tcptrace starts");
        let stdout = child.stdout.take().expect("piped");
        let (send, incoming) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let mut looks = Self { child, incoming, so_far: Vec::new() };
        looks.next();
        looks
    }

    /// The next look, if one has come.
    pub fn next_if_any(&mut self) -> Option<Look> {
        loop {
            let line = self.incoming.try_recv().ok()?;
            if let Some(look) = self.take(&line) {
                return Some(look);
            }
        }
    }

    fn take(&mut self, line: &str) -> Option<Look> {
        let line: Value = serde_json::from_str(line).expect("JSON");
        if line["type"] == "stuck" {
            return Some(Look { findings: std::mem::take(&mut self.so_far), end: line });
        }
        self.so_far.push(line);
        None
    }

    /// The next look that comes.
    pub fn next(&mut self) -> Look {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .incoming
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("no look came: {error}; {:?}", self.so_far));
            if let Some(look) = self.take(&line) {
                return look;
            }
        }
    }

    /// A look that began after now.
    pub fn fresh(&mut self) -> Look {
        while self.incoming.try_recv().is_ok_and(|line| {
            self.so_far.push(serde_json::from_str(&line).expect("JSON"));
            true
        }) {}
        self.so_far.clear();
        self.next(); // may have begun before
        self.next()
    }

    /// The first look that satisfies; panics with the last one otherwise.
    pub fn wait_for(&mut self, what: &str, is: impl Fn(&Look) -> bool) -> Look {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let look = self.next();
            if is(&look) {
                return look;
            }
            assert!(Instant::now() < deadline, "{what} did not come: {look:#?}");
        }
    }

    /// Ends it; its exit code.
    pub fn stop(mut self) -> Option<i32> {
        signal(self.child.id(), nix::sys::signal::Signal::SIGINT);
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
