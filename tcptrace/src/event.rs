//! Events as user space sees them: what one record of the kernel programs says, and nothing more.

use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
pub use tcptrace_common::{
    event::{Carrier, LastNumbers, Task},
    state::TcpState,
};

/// Both ends of a connection. Ports that an event does not know are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ends {
    /// Local address, IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Remote address, likewise.
    pub remote: [u8; 16],
    /// Local port.
    pub lport: u16,
    /// Remote port.
    pub rport: u16,
}

impl Ends {
    /// The local end; IPv4-mapped addresses as IPv4.
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(canonical(self.local), self.lport)
    }

    /// The remote end, likewise.
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(canonical(self.remote), self.rport)
    }

    /// 4 or 6; IPv4-mapped is 4.
    pub fn family(&self) -> u8 {
        if canonical(self.local).is_ipv4() { 4 } else { 6 }
    }

    /// Takes from `other` what these ends do not know: ports that are 0, addresses that are unspecified.
    pub fn complete(&mut self, other: &Self) {
        // `::` and `::ffff:0.0.0.0`.
        let unknown = |address: &[u8; 16]| matches!(u128::from_be_bytes(*address), 0 | 0xffff_0000_0000);
        if self.lport == 0 {
            self.lport = other.lport;
        }
        if self.rport == 0 {
            self.rport = other.rport;
        }
        if unknown(&self.local) {
            self.local = other.local;
        }
        if unknown(&self.remote) {
            self.remote = other.remote;
        }
    }

    /// As the other end has them.
    pub fn turned_round(&self) -> Self {
        Self { local: self.remote, remote: self.local, lport: self.rport, rport: self.lport }
    }
}

fn canonical(address: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
}

/// What every event says.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// When, on the boot-time clock, in nanoseconds.
    pub time_ns: u64,
    /// Kernel address of the socket; 0: no socket.
    pub sock: u64,
    /// Cookie of the socket; 0: none.
    pub cookie: u64,
    /// Inode number of the network namespace; 0: unknown.
    pub netns: u32,
    /// The filter could not decide yet: to be shown only if the flow shows up again.
    pub undecided: bool,
    /// The ends, as far as this event knows them.
    pub ends: Ends,
}

/// Bits of the socket; `None` where they cannot be read (no BTF).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    /// close() was called: nobody holds the descriptor.
    pub dead: bool,
    /// A FIN was received.
    pub done: bool,
    /// A `struct socket` is attached.
    pub has_socket: bool,
}

/// A state change.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Who and when.
    pub head: Head,
    /// The state it leaves.
    pub old: TcpState,
    /// The state it enters.
    pub new: TcpState,
    /// Bits of the socket at this moment.
    pub bits: Option<Bits>,
    /// `sk_shutdown`: 1 receive, 2 send, 3 both.
    pub shutdown: u8,
    /// The current task; whether it may be believed depends on the transition.
    pub task: Option<Task>,
    /// The connection's last numbers, at CLOSE.
    pub numbers: Option<LastNumbers>,
    /// How long before this the first SYN-ACK was sent, in nanoseconds, at `SYN_RECV -> ESTABLISHED` where the kernel
    /// tells.
    pub handshake_ns: Option<u64>,
}

/// What kind of segment was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// SYN of an active open.
    Syn,
    /// SYN-ACK of a passive or simultaneous open.
    SynAck,
    /// FIN without data.
    Fin,
    /// Data, with or without FIN.
    Data,
    /// The kernel's segment could not be read.
    Unknown,
}

impl Segment {
    /// Every kind, in the order of the counters.
    pub const ALL: [Self; 5] = [Self::Syn, Self::SynAck, Self::Fin, Self::Data, Self::Unknown];

    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::SynAck => "syn-ack",
            Self::Fin => "fin",
            Self::Data => "data",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a segment was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The retransmission timer expired, or the loss recovery that follows it.
    Rto,
    /// Fast recovery: duplicate ACKs, SACK or RACK.
    Fast,
    /// Tail loss probe.
    Tlp,
    /// The evidence does not tell.
    Unknown,
}

impl Reason {
    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 4] = [Self::Rto, Self::Fast, Self::Tlp, Self::Unknown];

    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rto => "rto",
            Self::Fast => "fast",
            Self::Tlp => "tlp",
            Self::Unknown => "unknown",
        }
    }
}

/// A segment sent again, or an attempt at it.
#[derive(Clone, Debug)]
pub struct Retransmit {
    /// Who and when.
    pub head: Head,
    /// State of the connection; `None` where it could not be read.
    pub state: Option<TcpState>,
    /// What was sent.
    pub segment: Segment,
    /// Why.
    pub reason: Reason,
    /// The evidence for `reason`, as a short stable word.
    pub evidence: &'static str,
    /// TCP flags; `None` where the segment could not be read.
    pub tcp_flags: Option<u8>,
    /// First and one past the last sequence number.
    pub sequence: Option<(u32, u32)>,
    /// How many segments went out.
    pub segments: u16,
    /// `Some(0)`: sent; a negative errno: it could not leave; `None`: this kernel tells only of sent ones.
    pub err: Option<i32>,
    /// Retransmissions of the current stall so far.
    pub stalled: u8,
    /// Exponential back-off of the current stall.
    pub backoff: u8,
    /// Of a SYN-ACK: how long before this the first one was sent, in nanoseconds, where the kernel tells.
    pub handshake_ns: Option<u64>,
    /// The function probe saw it, not the tracepoint.
    pub from_call: bool,
}

/// Which way an RST went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// This host sent it.
    Sent,
    /// This host received it.
    Received,
}

impl Direction {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
        }
    }
}

/// An RST.
#[derive(Clone, Debug)]
pub struct Reset {
    /// Who and when; without a socket the ends come from the packet it answers.
    pub head: Head,
    /// Which way.
    pub direction: Direction,
    /// The kernel's reason by its own name; `None` where it gives none.
    pub reason: Option<Arc<str>>,
    /// What kind of socket it belongs to.
    pub carrier: Carrier,
    /// State of the socket; `None` without one.
    pub state: Option<TcpState>,
    /// close() had been called.
    pub dead: Option<bool>,
    /// TCP flags of the packet it answers; `None` where there is none.
    pub answers: Option<u8>,
}

/// The end of a full socket.
#[derive(Clone, Copy, Debug)]
pub struct Destroy {
    /// Who and when. The ends are never known here.
    pub head: Head,
}

/// What became of an object that no tracepoint mentions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is there from now on.
    Begins,
    /// It enters another state, or its timer starts again.
    Changes,
    /// It is gone. A half-open request ends also when it becomes a socket.
    Ends,
}

/// A minisocket or a half-open request, as a function probe saw it.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    /// Who and when.
    pub head: Head,
    /// Its state: FIN_WAIT2 or TIME_WAIT of a minisocket, [`TcpState::NewSynRecv`] of a request.
    pub state: TcpState,
    /// What became of it.
    pub step: Step,
    /// Until its timer expires, in the kernel's jiffies; 0: not told.
    pub timeout_jiffies: u32,
}

/// A program took a connection out of the accept queue.
#[derive(Clone, Copy, Debug)]
pub struct Accept {
    /// Which and when.
    pub head: Head,
    /// Who.
    pub task: Task,
}

/// One record.
#[derive(Clone, Debug)]
pub enum Event {
    /// A state change.
    Transition(Transition),
    /// A segment sent again.
    Retransmit(Retransmit),
    /// An RST.
    Reset(Reset),
    /// The end of a socket.
    Destroy(Destroy),
    /// A minisocket or a half-open request.
    Object(Object),
    /// A connection was accepted.
    Accept(Accept),
}

impl Event {
    /// Who and when.
    pub fn head(&self) -> &Head {
        match self {
            Self::Transition(Transition { head, .. })
            | Self::Retransmit(Retransmit { head, .. })
            | Self::Reset(Reset { head, .. })
            | Self::Destroy(Destroy { head })
            | Self::Object(Object { head, .. })
            | Self::Accept(Accept { head, .. }) => head,
        }
    }
}

impl Event {
    /// Who and when, to be mended.
    pub(crate) fn head_mut(&mut self) -> &mut Head {
        match self {
            Self::Transition(Transition { head, .. })
            | Self::Retransmit(Retransmit { head, .. })
            | Self::Reset(Reset { head, .. })
            | Self::Destroy(Destroy { head })
            | Self::Object(Object { head, .. })
            | Self::Accept(Accept { head, .. }) => head,
        }
    }
}

/// TCP flags, shown as the names of those that are set: `SYN|ACK`.
#[derive(Clone, Copy, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// The names, as tcpdump's letters stand for them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, name) in self.names().enumerate() {
            f.write_str(if number == 0 { "" } else { "|" })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}
