//! What BPF iterators have in common: one program of the object loaded by itself, and its records read.

use super::{
    attach::{chain, explain, program},
    btf::Btf,
    layout,
    load::check_machine,
    object,
};
use crate::error::StartError;
use aya::{Ebpf, EbpfLoader, programs::Iter};
use std::{
    fs::File,
    io::{ErrorKind, Read},
};
use tcptrace_common::{
    config::Config,
    layout::{ABSENT, Member, Offsets},
};
use zerocopy::FromBytes;

/// The kernel hands out at most 32 KiB at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Maps of the object that iterators do not use; they are made nevertheless, so as small as they can be.
const UNUSED_MAPS: [(&str, u32); 6] =
    [("PORTS", 1), ("ADDRESSES", 1), ("NETNS", 1), ("CGROUPS", 1), ("UIDS", 1), ("CALLS", 1)];

/// An iterator program of ours.
#[derive(Debug)]
pub struct Kind {
    /// The program's name in the object.
    pub program: &'static str,
    /// The kernel's name for what it iterates over.
    pub target: &'static str,
    /// What that is, for people.
    pub over: &'static str,
    /// The kernel's structure that the program is called with.
    pub context: &'static str,
    /// Name of each member of it that the program reads, and where the program expects it.
    pub context_members: &'static [(&'static str, usize)],
    /// Members of other structures without which the answer would be wrong, not only less complete.
    pub required: &'static [&'static str],
}

impl Kind {
    /// The offsets that the program needs, after a look at what it takes for granted.
    ///
    /// # Errors
    /// What this kernel's types do not show.
    pub fn offsets(&self, btf: &Btf) -> Result<Offsets, String> {
        for (name, expected) in self.context_members {
            let place = btf.member(self.context, name);
            if place.is_none_or(|place| place.offset as usize != *expected) {
                return Err(format!(
                    "this kernel has no iterator over {} with {name} at {expected}",
                    self.over
                ));
            }
        }
        let offsets = layout::resolve(btf)?;
        let absent =
            |(member, offset): &(&Member, u32)| *offset == ABSENT && self.required.contains(&member.path);
        match offsets.each().find(absent) {
            Some((member, _)) => Err(format!("the kernel's types do not show {}.{}", member.of, member.path)),
            None => Ok(offsets),
        }
    }
}

/// Can this machine and this process load any program?
///
/// # Errors
/// What is missing, on one line.
pub fn check() -> Result<(), String> {
    check_machine().map_err(|error| match error {
        StartError::Capability { missing, .. } => format!("it needs {}", missing.join(" and ")),
        error => error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

/// The kernel's types as aya wants them.
///
/// # Errors
/// Why they cannot be read.
pub fn types() -> Result<aya::Btf, String> {
    aya::Btf::from_sys_fs().map_err(|error| chain(&error))
}

/// A loaded program.
pub struct Iterator {
    ebpf: Ebpf,
    kind: &'static Kind,
}

impl Iterator {
    /// Loads the program, and no other of the object.
    ///
    /// # Errors
    /// Why this kernel or these privileges do not allow it.
    pub fn load(kind: &'static Kind, config: &Config, types: &aya::Btf) -> Result<Self, String> {
        let mut loader = EbpfLoader::new();
        for (map, entries) in UNUSED_MAPS {
            loader.map_max_entries(map, entries);
        }
        let mut ebpf = loader.load(&object::with(config)?).map_err(|error| chain(&error))?;
        let iter: &mut Iter = program(&mut ebpf, kind.program)?;
        iter.load(kind.target, types).map_err(|error| explain(&error))?;
        Ok(Self { ebpf, kind })
    }

    /// A new walk from the start. It lives as long as the file; what belongs to network namespaces is walked over in that
    /// of the thread that calls this.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(&mut self) -> Result<File, String> {
        let iter: &mut Iter = program(&mut self.ebpf, self.kind.program)?;
        let link = iter.attach().map_err(|error| explain(&error))?;
        let link = iter.take_link(link).map_err(|error| explain(&error))?;
        link.into_file().map_err(|error| chain(&error))
    }
}

/// Reads a walk to its end.
///
/// # Errors
/// What the kernel said.
pub fn each_record<T: FromBytes>(mut file: &File, mut each: impl FnMut(T)) -> Result<(), String> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut kept = 0;
    loop {
        let got = match file.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            // EAGAIN: a million objects were seen and none of them was shown; the walk goes on where it was.
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => continue,
            Err(error) => return Err(format!("reading the iterator: {error}")),
        };
        let filled = kept + got;
        let whole = filled - filled % size_of::<T>();
        for bytes in buffer[..whole].chunks_exact(size_of::<T>()) {
            if let Ok(record) = T::read_from_bytes(bytes) {
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
    use tcptrace_common::holding::Holding;
    use zerocopy::IntoBytes;

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
        each_record(&file, |record: Holding| seen.push(record)).unwrap();
        assert_eq!(seen, (0..5000).map(record).collect::<Vec<_>>());
    }

    fn tempfile() -> File {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        nix::sys::memfd::memfd_create(c"records", flags).unwrap().into()
    }
}
