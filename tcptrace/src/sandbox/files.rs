//! Gives files and hosts up, by Landlock.

use super::Thread;
use crate::source::cgroups;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::errno::Errno;
use std::path::PathBuf;

/// What rights there are, by this kernel interface (Linux 6.12); further ones stay as they are.
const KNOWN: ABI = ABI::V6;
/// What a tracer reads: processes and settings, its cgroups and processors, names of namespaces, the time zone.
const TRACER_READS: [&str; 6] =
    ["/proc", "/sys", "/run/netns", "/var/run/netns", "/etc/localtime", "/usr/share/zoneinfo"];
/// What looking a host's name up reads, libraries for it included. Some of it are links to elsewhere, and are then meant by
/// where they lead to.
const RESOLVER_READS: [&str; 13] = [
    "/etc",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/run",
    "/var/run",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
];
/// Name servers by TCP.
const DNS: u16 = 53;

/// The calling thread keeps only what it needs.
///
/// # Errors
/// Nothing, or not all of it, could be given up.
pub fn confine(thread: &Thread) -> Result<(), String> {
    match restrict(thread) {
        Ok(RulesetStatus::FullyEnforced) => Ok(()),
        Ok(RulesetStatus::PartiallyEnforced) => {
            Err("Landlock knows only some of the rights (all of them from Linux 6.12 on)".to_owned())
        }
        Ok(RulesetStatus::NotEnforced) => Err(available().err().unwrap_or_else(|| "no Landlock".to_owned())),
        Err(error) => Err(format!("no Landlock: {error}")),
    }
}

fn restrict(thread: &Thread) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate;
    let nothing = BitFlags::<AccessFs>::EMPTY;
    let (paths, access): (Vec<PathBuf>, _) = match thread {
        Thread::Tracer { .. } => (tracer_reads(), read),
        Thread::Pusher(_) => (RESOLVER_READS.map(PathBuf::from).into(), read),
        Thread::Recorder(Some(folder)) => (vec![folder.clone()], write),
        Thread::Recorder(None) | Thread::Server => (Vec::new(), nothing),
    };
    let ports = match thread {
        Thread::Pusher(port) => vec![*port, DNS],
        _ => Vec::new(),
    };
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    if !access.is_empty() {
        rules = rules.add_rules(path_beneath_rules(paths, access))?;
    }
    for port in ports {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Also what is not where it is on most machines.
fn tracer_reads() -> Vec<PathBuf> {
    let zone = ["TZ", "TZDIR"].into_iter().filter_map(|name| std::env::var(name).ok());
    let zone = zone.map(|path| PathBuf::from(path.trim_start_matches(':'))).filter(|path| path.is_absolute());
    TRACER_READS.into_iter().map(PathBuf::from).chain(zone).chain(cgroups::mount()).collect()
}

/// What this kernel has.
///
/// # Errors
/// It has none, and why.
pub fn available() -> Result<String, String> {
    const ASK_FOR_VERSION: libc::c_uint = 1; // LANDLOCK_CREATE_RULESET_VERSION
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call only returns a number; it wants no attributes, and no size of them.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, ASK_FOR_VERSION) };
    match Errno::result(version) {
        Ok(version) => Ok(format!("Landlock (version {version})")),
        Err(Errno::EOPNOTSUPP) => {
            Err("Landlock is in this kernel, but switched off: boot it with lsm=landlock,...".to_owned())
        }
        Err(Errno::ENOSYS) => {
            Err("Landlock is not in this kernel (Linux 5.13, CONFIG_SECURITY_LANDLOCK)".to_owned())
        }
        Err(errno) => Err(format!("Landlock cannot be used: {errno}")),
    }
}
