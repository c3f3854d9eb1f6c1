//! A process of ours that makes work for the kernel. It ends with us.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::signal::Signal;

use super::space::Space;
use crate::bench::process::end_with_us;

/// Options of a process of ours.
#[derive(Args)]
pub struct Seed {
    /// What happens follows from it
    #[arg(long)]
    pub seed: u64,
}

/// A running process, and whoever counts its lines.
pub struct Worker {
    child: Child,
    lines: Option<JoinHandle<u64>>,
}

impl Worker {
    /// Does nothing in a namespace.
    pub fn keeper(space: &Space) -> Result<Self> {
        let mut command = Command::new("sleep");
        command.arg("infinity");
        space.place(&mut command)?;
        Self::start(command)
    }

    /// Connections in a namespace.
    pub fn load(space: &Space, seed: u64) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["soak-load", "--seed", &seed.to_string()]);
        space.place(&mut command)?;
        Self::start(command)
    }

    /// Namespaces.
    pub fn churn(seed: u64) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command.args(["soak-churn", "--seed", &seed.to_string()]);
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self> {
        end_with_us(&mut command, Signal::SIGKILL);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("a process of the load does not start")?;
        let out = child.stdout.take().context("it has no output")?;
        let lines = thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).take_while(|line| line != "done").count() as u64
        });
        Ok(Self { child, lines: Some(lines) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It makes no more; what it has open stays.
    pub fn finish(&mut self) -> Result<()> {
        self.child.stdin = None;
        self.lines();
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "a process of the load has ended: {ended:?}");
        Ok(())
    }

    /// Kills it. How many lines it wrote.
    pub fn end(&mut self) -> u64 {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.lines()
    }

    fn lines(&mut self) -> u64 {
        self.lines.take().and_then(|lines| lines.join().ok()).unwrap_or(0)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}
