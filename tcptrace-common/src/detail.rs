//! What the iterator over TCP sockets hands to user space: what sock_diag does not show.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Detail::kind`]: a full socket, listeners included.
pub const SOCKET: u8 = 1;
/// [`Detail::kind`]: a half-open request.
pub const REQUEST: u8 = 2;
/// [`Detail::kind`]: no socket, but the time at the end of the walk.
pub const CLOCK: u8 = 3;

/// One socket, in the kernel's own units; members that the kernel does not have are 0. Stamps and times in jiffies mean
/// something only beside the [`CLOCK`] record of the same walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // the fields are the kernel's own member names
pub struct Detail {
    /// Never 0. In a [`CLOCK`] record nanoseconds of CLOCK_MONOTONIC.
    pub cookie: u64,
    /// `skc_flags`. In a [`CLOCK`] record jiffies, all 64 bits.
    pub flags: u64,
    /// Milliseconds.
    pub user_timeout: u32,
    /// Jiffies.
    pub linger2: i32,
    /// Jiffies.
    pub keepalive_time: u32,
    /// Jiffies.
    pub keepalive_intvl: u32,
    /// Jiffies.
    pub rto: u32,
    /// Jiffies.
    pub rto_max: u32,
    /// Milliseconds of CLOCK_MONOTONIC, the low 32 bits; microseconds if `tcp_usec_ts` is set.
    pub retrans_stamp: u32,
    /// Jiffies, the low 32 bits.
    pub probes_tstamp: u32,
    pub snd_wnd: u32,
    pub packets_out: u32,
    pub write_seq: u32,
    pub snd_una: u32,
    pub snd_nxt: u32,
    pub total_retrans: u32,
    pub ack_backlog: u32,
    pub max_ack_backlog: u32,
    pub qlen: u32,
    pub young: u32,
    pub drops: u32,
    pub err: u32,
    pub err_soft: u32,
    /// [`SOCKET`], [`REQUEST`] or [`CLOCK`].
    pub kind: u8,
    pub state: u8,
    pub syn_retries: u8,
    pub keepalive_probes: u8,
    pub retransmits: u8,
    pub backoff: u8,
    pub probes_out: u8,
    pub defer_accept: u8,
    /// The byte that holds the bit.
    pub tcp_usec_ts: u8,
    pub num_retrans: u8,
    pub num_timeout: u8,
    /// The byte that holds the bit.
    pub acked: u8,
}

impl Detail {
    /// Nothing but zeros.
    pub const ZERO: Self = Self {
        cookie: 0,
        flags: 0,
        user_timeout: 0,
        linger2: 0,
        keepalive_time: 0,
        keepalive_intvl: 0,
        rto: 0,
        rto_max: 0,
        retrans_stamp: 0,
        probes_tstamp: 0,
        snd_wnd: 0,
        packets_out: 0,
        write_seq: 0,
        snd_una: 0,
        snd_nxt: 0,
        total_retrans: 0,
        ack_backlog: 0,
        max_ack_backlog: 0,
        qlen: 0,
        young: 0,
        drops: 0,
        err: 0,
        err_soft: 0,
        kind: 0,
        state: 0,
        syn_retries: 0,
        keepalive_probes: 0,
        retransmits: 0,
        backoff: 0,
        probes_out: 0,
        defer_accept: 0,
        tcp_usec_ts: 0,
        num_retrans: 0,
        num_timeout: 0,
        acked: 0,
    };
}

const _: () = assert!(size_of::<Detail>() == 112);

/// `struct bpf_iter__tcp`, the context of an `iter/tcp` program; written down for the same reason as
/// [`crate::holding::TaskFileContext`], and compared with the kernel's types likewise.
#[derive(Debug)]
#[repr(C)]
pub struct TcpContext {
    /// `struct bpf_iter_meta *`.
    pub meta: u64,
    /// `struct sock_common *`; null at the end.
    pub sk_common: u64,
}

/// Name and offset of each member of [`TcpContext`], to compare with the kernel's types.
pub const CONTEXT_MEMBERS: [(&str, usize); 2] = [
    ("meta", core::mem::offset_of!(TcpContext, meta)),
    ("sk_common", core::mem::offset_of!(TcpContext, sk_common)),
];
