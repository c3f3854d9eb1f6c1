//! A machine in QEMU, emulated, so that it runs everywhere: its messages as they come, and an end to it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::plan::Message;

/// Processors and memory of a guest.
const PROCESSORS: &str = "2";
const MEMORY: &str = "2G";
/// For all kernels. Quiet, or the console takes longer than the rest; a panic ends the machine.
const KERNEL_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on mitigations=off nowatchdog rcupdate.rcu_cpu_stall_suppress=1";

/// What is booted.
#[derive(Debug)]
pub struct Boot<'a> {
    /// The kernel.
    pub image: &'a Path,
    /// More words for the kernel.
    pub line: &'a str,
    /// The file system.
    pub files: &'a Path,
    /// Where what the kernel prints goes.
    pub console: &'a Path,
}

/// A running machine. Dropping it ends it.
pub struct Machine {
    qemu: Child,
    messages: Receiver<Message>,
}

/// What came next.
pub enum Next {
    /// A message.
    Message(Message),
    /// None, and none will come: it has ended.
    Ended,
    /// None for so long.
    Silent,
}

impl Machine {
    /// Starts it with this command of QEMU.
    pub fn start(mut command: Command, boot: &Boot<'_>) -> Result<Self> {
        // Without cmpxchg16b, which the slab allocator uses each time: emulated, it may stop all processors.
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max,cx16=off"]);
        command.args(["-smp", PROCESSORS, "-m", MEMORY, "-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-serial").arg(format!("file:{}", boot.console.display()));
        command.args(["-chardev", "stdio,id=messages,signal=off", "-serial", "chardev:messages"]);
        command.arg("-kernel").arg(boot.image).arg("-initrd").arg(boot.files);
        // What stands behind `--` is for the first process.
        command.arg("-append").arg(format!("{KERNEL_LINE} {} -- guest", boot.line));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut qemu = command.spawn().context("QEMU does not start")?;
        let output = qemu.stdout.take().context("QEMU has no output")?;
        let (tell, messages) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while let Ok(1..) = output.read_until(b'\n', &mut line) {
                if let Some(message) = Message::parse(&String::from_utf8_lossy(&line))
                    && tell.send(message).is_err()
                {
                    return;
                }
                line.clear();
            }
        });
        Ok(Self { qemu, messages })
    }

    /// Waits for the next message.
    pub fn next(&self, patience: Duration) -> Next {
        match self.messages.recv_timeout(patience) {
            Ok(message) => Next::Message(message),
            Err(RecvTimeoutError::Disconnected) => Next::Ended,
            Err(RecvTimeoutError::Timeout) => Next::Silent,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
