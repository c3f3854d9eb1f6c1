//! From a socket to the header of a record: identity, addresses, ports, the few cheap bits.

use crate::{
    config, member, offset,
    read::{Access, CommonCopy, Direct, Probed, Read},
    required,
};
use aya_ebpf::{
    EbpfContext,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task_btf,
        bpf_get_current_uid_gid, bpf_ktime_get_ns,
    },
    programs::TracePointContext,
};
use core::mem::MaybeUninit;
use tcptrace_common::{
    address::Address,
    event::{BITS_KNOWN, DEAD, DONE, HAS_SOCKET, Header, Kind, Prefix, Task, Tuple},
    layout::NO_FIELD,
};

/// A classic tracepoint's record. Read by the helper: the verifier allows direct loads from the context only at
/// offsets fixed when the program was compiled.
pub type RecordView = Probed;

/// The record a classic program was called for.
#[inline(always)]
pub fn record(ctx: &TracePointContext) -> RecordView {
    Probed(ctx.as_ptr().cast())
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Puts the time on a record. Reading the boot-time clock would cost 13 ns more, a twentieth of the program: user space
/// adds the time that the machine slept.
#[inline(always)]
pub fn stamp(head: &mut Header) {
    head.pre.time_ns = now();
}

/// CLOCK_MONOTONIC.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// Does a `struct socket` belong to it, whose descriptor somebody may hold? Asked only where it matters: the member
/// lies on a cache line of its own.
#[inline(always)]
pub fn has_socket<A: Access>(sk: *const u8) -> u8 {
    if required!(A, A::at(sk), sk_socket, u64) != 0 { HAS_SOCKET } else { 0 }
}

/// The inode number of the namespace a `possible_net_t` points to; 0: unknown.
#[inline(always)]
pub fn netns<A: Access>(net: *const u8) -> u32 {
    if net.is_null() { 0 } else { required!(A, A::at(net), net_inum, u32) }
}

/// Who a record is about; [`stamp`] adds when, once the filter wants it. `full`: the socket is a `struct sock`, not a
/// request or a minisocket.
#[inline(always)]
pub fn header<A: Access>(kind: Kind, sk: *const u8, full: bool) -> Header {
    let mut room = CommonCopy::uninit();
    let common = A::common(sk, &mut room);
    let mut tuple = MaybeUninit::uninit();
    // SAFETY: room for one; every field is written.
    let tuple = unsafe {
        write_tuple::<A>(tuple.as_mut_ptr(), common, sk, full);
        tuple.assume_init()
    };
    Header {
        pre: Prefix {
            kind: kind as u8,
            flags: 0,
            state: required!(A, common, skc_state, u8),
            to: 0,
            netns: netns::<A>(required!(A, common, skc_net, *const u8)),
            time_ns: 0,
            sock: sk as u64,
            cookie: required!(A, common, skc_cookie, u64),
        },
        tuple,
    }
}

/// Writes both ends of a socket, and its bits, field by field: the state program writes into the ring itself, and what
/// is copied from the stack is paid for twice.
///
/// # Safety
/// There is room for a tuple.
#[inline(always)]
pub unsafe fn write_tuple<A: Access>(tuple: *mut Tuple, common: Direct, sk: *const u8, full: bool) {
    let family = required!(A, common, skc_family, u16);
    let lport = required!(A, common, skc_num, u16);
    // SAFETY: the caller's.
    unsafe {
        if family == AF_INET6 {
            (*tuple).local = Address::from_words(required!(A, common, skc_v6_rcv_saddr, [u64; 2]));
            (*tuple).remote = Address::from_words(required!(A, common, skc_v6_daddr, [u64; 2]));
            (*tuple).family = 6;
        } else {
            (*tuple).local = Address::from_v4(required!(A, common, skc_rcv_saddr, u32));
            (*tuple).remote = Address::from_v4(required!(A, common, skc_daddr, u32));
            (*tuple).family = if family == AF_INET { 4 } else { 0 };
        }
        (*tuple).rport = u16::from_be(required!(A, common, skc_dport, u16));
        (*tuple).spare = 0;
        // The port is released before the CLOSE event; the copy in inet_sock stays (docs/kernel.md).
        (*tuple).lport = if full && lport == 0 { last_port::<A>(sk) } else { lport };
        (*tuple).shutdown = if full { required!(A, A::at(sk), sk_shutdown, u8) } else { 0 };
        (*tuple).bits = if full { bits::<A>(common) } else { 0 };
    }
}

/// The two bits that are cheap enough to always carry, and that they were read.
#[inline(always)]
pub fn bits<A: Access>(common: Direct) -> u8 {
    if !A::TYPED && offset!(skc_flags).is_none() {
        return 0;
    }
    // Of `enum sock_flags` SOCK_DEAD and SOCK_DONE: the same numbers on every kernel since 5.8 (docs/kernel.md).
    const { assert!(DEAD == 1 << 0 && DONE == 1 << 1) };
    BITS_KNOWN | required!(A, common, skc_flags, u64) as u8 & (DEAD | DONE)
}

/// The local port by `inet_sport`, which outlives the bound one; 0: not a full TCP socket, or none.
#[inline(always)]
fn last_port<A: Access>(sk: *const u8) -> u16 {
    A::tcp(sk).map_or(0, |tcp| u16::from_be(member!(tcp, inet_sport, u16)))
}

/// The port that the program bound; 0: none yet. A socket that connects again still carries the port of its last attempt
/// in `inet_sport`, and in the classic record.
#[inline(always)]
pub fn bound_port<A: Access>(sk: *const u8) -> u16 {
    member!(A::at(sk), skc_num, u16)
}

/// Where a classic tracepoint's record has both ends: offsets, or [`NO_FIELD`].
pub struct Ends {
    pub sport: u16,
    pub dport: u16,
    pub saddr: u16,
    pub daddr: u16,
    pub saddr_sock: u16,
    pub daddr_sock: u16,
}

/// The [`Ends`] of the tracepoint that has this name in `Config::records`.
#[macro_export]
macro_rules! ends {
    ($record:ident) => {
        $crate::sock::Ends {
            sport: $crate::config!(records.$record.sport) as u16,
            dport: $crate::config!(records.$record.dport) as u16,
            saddr: $crate::config!(records.$record.saddr) as u16,
            daddr: $crate::config!(records.$record.daddr) as u16,
            saddr_sock: $crate::config!(records.$record.saddr_sock) as u16,
            daddr_sock: $crate::config!(records.$record.daddr_sock) as u16,
        }
    };
}

/// Takes addresses and ports from a classic record: all there is without BTF, and the same with it.
#[inline(always)]
pub fn take_record(tuple: &mut Tuple, record: &RecordView, at: &Ends) {
    // SAFETY: the offsets come from the tracepoint's own format (checked at load).
    unsafe {
        if at.sport != NO_FIELD {
            tuple.lport = record.get(at.sport as usize);
            tuple.rport = record.get(at.dport as usize);
        }
        if at.saddr != NO_FIELD {
            tuple.local = Address::from_words(record.get(at.saddr as usize));
            tuple.remote = Address::from_words(record.get(at.daddr as usize));
        } else if at.saddr_sock != NO_FIELD {
            (tuple.local, tuple.lport) = socket_address(record, at.saddr_sock as usize);
            (tuple.remote, tuple.rport) = socket_address(record, at.daddr_sock as usize);
        }
    }
}

/// A `sockaddr_in` or `sockaddr_in6`: family, port in network order, address.
///
/// # Safety
/// A socket address is at that offset.
#[inline(always)]
unsafe fn socket_address(record: &RecordView, at: usize) -> (Address, u16) {
    // SAFETY: the caller's.
    unsafe {
        let port = u16::from_be(record.get(at + 2));
        let address = if record.get::<u16>(at) == AF_INET6 {
            Address::from_words(record.get(at + 8))
        } else {
            Address::from_v4(record.get(at + 4))
        };
        (address, port)
    }
}

/// No task to be believed.
pub const NOBODY: Task = Task { pid: 0, tid: 0, uid: 0, spare: 0, cgroup: 0, comm: [0; 2] };

/// Fills in the current task.
#[inline(always)]
pub fn task<A: Access>(task: &mut Task) {
    task.spare = 0;
    // The helper that gives a typed task came with 5.11, the one that makes cookies with 5.12: either both are there,
    // or neither is used. Loads cost a fraction of the four helpers below.
    if A::TYPED && config!(cookie_helper) != 0 {
        // SAFETY: no arguments.
        let current = unsafe { bpf_get_current_task_btf() }.cast_const().cast::<u8>();
        task.pid = member!(A::at(current), task_tgid, u32);
        task.tid = member!(A::at(current), task_pid, u32);
        task.comm = member!(A::at(current), task_comm, [u64; 2]);
        let cred = member!(A::at(current), task_cred, *const u8);
        task.uid = if cred.is_null() { 0 } else { member!(A::at(cred), cred_uid, u32) };
        task.cgroup = task_cgroup::<A>(current);
        return;
    }
    // SAFETY: no arguments, except `comm`, which is ours and 16 bytes long.
    unsafe {
        let ids = bpf_get_current_pid_tgid();
        task.pid = (ids >> 32) as u32;
        task.tid = ids as u32;
        task.uid = bpf_get_current_uid_gid() as u32;
        task.cgroup = bpf_get_current_cgroup_id();
        bpf_get_current_comm(task.comm.as_mut_ptr().cast(), 16);
    }
}

/// The id of a task's cgroup in the v2 hierarchy; 0: unknown.
#[inline(always)]
pub fn task_cgroup<A: Access>(task: *const u8) -> u64 {
    let set = member!(A::at(task), task_cgroups, *const u8);
    if set.is_null() {
        return 0;
    }
    let cgroup = member!(A::at(set), css_set_cgroup, *const u8);
    if cgroup.is_null() {
        return 0;
    }
    let node = member!(A::at(cgroup), cgroup_kn, *const u8);
    if node.is_null() { 0 } else { member!(A::at(node), kn_id, u64) }
}

/// The cgroup a socket belongs to; 0: unknown. On 5.10 the member is a pointer tagged in its lowest bit, and
/// not a pointer at all where that bit is set.
#[inline(always)]
pub fn cgroup(sk: *const u8) -> u64 {
    if config!(probe_read) == 0 {
        return 0;
    }
    let cgroup = member!(Probed(sk), sk_cgroup, u64);
    if cgroup == 0 || cgroup & 1 != 0 {
        return 0;
    }
    let node = member!(Probed(cgroup as *const u8), cgroup_kn, *const u8);
    if node.is_null() { 0 } else { member!(Probed(node), kn_id, u64) }
}
