//! The BPF iterator over all open files (tcptrace-ebpf, hooks/task_file.rs): loading and reading it.

use super::Holders;
use crate::{
    error::StartError,
    process::{Process, comm},
    source::{
        attach::{chain, explain, program},
        btf::{Btf, KERNEL_BTF},
        layout,
        load::{OBJECT, check_machine},
    },
};
use aya::{Ebpf, EbpfLoader, programs::Iter};
use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
    sync::Arc,
};
use tcptrace_common::{
    config::Config,
    holding::{CONTEXT_MEMBERS, Holding},
    layout::{ABSENT, Member, Offsets},
};
use zerocopy::{FromBytes, IntoBytes};

/// The program's name, and the kernel's for what it iterates over.
const NAME: &str = "task_file";
/// Members without which the answer would be wrong, not only less complete.
const REQUIRED: [&str; 6] = ["seq", "f_inode", "i_mode", "i_ino", "tgid", "comm"];
/// The kernel hands out at most 32 KiB at once.
const BUFFER_BYTES: usize = 64 << 10;
const RECORD_BYTES: usize = size_of::<Holding>();
/// Maps of the object that this program does not use; they are made nevertheless, so as small as they can be.
const UNUSED_MAPS: [(&str, u32); 7] = [
    ("EVENTS", super::super::load::MIN_RING_BYTES),
    ("PORTS", 1),
    ("ADDRESSES", 1),
    ("NETNS", 1),
    ("CGROUPS", 1),
    ("UIDS", 1),
    ("CALLS", 1),
];

/// The loaded program.
pub struct Iterator {
    ebpf: Ebpf,
}

impl Iterator {
    /// Loads the program, and no other of the object.
    ///
    /// # Errors
    /// Why this kernel or these privileges do not allow it.
    pub fn load() -> Result<Self, String> {
        check_machine().map_err(|error| match error {
            StartError::Capability { missing, .. } => format!("it needs {}", missing.join(" and ")),
            error => error.to_string().lines().next().unwrap_or_default().to_owned(),
        })?;
        let mut config = Config::EMPTY;
        config.offsets = offsets()?;
        let types = aya::Btf::from_sys_fs().map_err(|error| chain(&error))?;
        // There is no way to ask for the helper that tells TCP from other sockets but to try.
        config.sock_from_file = 1;
        Self::load_with(&config, &types).or_else(|_| {
            config.sock_from_file = 0;
            Self::load_with(&config, &types)
        })
    }

    fn load_with(config: &Config, types: &aya::Btf) -> Result<Self, String> {
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", config.as_bytes(), true);
        for (map, entries) in UNUSED_MAPS {
            loader.map_max_entries(map, entries);
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| chain(&error))?;
        let iter: &mut Iter = program(&mut ebpf, NAME)?;
        iter.load(NAME, types).map_err(|error| explain(&error))?;
        Ok(Self { ebpf })
    }

    /// Lets the kernel walk over all open files.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn read(&mut self, holders: &mut Holders, wants: impl Fn(u32) -> bool) -> Result<(), String> {
        let file = self.open()?;
        let mut last: Option<(Holding, Arc<Process>)> = None;
        each_record(&file, |record| {
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

    /// A new walk from the start. It lives as long as the file.
    fn open(&mut self) -> Result<File, String> {
        let iter: &mut Iter = program(&mut self.ebpf, NAME)?;
        let link = iter.attach().map_err(|error| explain(&error))?;
        let link = iter.take_link(link).map_err(|error| explain(&error))?;
        link.into_file().map_err(|error| chain(&error))
    }
}

/// The offsets the program needs, after a look at what it takes for granted.
fn offsets() -> Result<Offsets, String> {
    let btf = Btf::read(Path::new(KERNEL_BTF)).map_err(|error| error.to_string())?;
    for (name, expected) in CONTEXT_MEMBERS {
        let place = btf.member("bpf_iter__task_file", name);
        if place.is_none_or(|place| place.offset as usize != expected) {
            return Err(format!("this kernel has no iterator over open files with {name} at {expected}"));
        }
    }
    let offsets = layout::resolve(&btf)?;
    let absent = |(member, offset): &(&Member, u32)| *offset == ABSENT && REQUIRED.contains(&member.path);
    match offsets.each().find(absent) {
        Some((member, _)) => Err(format!("the kernel's types do not show {}.{}", member.of, member.path)),
        None => Ok(offsets),
    }
}

fn same_process(one: &Holding, other: &Holding) -> bool {
    (one.pid, one.uid, one.cgroup, one.comm) == (other.pid, other.uid, other.cgroup, other.comm)
}

fn each_record(mut file: &File, mut each: impl FnMut(Holding)) -> Result<(), String> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut kept = 0;
    loop {
        let got = match file.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            // EAGAIN: a million files were seen and none of them was a socket; the walk goes on where it was.
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => continue,
            Err(error) => return Err(format!("reading the iterator: {error}")),
        };
        let filled = kept + got;
        let whole = filled - filled % RECORD_BYTES;
        for bytes in buffer[..whole].chunks_exact(RECORD_BYTES) {
            if let Ok(record) = Holding::read_from_bytes(bytes) {
                each(record);
            }
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    /// Records that lie across the end of a read are put together again.
    #[test]
    fn records_survive_the_borders_of_reads() {
        let record = |inode| Holding { inode, fd: 1, pid: 2, uid: 3, cgroup: 4, comm: [5, 6] };
        let mut file = tempfile();
        for inode in 0..5000 {
            file.write_all(record(inode).as_bytes()).unwrap();
        }
        file.rewind().unwrap();
        let mut seen = Vec::new();
        each_record(&file, |record| seen.push(record)).unwrap();
        assert_eq!(seen, (0..5000).map(record).collect::<Vec<_>>());
    }

    /// What kernels before 5.11 get: without the helper that tells sockets apart, all kinds come.
    #[test]
    #[ignore = "needs root: loads BPF programs"]
    fn without_the_helper_other_sockets_come_too() {
        use std::os::{fd::AsRawFd, unix::net::UnixStream};
        let (unix, _peer) = UnixStream::pair().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", unix.as_raw_fd())).unwrap();
        let types = aya::Btf::from_sys_fs().unwrap();
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

    fn tempfile() -> File {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        nix::sys::memfd::memfd_create(c"records", flags).unwrap().into()
    }
}
