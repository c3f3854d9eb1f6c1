//! Other tools that tell every change of state: what they are, how people start them, what they say.

mod packages;

use std::{ffi::OsString, fmt::Write as _, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::load::{ENDS, TRANSITIONS};
use crate::tools::Tools;

/// What bpftrace is told: a line for each change of state, as `tcpstates` has it, with the time of the event and without that in
/// the state before.
const ONE_LINER: &str = "tracepoint:sock:inet_sock_set_state /args.protocol == 6/ { \
    printf(\"%llu %d %s %s %d %s %d %d -> %d\\n\", nsecs, pid, comm, ntop(args.family, args.saddr), args.sport, \
    ntop(args.family, args.daddr), args.dport, args.oldstate, args.newstate) }";
/// Where the kernel describes its tracepoints.
const TRACEFS: &str = "/sys/kernel/tracing";

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// A line for each change of state.
    Tcpstates,
    /// A line for each end of a connection, when it is closed.
    Tcplife,
    /// A line for each change of state, by one line of bpftrace's language.
    Bpftrace,
}

/// In the order of the tables.
pub const RIVALS: [Rival; 3] = [Rival::Tcpstates, Rival::Tcplife, Rival::Bpftrace];

impl Rival {
    /// How it is named in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcpstates => "`tcpstates`",
            Self::Tcplife => "`tcplife`",
            Self::Bpftrace => "`bpftrace -e …`",
        }
    }

    /// The package it comes in.
    pub fn package(self) -> &'static str {
        match self {
            Self::Tcpstates | Self::Tcplife => "libbpf-tools",
            Self::Bpftrace => "bpftrace",
        }
    }

    /// Names of its program: Debian has renamed it.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Tcpstates => &["tcpstates-libbpf", "tcpstates"],
            Self::Tcplife => &["tcplife-libbpf", "tcplife"],
            Self::Bpftrace => &["bpftrace"],
        }
    }

    /// What follows its name. How it writes is as its makers chose.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Tcpstates | Self::Tcplife => &[],
            Self::Bpftrace => &["-e", ONE_LINER],
        }
    }

    /// Lines that it owes for one connection of the load.
    pub fn lines(self) -> u64 {
        match self {
            Self::Tcpstates | Self::Bpftrace => TRANSITIONS,
            Self::Tcplife => ENDS,
        }
    }
}

/// Those that are here.
pub struct Rivals {
    /// In the order of [`RIVALS`], each with the words that start it.
    found: Vec<(Rival, Vec<OsString>)>,
    /// Those that are not measured, and why.
    pub skipped: Vec<(Rival, String)>,
    /// Packages and their versions.
    pub versions: Vec<String>,
}

impl Rivals {
    /// From the folder of an earlier time, or from the distribution's packages.
    pub fn obtain(tools: &Tools, wanted: bool) -> Self {
        let mut rivals = Self { found: Vec::new(), skipped: Vec::new(), versions: Vec::new() };
        let unpacked = if wanted { packages::obtain(tools) } else { Err(anyhow::anyhow!("not asked for")) };
        let unpacked = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) => {
                rivals.skipped = RIVALS.map(|rival| (rival, format!("{error:#}"))).to_vec();
                return rivals;
            }
        };
        for rival in RIVALS {
            match unpacked.words(rival.programs()) {
                Ok(words) => rivals.found.push((rival, words)),
                Err(error) => rivals.skipped.push((rival, format!("{error:#}"))),
            }
        }
        rivals.versions = unpacked.versions;
        rivals
    }

    /// In the order of the tables.
    pub fn found(&self) -> impl Iterator<Item = Rival> {
        self.found.iter().map(|(rival, _)| *rival)
    }

    /// Leaves one out, which does not start.
    pub fn skip(&mut self, rival: Rival, error: &anyhow::Error) {
        eprintln!("skipped: {}: {error:#}", rival.name());
        // One line of a page, however much it said.
        let why = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
        self.found.retain(|(other, _)| *other != rival);
        self.skipped.push((rival, why));
    }

    /// Starts one, which sees the kernel's tracepoints even where nobody has mounted them.
    pub fn command(&self, rival: Rival) -> Result<Command> {
        let (_, words) = self.found.iter().find(|(found, _)| *found == rival).context("it is not here")?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(rival.arguments());
        if !Path::new(TRACEFS).join("events").is_dir() {
            // SAFETY: three system calls, which are allowed between fork and exec.
            unsafe {
                command.pre_exec(|| mount_tracefs().map_err(Into::into));
            }
        }
        Ok(command)
    }
}

/// In a mount namespace of the process's own.
fn mount_tracefs() -> nix::Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    mount(Some("tracefs"), TRACEFS, Some("tracefs"), MsFlags::empty(), NOTHING)
}

/// Events that libbpf's tools and bpftrace say they lost: `lost 7 events on CPU #1`, `Lost 7 events`.
pub fn lost(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace().skip_while(|word| !word.eq_ignore_ascii_case("lost")).skip(1);
    let count = words.next()?.parse().ok()?;
    words.next()?.starts_with("event").then_some(count)
}

/// Whether a line is about this port: a word of it is the number, and no part of another.
pub fn is_about(line: &[u8], ports: &[Vec<u8>]) -> bool {
    line.split(u8::is_ascii_whitespace).any(|word| ports.iter().any(|port| port == word))
}

/// Lines for a page's head: where other tools come from, and which are [`missing`].
pub fn sources(page: &mut String, versions: &[String], skipped: &[(Rival, String)]) {
    if !versions.is_empty() {
        let _ = writeln!(page, "- other tools from Debian's packages: {}", versions.join(", "));
    }
    missing(page, skipped);
}

/// Lines about those that were not measured.
pub fn missing(page: &mut String, skipped: &[(Rival, String)]) {
    for (rival, why) in skipped {
        let _ = writeln!(page, "- {} ({}) was not measured: {why}", rival.name(), rival.package());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_read() {
        assert_eq!(lost("lost 75 events on CPU #1"), Some(75));
        assert_eq!(lost("WARNING: Lost 3 events"), Some(3));
        assert_eq!(lost("Lost 1 event"), Some(1));
        for line in ["lost", "failed to load BPF object: 7", "lost many events", "0 lost"] {
            assert_eq!(lost(line), None, "{line}");
        }
    }

    #[test]
    fn a_port_is_a_whole_word() {
        let line = b"ffff888 40 xtask 127.0.0.1 0 127.0.0.1 36001 CLOSE -> SYN_SENT 0.000";
        let port = |number: &str| [number.as_bytes().to_vec()];
        assert!(is_about(line, &port("36001")));
        assert!(!is_about(line, &port("3600")) && !is_about(line, &port("6001")) && !is_about(line, &[]));
    }
}
