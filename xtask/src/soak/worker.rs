//! A process of ours that makes work for the kernel. It ends with us.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{prctl, signal::Signal};

use super::space::Space;

/// A running process, and whoever counts its lines.
pub struct Worker {
    child: Mutex<Child>,
    pid: u32,
    lines: Mutex<Option<JoinHandle<u64>>>,
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
        // SAFETY: one system call, which is allowed between fork and exec.
        unsafe {
            command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.context("a process of the load does not start")?;
        let out = child.stdout.take().context("it has no output")?;
        let lines = thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).take_while(|line| line != "done").count() as u64
        });
        Ok(Self { pid: child.id(), child: Mutex::new(child), lines: Mutex::new(Some(lines)) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// It makes no more; what it has open stays.
    pub fn finish(&self) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.stdin = None;
        self.lines();
        let ended = child.try_wait()?;
        ensure!(ended.is_none(), "a process of the load has ended: {ended:?}");
        Ok(())
    }

    /// Kills it. How many lines it wrote.
    pub fn end(&self) -> u64 {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        self.lines()
    }

    fn lines(&self) -> u64 {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        lines.and_then(|lines| lines.join().ok()).unwrap_or(0)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}
