//! What a thread gives up when it has all it needs: capabilities first, then files (Landlock), then system calls (seccomp).
//!
//! All three are a thread's own, and threads that it starts later have them, too. So each kind of thread gives up what it
//! does not need itself, and the one that answers strangers has next to nothing. Threads share their memory: this is
//! about what a request, a file or an answer can make a thread do, less about somebody else's code in the process.
//!
//! What this kernel does not have is left out and told (`TCPTRACE_LOG=info`, `tcptrace doctor`); it is never an error.

mod calls;
mod capabilities;
mod files;

use crate::source::{
    netns::Namespace,
    privileges::{Capability, Privileges, kernel_version},
};
use std::{collections::BTreeSet, path::PathBuf};

/// Whether threads give up what they do not need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// They keep everything.
    #[default]
    Off,
    /// They give it up.
    On,
}

/// A kind of thread, by what it does from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Takes what the kernel tells, and asks it: the main thread, once everything is attached.
    Tracer {
        /// Namespaces other than our own are looked for and entered.
        others: bool,
        /// Who holds a socket is read from /proc, for want of the iterator.
        descriptors: bool,
    },
    /// Writes a recording, and begins further files in this folder; `None`: it writes to what is open already.
    Recorder(Option<PathBuf>),
    /// Answers requests on a socket that listens already.
    Server,
    /// Connects to this port of a receiver, whose name it may have to look up.
    Pusher(u16),
}

impl Thread {
    /// The main thread of a trace of these namespaces; none: of all.
    pub fn tracer(wanted: &BTreeSet<u32>, descriptors: bool) -> Self {
        let inode = |namespace: Namespace| namespace.inode();
        let own = Namespace::own().ok().map(inode);
        // Limits of the whole machine are shown in the first namespace alone.
        let first = Namespace::open("1").ok().map(inode);
        let elsewhere = first.is_some() && own != first;
        let others =
            own.is_none() || elsewhere || wanted.is_empty() || wanted.iter().any(|netns| Some(*netns) != own);
        Self::Tracer { others, descriptors }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Tracer { .. } => "main",
            Self::Recorder(_) => "record",
            Self::Server => "http",
            Self::Pusher(_) => "otlp",
        }
    }

    /// Capabilities that it still needs, if the process has them.
    fn kept(&self) -> BTreeSet<Capability> {
        match self {
            Self::Tracer { others, descriptors } => {
                let namespaces = [Capability::SysAdmin, Capability::SysPtrace];
                let processes = [Capability::SysPtrace, Capability::DacReadSearch];
                let maps = needs_bpf_for_maps().then_some(Capability::Bpf);
                let namespaces = others.then_some(namespaces).into_iter().flatten();
                let processes = descriptors.then_some(processes).into_iter().flatten();
                namespaces.chain(processes).chain(maps).collect()
            }
            // Root may write into a folder of somebody else, and hands files over to whoever typed `sudo`.
            Self::Recorder(Some(_)) => {
                [Capability::DacOverride, Capability::Chown, Capability::Fowner].into_iter().collect()
            }
            Self::Recorder(None) | Self::Server | Self::Pusher(_) => BTreeSet::new(),
        }
    }

    /// Whether Landlock can be used. With it a thread may not look into any process that is less confined: neither where its
    /// namespaces are nor what it holds (hook_ptrace_access_check, which also guards reading; 5.13 to 6.18).
    fn landlocked(&self) -> bool {
        let Self::Tracer { others, descriptors } = self else { return true };
        let enters = *others && Privileges::read().enters_namespaces();
        !enters && !descriptors
    }
}

/// Before 5.19 kernel.unprivileged_bpf_disabled also guarded what is done to maps and iterators that are open already.
fn needs_bpf_for_maps() -> bool {
    kernel_version().1.is_none_or(|version| version < (5, 19))
}

impl Sandbox {
    /// The calling thread, and those that it starts from now on, give up what is needed no more.
    pub fn enter(self, thread: &Thread) {
        if self == Self::Off {
            return;
        }
        let name = thread.name();
        for what in missing(thread) {
            log::info!("sandbox of the thread {name}: {what}");
        }
    }
}

/// The calling thread, from now on, reads what the user could read who started it: without any capability that the program's
/// file gives to everybody. Root, who has them by himself, keeps his.
///
/// # Errors
/// They cannot be given up; nothing may be read then.
pub fn only_reads() -> Result<(), String> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { capabilities::keep_only(&BTreeSet::new()) }
}

/// Does it all; what could not be done.
fn missing(thread: &Thread) -> Vec<String> {
    let mut missing = Vec::new();
    let mut tried = |done: Result<(), String>| missing.extend(done.err());
    tried(capabilities::keep_only(&thread.kept()));
    if thread.landlocked() {
        tried(files::confine(thread));
    } else {
        tried(Err("no Landlock: with it other processes could not be looked into".to_owned()));
    }
    tried(calls::forbid(thread));
    missing
}

/// What this kernel has of it, and what not, for people.
pub fn available() -> (Vec<String>, Vec<String>) {
    let mut has = vec!["capabilities".to_owned()];
    let mut lacks = Vec::new();
    for part in [files::available(), calls::available()] {
        match part {
            Ok(part) => has.push(part),
            Err(why) => lacks.push(why),
        }
    }
    (has, lacks)
}

#[cfg(test)]
mod tests;
