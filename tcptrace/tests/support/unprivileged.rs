//! The program as somebody who is not root runs it: with these capabilities and no others, as setcap(8) or systemd give them.

use caps::{CapSet, Capability, CapsHashSet, securebits::set_keepcaps};
use nix::{
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use std::{
    fs::{self, File},
    io::{Error, Result},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Command, Stdio},
};

/// Who has nothing.
pub const NOBODY: u32 = 65534;

/// The program with these arguments, as nobody with these capabilities.
pub fn as_nobody(args: &[&str], capabilities: &[Capability]) -> Command {
    // The program may be where only root looks; an open file can be run all the same.
    let program = File::open(env!("CARGO_BIN_EXE_tcptrace")).expect("there");
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    command.args(args).stdin(Stdio::null()).current_dir("/").env_remove("TCPTRACE_LOG");
    let given: CapsHashSet = capabilities.iter().copied().collect();
    // Up to 5.10 maps count against this limit, and who may not raise it is given a higher one: docs/privileges.md.
    let limited = tcptrace::source::privileges::kernel_version().1.is_some_and(|version| version < (5, 11));
    // SAFETY: the child is alone with one thread, and glibc's allocator works in it; the closure owns the file.
    unsafe {
        command.pre_exec(move || {
            if limited {
                setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
            }
            become_nobody(&given)?;
            match libc::fcntl(program.as_raw_fd(), libc::F_SETFD, 0) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            }
        });
    }
    command
}

fn become_nobody(given: &CapsHashSet) -> Result<()> {
    for capability in caps::runtime::thread_all_supported().difference(given) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(Error::other)?;
    }
    set_keepcaps(true).map_err(Error::other)?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    for set in [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable] {
        caps::set(None, set, given).map_err(Error::other)?;
    }
    given
        .iter()
        .try_for_each(|capability| caps::raise(None, CapSet::Ambient, *capability))
        .map_err(Error::other)
}

/// What /proc says of a thread.
#[derive(Debug)]
pub struct Status {
    pub thread: String,
    pub effective: u64,
    pub permitted: u64,
    pub bounding: u64,
    pub no_new_privileges: bool,
    pub filtered: bool,
}

/// Of each thread of a process.
pub fn threads(pid: u32) -> Vec<Status> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let status = |task: Result<fs::DirEntry>| {
        let text = fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        let set = |key| u64::from_str_radix(of(key)?, 16).ok();
        Some(Status {
            thread: of("Name")?.to_owned(),
            effective: set("CapEff")?,
            permitted: set("CapPrm")?,
            bounding: set("CapBnd")?,
            no_new_privileges: of("NoNewPrivs")? == "1",
            filtered: of("Seccomp")? == "2",
        })
    };
    tasks.filter_map(status).collect()
}

/// As /proc has them.
pub fn mask(capabilities: &[Capability]) -> u64 {
    capabilities.iter().fold(0, |mask, capability| mask | capability.bitmask())
}
