//! What the iterator over open files hands to user space: which process holds which socket.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One descriptor of one process that is a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Holding {
    /// Inode number of the socket file. The kernel numbers sockets with 32 bits, as sock_diag shows them.
    pub inode: u32,
    /// The descriptor.
    pub fd: u32,
    /// Process id (tgid) in the initial pid namespace.
    pub pid: u32,
    /// Real uid in the initial user namespace.
    pub uid: u32,
    /// cgroup v2 id; 0: unknown.
    pub cgroup: u64,
    /// Command name in memory order, zero padded.
    pub comm: [u64; 2],
}

const _: () = assert!(size_of::<Holding>() == 40);

/// `struct bpf_iter__task_file`, the context of an `iter/task_file` program. The members of iterators' contexts are written
/// down, as no other kernel structure's: the verifier takes only constant offsets into a context, encoded in the
/// instruction itself. It is part of the interface to programs (each member is padded to eight bytes for that); user space
/// compares it with the kernel's types before it loads the program.
#[derive(Debug)]
#[repr(C)]
pub struct TaskFileContext {
    /// `struct bpf_iter_meta *`.
    pub meta: u64,
    /// `struct task_struct *`; null at the end.
    pub task: u64,
    /// The descriptor.
    pub fd: u32,
    /// Padding.
    pub spare: u32,
    /// `struct file *`; null at the end.
    pub file: u64,
}

/// Name and offset of each member of [`TaskFileContext`], to compare with the kernel's types.
pub const CONTEXT_MEMBERS: [(&str, usize); 4] = [
    ("meta", core::mem::offset_of!(TaskFileContext, meta)),
    ("task", core::mem::offset_of!(TaskFileContext, task)),
    ("fd", core::mem::offset_of!(TaskFileContext, fd)),
    ("file", core::mem::offset_of!(TaskFileContext, file)),
];
