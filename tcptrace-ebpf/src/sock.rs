//! From a socket to the header of a record: identity, addresses, ports, the few cheap bits.

use crate::{
    config, member, offset,
    read::{Access, CommonCopy, Probed, Read},
};
use aya_ebpf::{
    EbpfContext,
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        bpf_ktime_get_boot_ns,
    },
    programs::TracePointContext,
};
use tcptrace_common::{
    event::{BITS_KNOWN, DEAD, DONE, HAS_SOCKET, Header, Kind, Prefix, Task, Tuple},
    layout::{NO_FIELD, Record},
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

/// Bits of `enum sock_flags`: the same numbers on every kernel since 5.8 (kernel-facts §15).
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;

/// Now, on the clock that keeps counting while the machine sleeps.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The inode number of the namespace a `possible_net_t` points to; 0: unknown.
#[inline(always)]
pub fn netns<A: Access>(net: *const u8) -> u32 {
    if net.is_null() { 0 } else { member!(A::at(net), net_inum, u32) }
}

/// Who a record is about. `full`: the socket is a `struct sock`, not a request or a minisocket.
#[inline(always)]
pub fn header<A: Access>(kind: Kind, sk: *const u8, full: bool) -> Header {
    let mut room = CommonCopy::uninit();
    let common = A::common(sk, &mut room);
    let family = member!(common, skc_family, u16);
    let mut tuple = Tuple {
        local: [0; 16],
        remote: [0; 16],
        lport: member!(common, skc_num, u16),
        rport: u16::from_be(member!(common, skc_dport, u16)),
        family: match family {
            AF_INET => 4,
            AF_INET6 => 6,
            _ => 0,
        },
        bits: 0,
        shutdown: 0,
        spare: 0,
    };
    if family == AF_INET6 {
        tuple.local = words(member!(common, skc_v6_rcv_saddr, [u64; 2]));
        tuple.remote = words(member!(common, skc_v6_daddr, [u64; 2]));
    } else {
        tuple.local = mapped(member!(common, skc_rcv_saddr, u32));
        tuple.remote = mapped(member!(common, skc_daddr, u32));
    }
    if full {
        let sock = A::at(sk);
        tuple.shutdown = member!(sock, sk_shutdown, u8);
        if offset!(skc_flags).is_some() {
            let flags = member!(common, skc_flags, u64);
            tuple.bits = BITS_KNOWN
                | if flags & SOCK_DEAD != 0 { DEAD } else { 0 }
                | if flags & SOCK_DONE != 0 { DONE } else { 0 }
                | if member!(sock, sk_socket, u64) != 0 { HAS_SOCKET } else { 0 };
        }
        if tuple.lport == 0 {
            // The port is released before the CLOSE event; the copy in inet_sock stays (kernel-facts §1.3).
            if let Some(tcp) = A::tcp(sk) {
                tuple.lport = u16::from_be(member!(tcp, inet_sport, u16));
            }
        }
    }
    Header {
        pre: Prefix {
            kind: kind as u8,
            flags: 0,
            state: member!(common, skc_state, u8),
            to: 0,
            netns: netns::<A>(member!(common, skc_net, *const u8)),
            time_ns: now(),
            sock: sk as u64,
            cookie: member!(common, skc_cookie, u64),
        },
        tuple,
    }
}

/// Takes addresses and ports from a classic record: all there is without BTF, and the same with it.
#[inline(always)]
pub fn take_record(tuple: &mut Tuple, record: &RecordView, at: &Record) {
    // SAFETY: the offsets come from the tracepoint's own format (checked at load).
    unsafe {
        if at.sport != NO_FIELD {
            tuple.lport = record.get(at.sport as usize);
            tuple.rport = record.get(at.dport as usize);
        }
        if at.saddr != NO_FIELD {
            tuple.local = record.get(at.saddr as usize);
            tuple.remote = record.get(at.daddr as usize);
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
unsafe fn socket_address(record: &RecordView, at: usize) -> ([u8; 16], u16) {
    // SAFETY: the caller's.
    unsafe {
        let port = u16::from_be(record.get(at + 2));
        let address = if record.get::<u16>(at) == AF_INET6 {
            record.get::<[u8; 16]>(at + 8)
        } else {
            mapped(record.get::<u32>(at + 4))
        };
        (address, port)
    }
}

/// An IPv4 address, in the kernel's byte order, as `::ffff:a.b.c.d`.
#[inline(always)]
pub fn mapped(v4: u32) -> [u8; 16] {
    // SAFETY: same size, any bytes.
    unsafe { core::mem::transmute([0, 0, u32::from_ne_bytes([0, 0, 0xff, 0xff]), v4]) }
}

#[inline(always)]
fn words(words: [u64; 2]) -> [u8; 16] {
    // SAFETY: same size, any bytes.
    unsafe { core::mem::transmute(words) }
}

/// Fills in the current task.
#[inline(always)]
pub fn task(task: &mut Task) {
    // SAFETY: no arguments, except `comm`, which is ours and 16 bytes long.
    unsafe {
        let ids = bpf_get_current_pid_tgid();
        task.pid = (ids >> 32) as u32;
        task.tid = ids as u32;
        task.uid = bpf_get_current_uid_gid() as u32;
        task.spare = 0;
        task.cgroup = bpf_get_current_cgroup_id();
        bpf_get_current_comm(task.comm.as_mut_ptr().cast(), 16);
    }
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
