//! The network namespace that the load lives in; we stay outside, and so do the tracers.

use std::{
    fs::{self, File},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result};

use crate::{
    bench::{loopback, process::start_inside},
    tools::output_of,
};

/// Connections in TIME_WAIT that the namespace may have: more are there than a look can miss, fewer than it has ports.
const TIME_WAITS: &str = "4096";

/// A namespace with nothing but loopback. It goes with the last who is in it, or has it open.
pub struct Space(File);

impl Space {
    /// Makes one.
    pub fn make() -> Result<Self> {
        let made = thread::spawn(|| -> Result<File> {
            loopback::enter()?;
            fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", TIME_WAITS)
                .context("tcp_max_tw_buckets cannot be set")?;
            File::open("/proc/thread-self/ns/net").context("the new namespace cannot be opened")
        });
        Ok(Self(made.join().map_err(|_| anyhow::anyhow!("no namespace was made"))??))
    }

    /// The command will run in it.
    pub fn place(&self, command: &mut Command) -> Result<()> {
        start_inside(command, &self.0)
    }

    /// What a program says in it.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.place(&mut command)?;
        output_of(&mut command)
    }
}
