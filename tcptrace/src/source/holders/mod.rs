//! Which process holds which socket: from the inode of a socket, as sock_diag shows it, to a process and a descriptor.
//! Events say who acts; this is for sockets that were there before anybody looked.
//!
//! The fast way is a BPF iterator over all open files, loaded by itself when the first [`HolderSource`] is made, so that
//! nothing else waits for it. Where it cannot be had, the links in /proc/PID/fd say the same, for the first thread of
//! each process.

mod iterator;
mod proc;

use crate::process::Process;
use hashbrown::{HashMap, HashSet, hash_map::Entry};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// How holders are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Way {
    /// The BPF iterator: the kernel walks its own tables.
    Iterator,
    /// The links in /proc/PID/fd.
    Proc,
}

impl Way {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iterator => "iterator",
            Self::Proc => "proc",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who holds a socket: the process with the lowest pid, and its lowest descriptor.
///
/// Either way shows only processes of the reader's pid namespace and of those inside it. The iterator gives pids of the
/// initial pid namespace, as events have them. /proc gives those of the namespace it was mounted in: inside a container
/// its pids and uids are the container's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// The process; one copy, however many sockets it holds.
    pub process: Arc<Process>,
    /// The descriptor.
    pub fd: u32,
    /// How many processes hold the socket, this one included: more than one where a server forked.
    pub processes: u32,
    /// The process that was counted last: its further descriptors of this socket count no more.
    counted: u32,
}

#[cfg(test)]
impl Holder {
    /// One process, one descriptor.
    pub(crate) fn alone(process: Arc<Process>, fd: u32) -> Self {
        Self { process, fd, processes: 1, counted: 0 }
    }
}

/// Who held which socket at one moment.
#[derive(Clone, Debug)]
pub struct Holders {
    /// By inode. May have sockets that are not TCP.
    pub by_inode: HashMap<u32, Holder>,
    /// How they were found.
    pub way: Way,
    /// Processes that could not be read, for want of permission; always 0 by the iterator. Processes that end while
    /// we look are none of them.
    pub unread: u32,
}

impl Holders {
    /// Who holds what now, once. For more than one look keep a [`HolderSource`].
    pub fn read(wanted: Option<&HashSet<u32>>) -> Self {
        HolderSource::new().read(wanted)
    }

    /// Who holds the socket with this inode; `None` for inode 0, which means nobody.
    pub fn get(&self, inode: u32) -> Option<&Holder> {
        self.by_inode.get(&inode)
    }

    /// As a recording has them.
    pub(crate) fn known(holders: impl IntoIterator<Item = (u32, Holder)>) -> Self {
        Self { by_inode: holders.into_iter().collect(), way: Way::Iterator, unread: 0 }
    }

    fn new(way: Way, expected: usize) -> Self {
        Self { by_inode: HashMap::with_capacity(expected), way, unread: 0 }
    }

    /// Takes one descriptor in. Descriptors of one process come one after another.
    fn add(&mut self, inode: u32, process: &Arc<Process>, fd: u32) {
        match self.by_inode.entry(inode) {
            Entry::Vacant(entry) => {
                let counted = process.pid;
                entry.insert(Holder { process: Arc::clone(process), fd, processes: 1, counted });
            }
            Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                if known.counted != process.pid {
                    known.counted = process.pid;
                    known.processes += 1;
                }
                if (process.pid, fd) < (known.process.pid, known.fd) {
                    known.process = Arc::clone(process);
                    known.fd = fd;
                }
            }
        }
    }
}

/// Finds holders again and again. Making one loads the iterator (docs of [`Self::new`]); keep it.
pub struct HolderSource {
    iterator: Result<iterator::Iterator, String>,
}

impl Default for HolderSource {
    fn default() -> Self {
        Self::new()
    }
}

impl HolderSource {
    /// Loads the iterator, which takes some 30 to 50 ms, nearly all of it in reading the kernel's types. Where that fails
    /// /proc is read instead, and [`Self::refused`] says why.
    pub fn new() -> Self {
        Self { iterator: iterator::Iterator::load() }
    }

    /// Reads /proc only, for this reason.
    pub fn without_iterator(why: impl Into<String>) -> Self {
        Self { iterator: Err(why.into()) }
    }

    /// How the next look is taken.
    pub fn way(&self) -> Way {
        if self.iterator.is_ok() { Way::Iterator } else { Way::Proc }
    }

    /// Why it is not the iterator; `None`: it is.
    pub fn refused(&self) -> Option<&str> {
        self.iterator.as_ref().err().map(String::as_str)
    }

    /// Who holds what now; of the `wanted` inodes only, if they are given. Blocks: about 0.1 s for 200,000 sockets by
    /// the iterator, several times as long by /proc.
    pub fn read(&mut self, wanted: Option<&HashSet<u32>>) -> Holders {
        let wants = |inode| wanted.is_none_or(|wanted| wanted.contains(&inode));
        let expected = wanted.map_or(0, HashSet::len);
        if let Ok(iterator) = &mut self.iterator {
            let mut holders = Holders::new(Way::Iterator, expected);
            match iterator.read(&mut holders, wants) {
                Ok(()) => return holders,
                // It will not be better the next time.
                Err(why) => self.iterator = Err(why),
            }
        }
        let mut holders = Holders::new(Way::Proc, expected);
        proc::read(&mut holders, wants);
        holders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Arc<Process> {
        Arc::new(Process { pid, uid: 0, cgroup: 0, comm: "test".into() })
    }

    #[test]
    fn the_lowest_descriptor_of_the_lowest_process_stands_for_all() {
        let mut holders = Holders::new(Way::Proc, 0);
        let (parent, child) = (process(10), process(20));
        for (process, fd) in [(&child, 3), (&child, 5), (&parent, 7), (&parent, 4)] {
            holders.add(1, process, fd);
        }
        let holder = holders.get(1).unwrap();
        assert_eq!((holder.process.pid, holder.fd, holder.processes), (10, 4, 2));
        assert!(holders.get(0).is_none());
    }

    #[test]
    fn what_refuses_the_iterator_is_kept() {
        let mut source = HolderSource::without_iterator("asked not to");
        assert_eq!((source.way(), source.refused()), (Way::Proc, Some("asked not to")));
        let nothing = HashSet::new();
        assert!(source.read(Some(&nothing)).by_inode.is_empty());
    }
}
