//! The BPF iterator over all open files (tcptrace-ebpf, hooks/task_file.rs): loading and reading it.

use super::Holders;
use crate::{
    process::{Process, comm},
    source::{
        btf::{Btf, KERNEL_BTF},
        iterator::{Iterator as Loaded, Kind, check, each_record, types},
    },
};
use std::{path::Path, sync::Arc};
use tcptrace_common::{
    config::Config,
    holding::{CONTEXT_MEMBERS, Holding},
    layout::Offsets,
};

const KIND: Kind = Kind {
    program: "task_file",
    target: "task_file",
    over: "open files",
    context: "bpf_iter__task_file",
    context_members: &CONTEXT_MEMBERS,
    required: &["seq", "f_inode", "i_mode", "i_ino", "tgid", "comm"],
};

/// The loaded program.
pub struct Iterator {
    loaded: Loaded,
}

impl Iterator {
    /// Loads the program, and no other of the object.
    ///
    /// # Errors
    /// Why this kernel or these privileges do not allow it.
    pub fn load() -> Result<Self, String> {
        check()?;
        let mut config = Config::EMPTY;
        config.offsets = offsets()?;
        let types = types()?;
        // There is no way to ask for the helper that tells TCP from other sockets but to try.
        config.sock_from_file = 1;
        Self::load_with(&config, &types).or_else(|_| {
            config.sock_from_file = 0;
            Self::load_with(&config, &types)
        })
    }

    fn load_with(config: &Config, types: &aya::Btf) -> Result<Self, String> {
        Ok(Self { loaded: Loaded::load(&KIND, config, types)? })
    }

    /// Lets the kernel walk over all open files.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn read(&mut self, holders: &mut Holders, wants: impl Fn(u32) -> bool) -> Result<(), String> {
        let file = self.loaded.open()?;
        let mut last: Option<(Holding, Arc<Process>)> = None;
        each_record(&file, |record: Holding| {
            if !wants(record.inode) {
                return;
            }
            let process = match &last {
                Some((known, process)) if same_process(known, &record) => process,
                _ => {
                    let process = Process {
                        pid: record.pid,
                        uid: record.uid,
                        cgroup: record.cgroup,
                        comm: comm(&record.comm),
                    };
                    &last.insert((record, Arc::new(process))).1
                }
            };
            holders.add(record.inode, process, record.fd);
        })
    }
}

fn offsets() -> Result<Offsets, String> {
    let btf = Btf::read(Path::new(KERNEL_BTF)).map_err(|error| error.to_string())?;
    KIND.offsets(&btf)
}

fn same_process(one: &Holding, other: &Holding) -> bool {
    (one.pid, one.uid, one.cgroup, one.comm) == (other.pid, other.uid, other.cgroup, other.comm)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kernels before 5.11 get: without the helper that tells sockets apart, all kinds come.
    #[test]
    #[ignore = "needs root: loads BPF programs"]
    fn without_the_helper_other_sockets_come_too() {
        use std::os::{fd::AsRawFd, unix::net::UnixStream};
        let (unix, _peer) = UnixStream::pair().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", unix.as_raw_fd())).unwrap();
        let types = types().unwrap();
        let mut config = Config::EMPTY;
        config.offsets = offsets().unwrap();
        for helper in [0, 1] {
            config.sock_from_file = helper;
            let mut holders = Holders::new(super::super::Way::Iterator, 0);
            let mut iterator = Iterator::load_with(&config, &types).unwrap();
            iterator.read(&mut holders, |_| true).unwrap();
            let found = |inode: &u32| link.to_str() == Some(&format!("socket:[{inode}]"));
            assert_eq!(holders.by_inode.keys().any(found), helper == 0, "helper {helper}");
        }
    }
}
