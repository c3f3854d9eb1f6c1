//! The population, seen from the process that measures: starts it, knows its namespace, ends it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Sockets that are there. Dropping it ends them.
pub struct Crowd {
    child: Child,
    /// Their network namespace.
    pub netns: File,
    /// Where that is.
    pub path: String,
    /// How many processes hold them.
    pub processes: u64,
}

impl Crowd {
    /// Makes them; returns when all are there.
    pub fn gather(sockets: u64) -> Result<Self> {
        // This very program, even if cargo has replaced its file since.
        let mut command = Command::new("/proc/self/exe");
        command.args(["bench", "population", "--sockets", &sockets.to_string()]);
        // Its input is open as long as the child is kept: the end of it ends the population.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the population does not start")?;
        let out = child.stdout.take().context("the population has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).context("the population cannot be heard")?;
        if line.is_empty() {
            let _ = child.wait();
        }
        ensure!(!line.is_empty(), "the population has ended: it said why above");
        let answer: Value =
            serde_json::from_str(&line).with_context(|| format!("the population said {line:?}"))?;
        let processes = answer["processes"].as_u64().context("the population counts no processes")?;
        let path = format!("/proc/{}/ns/net", child.id());
        let netns = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        Ok(Self { child, netns, path, processes })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.child.stdin = None;
        let _ = self.child.wait();
    }
}
