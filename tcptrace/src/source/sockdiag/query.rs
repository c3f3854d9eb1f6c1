//! What can be asked.

use crate::event::TcpState;

/// `TCPF_BOUND_INACTIVE` (6.8): bound, neither listening nor connected; shown as CLOSE.
const BOUND_INACTIVE: u32 = 1 << 13;

/// A set of TCP states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(u16);

impl States {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every state but CLOSE: all connections, half-open ones and minisockets included, and all listeners.
    pub const ALL: Self = Self(0b1_1111_0111_1110);

    /// These.
    pub fn of(states: impl IntoIterator<Item = TcpState>) -> Self {
        Self(states.into_iter().fold(0, |bits, state| bits | 1 << state.number()))
    }

    /// Is it one of them?
    pub const fn has(self, state: TcpState) -> bool {
        self.0 >> state.number() & 1 == 1
    }

    /// `idiag_states`. The kernel adds half-open requests to SYN_RECV by itself; who does not want them drops them.
    pub(super) const fn bits(self) -> u32 {
        self.0 as u32 | if self.has(TcpState::Close) { BOUND_INACTIVE } else { 0 }
    }
}

/// How much is told of each socket. What a [`Plain`](Self::Plain) answer lacks is `None` in the sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// All but memory and TCP's own numbers. What kind of socket it is, `shutdown` and the cgroup come at no cost.
    Plain,
    /// Everything. The kernel takes each socket's lock for it, and about a third longer.
    Full,
}

/// The family of a socket, not of its addresses: an IPv6 socket may have IPv4-mapped ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AF_INET.
    Inet,
    /// AF_INET6.
    Inet6,
}

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Sockets in these states.
    pub states: States,
    /// How much of each.
    pub detail: Detail,
    /// Of this family; `None`: of both, in one walk over the kernel's table. Where there are many of both, two threads
    /// with a `SockDiag` and a family each take little more than half the time.
    pub family: Option<Family>,
    /// With these ports, local and remote; 0 stands for any. A remote port leaves listeners out.
    pub ports: (u16, u16),
}

impl Query {
    /// Every socket in one of these states.
    pub const fn of(states: States, detail: Detail) -> Self {
        Self { states, detail, family: None, ports: (0, 0) }
    }
}
