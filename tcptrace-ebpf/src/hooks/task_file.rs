//! Every open file of every process (`iter/task_file`): which process holds which socket. Not a hook: it runs when user
//! space reads it, and is loaded by itself, when somebody asks for the owners of sockets that were there before us.
//!
//! Threads are no trouble: the kernel visits the files of a thread only where they are not those of its process's first
//! thread (5.10 and later; before, user space sees the same descriptor again and keeps one).

use crate::{
    config, member,
    read::{Access, Btf},
    sock,
};
use aya_ebpf::helpers::generated::{bpf_seq_write, bpf_sock_from_file};
use core::ptr;
use tcptrace_common::holding::{Holding, TaskFileContext};

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const AF_UNIX: u16 = 1;
const AF_NETLINK: u16 = 16;
const IPPROTO_UDP: u16 = 17;

// aya has no macro for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn task_file(ctx: *const TaskFileContext) -> i32 {
    // SAFETY: the kernel calls it with such a context. Volatile: each load stays one instruction of its own, as the
    // verifier demands of accesses to a context.
    let (meta, task, fd, file) = unsafe {
        (
            ptr::read_volatile(&raw const (*ctx).meta) as *const u8,
            ptr::read_volatile(&raw const (*ctx).task) as *const u8,
            ptr::read_volatile(&raw const (*ctx).fd),
            ptr::read_volatile(&raw const (*ctx).file) as *const u8,
        )
    };
    if !task.is_null() && !file.is_null() {
        on_file(meta, task, fd, file);
    }
    // Anything else would end the reading early.
    0
}

#[inline(always)]
fn on_file(meta: *const u8, task: *const u8, fd: u32, file: *const u8) {
    let inode = member!(Btf::at(file), file_inode, *const u8);
    if inode.is_null() || member!(Btf::at(inode), inode_mode, u16) & S_IFMT != S_IFSOCK || !wanted(file) {
        return;
    }
    let cred = member!(Btf::at(task), task_cred, *const u8);
    let record = Holding {
        inode: member!(Btf::at(inode), inode_number, u64) as u32,
        fd,
        pid: member!(Btf::at(task), task_tgid, u32),
        uid: if cred.is_null() { 0 } else { member!(Btf::at(cred), cred_uid, u32) },
        cgroup: sock::task_cgroup::<Btf>(task),
        comm: member!(Btf::at(task), task_comm, [u64; 2]),
    };
    let seq = member!(Btf::at(meta), iter_seq, *const u8);
    // When the kernel's buffer is full this fails, and the kernel calls again for the same file with an empty one.
    // SAFETY: the record is ours and that long, without padding; the verifier accepts only a seq_file pointer.
    unsafe { bpf_seq_write(seq.cast_mut().cast(), (&raw const record).cast(), size_of::<Holding>() as u32) };
}

/// Sockets that are surely not TCP: on many machines most of them. What is left is decided by whoever has the list of
/// TCP sockets: the subflows of MPTCP carry the inode of the socket above them, whose protocol is another.
#[inline(always)]
fn wanted(file: *const u8) -> bool {
    if config!(sock_from_file) == 0 {
        return true;
    }
    // SAFETY: the verifier accepts only a file pointer.
    let socket = unsafe { bpf_sock_from_file(file.cast_mut().cast()) }.cast_const().cast::<u8>();
    if socket.is_null() {
        return false;
    }
    let sk = member!(Btf::at(socket), socket_sk, *const u8);
    if sk.is_null() {
        return false;
    }
    let family = member!(Btf::at(sk), skc_family, u16);
    family != AF_UNIX && family != AF_NETLINK && member!(Btf::at(sk), sk_protocol, u16) != IPPROTO_UDP
}
