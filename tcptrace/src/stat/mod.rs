//! Sockets counted by state, grouped, and measured against limits; counters and their rates. Pure: it is given what was
//! looked at, and says what that comes to.

pub mod by;
pub mod limits;
pub mod picture;
pub mod queues;
pub mod rates;
pub mod report;
pub mod unusual;

use crate::{
    event::TcpState,
    sight::{Kind, Sight},
};
use tcptrace_common::state::STATES;

/// The states in the order of a connection's life, as tables show them. SYN_RECV stands for both of the kernel's kinds.
pub const ORDER: [TcpState; 11] = [
    TcpState::Listen,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::TimeWait,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Close,
];

/// How many sockets are in each state, and what holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    by_state: [u64; STATES],
    /// Full sockets without a descriptor: orphans, and those that wait to be accepted.
    bare: [u64; STATES],
    fin_wait2_minisockets: u64,
    /// Requests and minisockets, which have neither a user nor a cgroup.
    small: u64,
}

/// FIN_WAIT2 is two things: a program that only shut down its side (for ever), and what is left of a closed connection
/// (60 s, unless tcp_fin_timeout says otherwise).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinWait2 {
    /// A program has the descriptor.
    pub held: u64,
    /// Orphans that are full sockets: only where the fin time-out is above 60 s.
    pub orphans: u64,
    /// Orphans that are minisockets.
    pub minisockets: u64,
}

impl Tally {
    /// Counts a socket.
    pub fn add(&mut self, sight: &Sight) {
        let state = index(sight.state);
        self.by_state[state] += 1;
        match sight.kind {
            Kind::Full => self.bare[state] += u64::from(sight.inode == 0),
            Kind::Request => self.small += 1,
            Kind::Minisocket => {
                self.small += 1;
                self.fin_wait2_minisockets += u64::from(sight.state == TcpState::FinWait2);
            }
        }
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: &Self) {
        let counts = [(&mut self.by_state, &other.by_state), (&mut self.bare, &other.bare)];
        for (sums, more) in counts {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.fin_wait2_minisockets += other.fin_wait2_minisockets;
        self.small += other.small;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_state.iter().sum()
    }

    /// Those in a state; for SYN_RECV half-open requests count too.
    pub fn count(&self, state: TcpState) -> u64 {
        let requests = if state == TcpState::SynRecv { self.half_open() } else { 0 };
        self.by_state[index(state)] + requests
    }

    /// Half-open requests: SYN received, handshake not complete.
    pub fn half_open(&self) -> u64 {
        self.by_state[index(TcpState::NewSynRecv)]
    }

    /// Requests and minisockets: whose they are cannot be told.
    pub fn without_owner(&self) -> u64 {
        self.small
    }

    /// Full sockets in this state that their program has closed.
    pub fn orphans_in(&self, state: TcpState) -> u64 {
        match state {
            TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => {
                self.bare[index(state)]
            }
            _ => 0,
        }
    }

    /// Full sockets that their program has closed: what the kernel counts against tcp_max_orphans.
    pub fn orphans(&self) -> u64 {
        ORDER.iter().map(|state| self.orphans_in(*state)).sum()
    }

    /// Connections in this state that no program has accepted yet.
    pub fn unaccepted_in(&self, state: TcpState) -> u64 {
        match state {
            TcpState::SynRecv | TcpState::Established | TcpState::CloseWait => self.bare[index(state)],
            _ => 0,
        }
    }

    /// Connections that no program has accepted yet.
    pub fn unaccepted(&self) -> u64 {
        ORDER.iter().map(|state| self.unaccepted_in(*state)).sum()
    }

    /// The kinds of FIN_WAIT2.
    pub fn fin_wait2(&self) -> FinWait2 {
        let all = self.by_state[index(TcpState::FinWait2)];
        let orphans = self.orphans_in(TcpState::FinWait2);
        let minisockets = self.fin_wait2_minisockets;
        FinWait2 { held: all.saturating_sub(orphans + minisockets), orphans, minisockets }
    }
}

fn index(state: TcpState) -> usize {
    usize::from(state.number()) % STATES
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::event::Ends;
    use std::{
        net::{IpAddr, SocketAddr},
        sync::atomic::{AtomicU64, Ordering},
    };

    /// A full socket with a descriptor.
    pub(crate) fn sight(state: TcpState, local: &str, remote: &str) -> Sight {
        let bytes = |end: SocketAddr| match end.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let [local, remote]: [SocketAddr; 2] = [local, remote].map(|end| end.parse().unwrap());
        static COOKIES: AtomicU64 = AtomicU64::new(1);
        Sight {
            cookie: COOKIES.fetch_add(1, Ordering::Relaxed),
            netns: 7,
            kind: Kind::Full,
            state,
            ends: Ends {
                local: bytes(local),
                remote: bytes(remote),
                lport: local.port(),
                rport: remote.port(),
            },
            uid: 1000,
            inode: 5,
            receive_queue: 0,
            send_queue: 0,
            timer: None,
            shutdown: None,
            cgroup: None,
            memory: None,
            info: None,
        }
    }

    pub(crate) fn of(kind: Kind, state: TcpState, inode: u32) -> Sight {
        Sight { kind, inode, ..sight(state, "10.0.0.1:80", "10.0.0.9:40000") }
    }

    #[test]
    fn every_state_has_its_column() {
        let mut all: Vec<_> = ORDER.to_vec();
        all.push(TcpState::NewSynRecv);
        all.sort();
        assert_eq!(all, TcpState::ALL);
    }

    #[test]
    fn the_three_kinds_of_fin_wait2() {
        let mut tally = Tally::default();
        for (kind, inode) in
            [(Kind::Full, 5), (Kind::Full, 6), (Kind::Full, 0), (Kind::Minisocket, 0), (Kind::Minisocket, 0)]
        {
            tally.add(&of(kind, TcpState::FinWait2, inode));
        }
        assert_eq!(tally.fin_wait2(), FinWait2 { held: 2, orphans: 1, minisockets: 2 });
        assert_eq!((tally.count(TcpState::FinWait2), tally.orphans(), tally.without_owner()), (5, 1, 2));
    }

    #[test]
    fn without_a_descriptor_is_an_orphan_or_not_accepted() {
        let mut tally = Tally::default();
        for state in TcpState::ALL {
            tally.add(&of(Kind::Full, state, 0));
        }
        assert_eq!((tally.orphans(), tally.unaccepted()), (4, 3));
        assert_eq!(tally.orphans_in(TcpState::LastAck), 1);
        assert_eq!(tally.unaccepted_in(TcpState::CloseWait), 1);
        assert_eq!(tally.unaccepted_in(TcpState::TimeWait), 0);
    }

    #[test]
    fn half_open_requests_are_syn_recv() {
        let mut tally = Tally::default();
        tally.add(&of(Kind::Request, TcpState::NewSynRecv, 0));
        tally.add(&of(Kind::Full, TcpState::SynRecv, 3));
        assert_eq!((tally.count(TcpState::SynRecv), tally.half_open()), (2, 1));
        let columns: u64 = ORDER.iter().map(|state| tally.count(*state)).sum();
        assert_eq!(columns, tally.total());
    }

    #[test]
    fn merging_is_counting_together() {
        let (mut one, mut two, mut both) = (Tally::default(), Tally::default(), Tally::default());
        for (number, state) in TcpState::ALL.into_iter().enumerate() {
            let kind = [Kind::Full, Kind::Request, Kind::Minisocket][number % 3];
            let sight = of(kind, state, number as u32 % 2);
            both.add(&sight);
            if number < 5 { one.add(&sight) } else { two.add(&sight) }
        }
        one.merge(&two);
        assert_eq!(one, both);
    }
}
