//! What user space tells the kernel programs when it loads them: it puts each value into the instructions that ask for
//! it, so what is switched off costs nothing and is not even looked at.

use crate::layout::{Offsets, Record};
use zerocopy::{Immutable, IntoBytes};

/// The mark of an instruction's operand that stands for a field: no number that a program would use.
const MARK: i32 = 0x5c70_0000;

/// The operand that stands for the field at this offset and of this size, 1 to 4 bytes, until user space replaces it.
pub const fn marker(offset: usize, size: usize) -> i32 {
    assert!(offset < 1 << 12 && size <= 4);
    MARK | (size << 12 | offset) as i32
}

/// The size of a field, in bytes.
pub const fn size_of_field<T>(_: fn(&Config) -> &T) -> usize {
    size_of::<T>()
}

/// Read once, at load. Switches are 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct Config {
    /// Where members are.
    pub offsets: Offsets,
    /// Record layouts of the classic tracepoints.
    pub records: Records,
    /// Which conditions the filter has to look at.
    pub filter: Filter,
    /// A record wakes user space when at least this many bytes wait in the ring.
    pub wake_bytes: u32,
    /// The fill level is looked at when the record's own counter has none of these bits: now and then, not each time.
    pub wake_mask: u32,
    /// There is room for a record while at most this many bytes wait in our own ring.
    pub ring_limit: u32,
    /// The segments of our own ring less one: a power of two less one.
    pub ring_mask: u32,
    /// One bit a state number (12 for requests): the iterator over sockets shows every socket in one of them.
    pub detail_states: u32,
    /// One bit a state number: of the sockets in one of these it shows those that retransmit or probe.
    pub detail_stalled: u32,
    /// `bpf_get_socket_cookie` may be called in `tp_btf` programs (5.12 and later).
    pub cookie_helper: u8,
    /// `bpf_skc_to_tcp_sock` may be called (5.9 and later).
    pub tcp_sock_helper: u8,
    /// `bpf_probe_read_kernel` may be called (not under lockdown=confidentiality).
    pub probe_read: u8,
    /// The retransmit tracepoint has its third argument, `err` (6.17 and later).
    pub retransmit_err: u8,
    /// The send-reset tracepoint has its third argument, `reason` (6.10 and later).
    pub reset_reason: u8,
    /// [`CALLS_OFF`], [`CALLS_FAILED`] or [`CALLS_ALL`].
    pub calls: u8,
    /// `bpf_sock_from_file` may be called (5.11 and later).
    pub sock_from_file: u8,
    /// `bpf_sk_storage_get` may be called in `tp_btf` programs (5.11 and later).
    pub socket_storage: u8,
    /// Records go into our own ring, which needs instructions that add and fetch at once (5.12 and later); otherwise into the
    /// kernel's.
    pub own_ring: u8,
    /// This processor shows its stores to others in the order of the program (x86): a plain store completes a record.
    pub ordered_stores: u8,
    /// Zero.
    pub spare: [u8; 2],
}

/// [`Config::calls`]: the function probe only counts.
pub const CALLS_OFF: u8 = 0;
/// [`Config::calls`]: it also reports failed sends, which the tracepoint does not before 6.17.
pub const CALLS_FAILED: u8 = 1;
/// [`Config::calls`]: it reports every attempt; there is no tracepoint beside it.
pub const CALLS_ALL: u8 = 2;

/// The classic records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
#[allow(missing_docs)] // named after the tracepoints
pub struct Records {
    pub set_state: Record,
    pub destroy_sock: Record,
    pub retransmit_skb: Record,
    pub retransmit_synack: Record,
    pub send_reset: Record,
    pub receive_reset: Record,
}

/// Which of the filter's maps have something in them. Everything else passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct Filter {
    /// One bit a state number: a transition passes when it leaves or enters one of them. 0: all pass.
    pub states: u32,
    /// The one namespace that passes; 0: not that simple, see `netns`.
    pub one_netns: u32,
    /// Ports are asked of `PORTS`.
    pub ports: u8,
    /// Addresses are asked of `ADDRESSES`.
    pub addresses: u8,
    /// Namespaces are asked of `NETNS`.
    pub netns: u8,
    /// The socket's cgroup is asked of `CGROUPS`.
    pub cgroup: u8,
    /// The socket's uid is asked of `UIDS`.
    pub uid: u8,
    /// 4 or 6: the addresses' family (IPv4-mapped is 4); 0: both.
    pub family: u8,
    /// Zero.
    pub spare: [u8; 2],
}

/// A byte of the `PORTS` table: some condition on the local port accepts it.
pub const PORT_LOCAL: u8 = 1;
/// A byte of the `PORTS` table: some condition on the remote port accepts it.
pub const PORT_REMOTE: u8 = 2;
/// A byte of the `PORTS` table: a condition on either port accepts it.
pub const PORT_EITHER: u8 = 4;
/// [`Filter::ports`]: the conditions that exist, as the bits above; all of them must hold.
pub const PORT_BITS: u8 = PORT_LOCAL | PORT_REMOTE | PORT_EITHER;

impl Config {
    /// What belongs in place of this operand; `None`: it stands for no field. A program sees it widened with its sign.
    #[cfg(feature = "user")]
    pub fn value(&self, operand: i32) -> Option<i32> {
        let (size, offset) = ((operand & 0xf000) as usize >> 12, (operand & 0xfff) as usize);
        if operand & !0xffff != MARK {
            return None;
        }
        match *self.as_bytes().get(offset..offset + size)? {
            [byte] => Some(byte.into()),
            [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
            [a, b, c, d] => Some(i32::from_ne_bytes([a, b, c, d])),
            _ => None,
        }
    }

    /// Nothing known, nothing filtered: what the object carries before it is loaded.
    pub const EMPTY: Self = Self {
        offsets: Offsets::NONE,
        records: Records {
            set_state: Record::NONE,
            destroy_sock: Record::NONE,
            retransmit_skb: Record::NONE,
            retransmit_synack: Record::NONE,
            send_reset: Record::NONE,
            receive_reset: Record::NONE,
        },
        filter: Filter {
            states: 0,
            one_netns: 0,
            ports: 0,
            addresses: 0,
            netns: 0,
            cgroup: 0,
            uid: 0,
            family: 0,
            spare: [0; 2],
        },
        wake_bytes: u32::MAX,
        wake_mask: 0,
        ring_limit: 0,
        ring_mask: 0,
        detail_states: 0,
        detail_stalled: 0,
        cookie_helper: 0,
        tcp_sock_helper: 0,
        probe_read: 0,
        retransmit_err: 0,
        reset_reason: 0,
        calls: CALLS_OFF,
        sock_from_file: 0,
        socket_storage: 0,
        own_ring: 0,
        ordered_stores: 0,
        spare: [0; 2],
    };
}
