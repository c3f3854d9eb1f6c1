//! The records in the ring buffer. Sizes and padding are asserted here, at compile time, so that a record
//! written by the kernel programs and one read by user space cannot disagree.
//!
//! Records have different sizes: a plain transition is 72 bytes, one with its process 112, a close with the
//! connection's last numbers 184, the end of a handshake 80, the end of a socket 32. The kind is the first byte.

use crate::address::Address;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What a record is about. The discriminant is the record's first byte and the index of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// [`Transition`]: a state change, current task not to be believed.
    Transition = 0,
    /// [`OwnedTransition`]: a state change made by the current task.
    OwnedTransition = 1,
    /// [`Close`]: a change to CLOSE, with the connection's last numbers.
    Close = 2,
    /// [`Retransmit`]: a retransmitted segment, as the tracepoint reports it.
    Retransmit = 3,
    /// [`SynAck`]: a repeated SYN-ACK of a half-open connection.
    SynAck = 4,
    /// [`Reset`]: an RST sent or received.
    Reset = 5,
    /// [`Destroy`]: the end of a full socket.
    Destroy = 6,
    /// [`Retransmit`] as the function probe saw it: an attempt with its result.
    RetransmitCall = 7,
    /// [`Object`]: a minisocket or a half-open request begins, changes or ends, as a function probe saw it.
    Object = 8,
    /// [`Accept`]: a program took a connection out of the accept queue, as a function probe saw it.
    Accept = 9,
    /// [`Established`]: the change of SYN_RECV to ESTABLISHED, with what tells when the handshake began.
    Established = 10,
}

/// How many kinds of record there are.
pub const KINDS: usize = 11;

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; KINDS] = [
        Self::Transition,
        Self::OwnedTransition,
        Self::Close,
        Self::Retransmit,
        Self::SynAck,
        Self::Reset,
        Self::Destroy,
        Self::RetransmitCall,
        Self::Object,
        Self::Accept,
        Self::Established,
    ];

    /// The kind whose records start with this byte.
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < KINDS { Some(Self::ALL[number as usize]) } else { None }
    }

    /// The word users see where records of this kind were lost.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transition | Self::OwnedTransition | Self::Close | Self::Established => "transition",
            Self::Retransmit | Self::RetransmitCall => "retransmit",
            Self::SynAck => "syn-ack",
            Self::Reset => "reset",
            Self::Destroy => "destroy",
            Self::Object => "object",
            Self::Accept => "accept",
        }
    }
}

/// [`Prefix::flags`]: the filter could not decide because a port or an address is not known yet; user space
/// shows the event once a later, complete event of the same socket has passed the filter.
pub const UNDECIDED: u8 = 1;

/// [`Tuple::bits`]: close() was called (SOCK_DEAD): nobody holds the descriptor any more.
pub const DEAD: u8 = 1;
/// [`Tuple::bits`]: a FIN was received (SOCK_DONE).
pub const DONE: u8 = 2;
/// [`Tuple::bits`]: a `struct socket` is attached: somebody could hold the descriptor.
pub const HAS_SOCKET: u8 = 4;
/// [`Tuple::bits`]: the three bits above were read; without BTF they are not.
pub const BITS_KNOWN: u8 = 8;

/// What every record starts with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefix {
    /// [`Kind`].
    pub kind: u8,
    /// [`UNDECIDED`] or 0.
    pub flags: u8,
    /// The socket's state; for transitions the one it leaves. 0: no socket.
    pub state: u8,
    /// The state it enters; 0 where the record is not a transition.
    pub to: u8,
    /// Inode number of the network namespace; 0: unknown.
    pub netns: u32,
    /// When, on CLOCK_MONOTONIC, in nanoseconds: it stands still while the machine sleeps.
    pub time_ns: u64,
    /// Kernel address of the socket; reused within microseconds (docs/kernel.md), so no identity by itself.
    pub sock: u64,
    /// The socket's cookie; 0: none (no helper, or not created yet).
    pub cookie: u64,
}

/// Both ends, and the few bits of the socket that are cheap enough to always carry.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tuple {
    /// Local address.
    pub local: Address,
    /// Remote address.
    pub remote: Address,
    /// Local port, host order; 0: not known at this event.
    pub lport: u16,
    /// Remote port, host order; 0: not known at this event, or a listener.
    pub rport: u16,
    /// 4 or 6: the socket's own family (an IPv6 socket may carry IPv4); 0: unknown.
    pub family: u8,
    /// [`DEAD`], [`DONE`], [`HAS_SOCKET`], [`BITS_KNOWN`].
    pub bits: u8,
    /// `sk_shutdown`: 1 receive, 2 send, 3 both.
    pub shutdown: u8,
    /// Zero.
    pub spare: u8,
}

/// The start of every record that names a connection.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// Kind, time, identity.
    pub pre: Prefix,
    /// Addresses.
    pub tuple: Tuple,
}

/// The current task. Only where the kernel runs in the caller's context (docs/kernel.md).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Task {
    /// Process id (tgid) in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real uid of the task in the initial user namespace.
    pub uid: u32,
    /// Zero.
    pub spare: u32,
    /// cgroup v2 id; 0: unknown.
    pub cgroup: u64,
    /// Command name in memory order, zero padded. Words: see [`Address`].
    pub comm: [u64; 2],
}

/// A state change.
pub type Transition = Header;

/// A state change made by the current task.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OwnedTransition {
    /// The change.
    pub head: Header,
    /// Who made it.
    pub task: Task,
}

/// The last numbers of a connection, read when it changes to CLOSE.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LastNumbers {
    /// Payload bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Payload bytes acknowledged by the peer (the kernel counts the SYN too).
    pub bytes_acked: u64,
    /// Payload bytes received in order.
    pub bytes_received: u64,
    /// Payload bytes sent again.
    pub bytes_retrans: u64,
    /// Smoothed round-trip time in microseconds; 0: never measured.
    pub srtt_us: u32,
    /// Smallest round-trip time in microseconds; `u32::MAX`: never measured.
    pub min_rtt_us: u32,
    /// Segments retransmitted over the connection's life.
    pub total_retrans: u32,
    /// Segments in flight.
    pub packets_out: u32,
    /// Bytes written by the program but never sent (an unsent FIN counts as one). This and what follows, down to the
    /// probes, only with [`STALL_KNOWN`].
    pub unsent: u32,
    /// Bytes received but never read by the program.
    pub unread: u32,
    /// The peer's window in bytes.
    pub snd_wnd: u32,
    /// TCP_LINGER2 in jiffies; negative: no FIN_WAIT2.
    pub linger2: i32,
    /// `sk_err`: an errno, 0: none (docs/kernel.md).
    pub sk_err: u16,
    /// `sk_err_soft`.
    pub sk_err_soft: u16,
    /// Retransmissions of the current stall.
    pub retransmits: u8,
    /// Exponential back-off of the current stall.
    pub backoff: u8,
    /// Unanswered window or keepalive probes.
    pub probes_out: u8,
    /// [`NUMBERS_KNOWN`], or 0 where the numbers above could not be read (no BTF).
    pub known: u8,
}

/// [`LastNumbers::known`]: bytes, times and retransmissions were read.
pub const NUMBERS_KNOWN: u8 = 1;
/// [`LastNumbers::known`]: the rest was read too. It is not when the connection ended in order: there it is no news,
/// and every close pays for it.
pub const STALL_KNOWN: u8 = 4;
/// [`LastNumbers::known`]: `sk_err` and `sk_err_soft` were read.
pub const ERROR_KNOWN: u8 = 2;

/// A change to CLOSE.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Close {
    /// The change.
    pub head: Header,
    /// The current task; the closer only where the cause says so.
    pub task: Task,
    /// The connection's last numbers.
    pub numbers: LastNumbers,
}

/// The change of SYN_RECV to ESTABLISHED. The kernel measures the round trip of the SYN-ACK before it (tcp_check_req,
/// read in 5.10 to 7.3): the child is made when its handshake ends, and this tells when it began.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Established {
    /// The change.
    pub head: Header,
    /// Round-trip time of the SYN-ACK in microseconds; 0: not measured, or not read.
    pub srtt_us: u32,
    /// How often the SYN-ACK was repeated: the round trip is then not that of the first.
    pub total_retrans: u32,
}

/// A retransmitted segment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Retransmit {
    /// The socket that repeats.
    pub head: Header,
    /// First sequence number.
    pub seq: u32,
    /// One past the last sequence number (SYN and FIN count as one each).
    pub end_seq: u32,
    /// First sequence number the peer has not acknowledged; 0 where it could not be read.
    pub snd_una: u32,
    /// 0: sent; otherwise the negative errno of the failed send. [`ERR_UNKNOWN`]: this kernel does not tell.
    pub err: i32,
    /// Segments repeated over the connection's life, this one included.
    pub total_retrans: u32,
    /// Segments in flight.
    pub packets_out: u32,
    /// Segments in this repetition.
    pub segments: u16,
    /// TCP flags of the segment: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub tcp_flags: u8,
    /// Congestion state: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss; [`UNKNOWN8`].
    pub ca_state: u8,
    /// The timer that is armed (`icsk_pending`): 0 none, 1 RTO, 3 probe, 5 loss probe; [`UNKNOWN8`].
    pub pending: u8,
    /// Retransmissions of the current stall.
    pub retransmits: u8,
    /// Exponential back-off of the current stall.
    pub backoff: u8,
    /// [`SEGMENT_KNOWN`] when the segment's own fields were read.
    pub known: u8,
}

/// [`Retransmit::err`] on kernels before 6.17: the tracepoint fires only for segments that were handed down.
pub const ERR_UNKNOWN: i32 = i32::MAX;
/// A one-byte member that could not be read.
pub const UNKNOWN8: u8 = u8::MAX;
/// [`Retransmit::known`]: sequence numbers, flags and segment count were read.
pub const SEGMENT_KNOWN: u8 = 1;

/// A repeated SYN-ACK.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SynAck {
    /// The half-open request.
    pub head: Header,
    /// Repetitions before this one; [`UNKNOWN8`].
    pub num_retrans: u8,
    /// Timer expiries so far; [`UNKNOWN8`].
    pub num_timeout: u8,
    /// Zero.
    pub spare: [u8; 6],
    /// When the first SYN-ACK was sent (`snt_synack`), in microseconds of the clock of [`Prefix::time_ns`]; 0: not read.
    pub first_us: u64,
}

/// An RST sent or received.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reset {
    /// The connection; of a socketless reset the addresses come from the packet it answers.
    pub head: Header,
    /// `enum sk_rst_reason` of the running kernel; [`REASON_UNKNOWN`].
    pub reason: u32,
    /// Sequence number of the packet it answers; 0 where there is none.
    pub seq: u32,
    /// [`SENT`] or [`RECEIVED`].
    pub direction: u8,
    /// [`Carrier`] as a number.
    pub carrier: u8,
    /// TCP flags of the packet it answers; 0 where there is none.
    pub tcp_flags: u8,
    /// Zero.
    pub spare: [u8; 5],
}

/// [`Reset::direction`].
pub const SENT: u8 = 0;
/// [`Reset::direction`].
pub const RECEIVED: u8 = 1;
/// [`Reset::reason`] where the kernel does not say (before 6.10, and for received resets).
pub const REASON_UNKNOWN: u32 = u32::MAX;

/// What kind of socket an RST belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Carrier {
    /// No socket at all: a packet for a closed port.
    None = 0,
    /// A full socket.
    Full = 1,
    /// The listener: the addresses are those of the packet, not the listener's.
    Listener = 2,
    /// A half-open request.
    Request = 3,
    /// A timewait minisocket.
    TimeWait = 4,
}

impl Carrier {
    /// The carrier with this number; anything else counts as none.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Full,
            2 => Self::Listener,
            3 => Self::Request,
            4 => Self::TimeWait,
            _ => Self::None,
        }
    }
}

/// The end of a full socket.
pub type Destroy = Prefix;

/// A minisocket or a half-open request. [`Prefix::state`] is its state, [`Prefix::to`] the same, or CLOSE at its end.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Object {
    /// Which.
    pub head: Header,
    /// Until its timer expires, in jiffies; 0: not told.
    pub timeout: u32,
    /// [`BEGINS`], [`CHANGES`] or [`ENDS`].
    pub step: u8,
    /// Zero.
    pub spare: [u8; 3],
}

/// [`Object::step`].
pub const BEGINS: u8 = 0;
/// [`Object::step`]: it enters another state, or its timer starts again.
pub const CHANGES: u8 = 1;
/// [`Object::step`]: a request also ends when it becomes a socket.
pub const ENDS: u8 = 2;

/// The child that a program accepted, and the program.
pub type Accept = OwnedTransition;

const _: () = {
    assert!(size_of::<Prefix>() == 32);
    assert!(size_of::<Tuple>() == 40);
    assert!(size_of::<Transition>() == 72);
    assert!(size_of::<Task>() == 40);
    assert!(size_of::<OwnedTransition>() == 112);
    assert!(size_of::<LastNumbers>() == 72);
    assert!(size_of::<Close>() == 184);
    assert!(size_of::<Retransmit>() == 104);
    assert!(size_of::<Established>() == 80);
    assert!(size_of::<SynAck>() == 88);
    assert!(size_of::<Reset>() == 88);
    assert!(size_of::<Object>() == 80);
};
