//! Grouping: by port, process, container, namespace or peer.

use super::Tally;
use crate::{
    event::TcpState,
    flow::Role,
    process::Process,
    sight::{Kind, Sight},
};
use hashbrown::{HashMap, HashSet};
use std::{cmp::Reverse, fmt, net::IpAddr, rc::Rc, sync::Arc};

/// Groups kept apart at once; whatever comes after them is counted together. Peers can be as many as there are
/// addresses.
const MAX_GROUPS: usize = 65_536;

/// What sockets are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The service's port: the local one where somebody listens on it in that namespace, else the remote one (→443).
    Port,
    /// The process that has a descriptor of it.
    Process,
    /// The container, or the unit, that it was made in.
    Container,
    /// The network namespace.
    Netns,
    /// The remote address.
    Peer,
}

impl By {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Process => "process",
            Self::Container => "container",
            Self::Netns => "netns",
            Self::Peer => "peer",
        }
    }
}

/// Who listens where: namespace and port.
pub type Listeners = HashSet<(u32, u16)>;

/// Whose a socket is.
pub trait Owners {
    /// The process that has a descriptor of it; of several, one. `None`: it cannot be seen.
    fn process(&self, sight: &Sight) -> Option<Rc<Process>>;
    /// Its container, or unit. `None`: it is not known.
    fn container(&self, sight: &Sight) -> Option<Arc<str>>;
}

/// Nothing is known of anybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOwners;

impl Owners for NoOwners {
    fn process(&self, _: &Sight) -> Option<Rc<Process>> {
        None
    }

    fn container(&self, _: &Sight) -> Option<Arc<str>> {
        None
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Local port that somebody listens on.
    Local(u16),
    /// Remote port.
    Remote(u16),
    /// Remote address; IPv4-mapped ones are IPv4.
    Peer(IpAddr),
    /// Network namespace.
    Netns(u32),
    /// Process.
    Process(Rc<Process>),
    /// Container or unit.
    Container(Arc<str>),
    /// Which side opened the connection.
    Role(Role),
    /// None of the groups, and why.
    None(Why),
}

/// Why a socket is in none of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// A listener has no peer.
    Listening,
    /// Its program has closed it.
    Closed,
    /// No program has accepted it yet.
    NotAccepted,
    /// It could not be found out.
    Unknown,
}

impl Why {
    /// The words users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Closed => "closed by its program",
            Self::NotAccepted => "not accepted yet",
            Self::Unknown => "unknown",
        }
    }
}

impl Key {
    /// The order of groups of the same size: by number where there is one.
    pub(crate) fn order(&self) -> (u32, String) {
        match self {
            Self::Local(port) | Self::Remote(port) => (u32::from(*port), self.to_string()),
            Self::Netns(number) => (*number, String::new()),
            _ => (0, self.to_string()),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Local(port) => format!(":{port}"),
            Self::Remote(port) => format!("→{port}"),
            Self::Peer(address) => address.to_string(),
            Self::Netns(number) => format!("net:[{number}]"),
            Self::Process(process) => format!("{}/{}", process.comm, process.pid),
            Self::Container(name) => name.to_string(),
            Self::Role(role) => role.name().to_owned(),
            Self::None(why) => format!("({})", why.name()),
        };
        f.pad(&text)
    }
}

impl By {
    /// The group of a socket.
    pub fn key(self, sight: &Sight, listeners: &Listeners, owners: &dyn Owners) -> Key {
        match self {
            Self::Port if listeners.contains(&(sight.netns, sight.ends.lport)) => {
                Key::Local(sight.ends.lport)
            }
            Self::Port if sight.ends.rport == 0 => Key::Local(sight.ends.lport),
            Self::Port => Key::Remote(sight.ends.rport),
            Self::Peer if sight.state == TcpState::Listen => Key::None(Why::Listening),
            Self::Peer => Key::Peer(sight.ends.remote().ip()),
            Self::Netns => Key::Netns(sight.netns),
            Self::Process => match owners.process(sight) {
                Some(process) => Key::Process(process),
                None => Key::None(why_nobody(sight)),
            },
            Self::Container => match owners.container(sight) {
                Some(name) => Key::Container(name),
                None => Key::None(if sight.cgroup.is_none() { why_nobody(sight) } else { Why::Unknown }),
            },
        }
    }
}

/// Why there is no process.
fn why_nobody(sight: &Sight) -> Why {
    match sight.kind {
        Kind::Request => Why::NotAccepted,
        Kind::Minisocket => Why::Closed,
        Kind::Full if sight.is_orphan() => Why::Closed,
        Kind::Full if sight.inode == 0 => Why::NotAccepted,
        Kind::Full => Why::Unknown,
    }
}

/// The tallies of all groups.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    tallies: HashMap<Key, Tally>,
    beyond: Tally,
}

/// The largest groups, each with its tally, and the rest together.
#[derive(Clone, Debug)]
pub struct Top<T> {
    /// The largest first; equal ones in the order of their names.
    pub groups: Vec<(Key, T)>,
    /// How many groups are in `others`; `None`: so many that they were not kept apart.
    pub more: Option<usize>,
    /// What is in no group of `groups`.
    pub others: T,
}

impl<T> Top<T> {
    /// The `most` largest by `weight`. `beyond`: what is in none of them; `apart`: no group is in there.
    pub fn of(
        groups: HashMap<Key, T>,
        most: usize,
        beyond: T,
        apart: bool,
        weight: impl Fn(&T) -> u64,
        merge: impl Fn(&mut T, &T),
    ) -> Self {
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_cached_key(|(key, tally)| (Reverse(weight(tally)), key.order()));
        let rest = groups.split_off(most.min(groups.len()));
        let mut others = beyond;
        rest.iter().for_each(|(_, tally)| merge(&mut others, tally));
        Self { groups, more: apart.then_some(rest.len()), others }
    }
}

impl Groups {
    /// Counts a socket in its group.
    pub fn add(&mut self, key: Key, sight: &Sight) {
        if self.tallies.len() < MAX_GROUPS || self.tallies.contains_key(&key) {
            self.tallies.entry(key).or_default().add(sight);
        } else {
            self.beyond.add(sight);
        }
    }

    /// The `most` largest groups.
    pub fn top(self, most: usize) -> Top<Tally> {
        let apart = self.beyond.total() == 0;
        Top::of(self.tallies, most, self.beyond, apart, Tally::total, Tally::merge)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};

    fn nginx() -> Rc<Process> {
        Rc::new(Process { pid: 42, uid: 33, cgroup: 9, comm: "nginx".into() })
    }

    struct Known;

    impl Owners for Known {
        fn process(&self, sight: &Sight) -> Option<Rc<Process>> {
            (sight.inode == 5).then(nginx)
        }

        fn container(&self, sight: &Sight) -> Option<Arc<str>> {
            sight.cgroup.filter(|id| *id == 9).map(|_| "nginx.service".into())
        }
    }

    #[test]
    fn a_port_is_the_services_port() {
        let listeners = Listeners::from_iter([(7, 80)]);
        let key = |local: &str, remote: &str| {
            By::Port.key(&sight(TcpState::Established, local, remote), &listeners, &NoOwners)
        };
        assert_eq!(key("10.0.0.1:80", "10.0.0.9:40000"), Key::Local(80));
        assert_eq!(key("10.0.0.1:40000", "10.0.0.9:443"), Key::Remote(443));
        assert_eq!(key("10.0.0.1:40000", "10.0.0.9:80"), Key::Remote(80));
        let elsewhere = Sight { netns: 8, ..sight(TcpState::Established, "10.0.0.1:80", "10.0.0.9:40000") };
        assert_eq!(By::Port.key(&elsewhere, &listeners, &NoOwners), Key::Remote(40000));
        let bound = sight(TcpState::Close, "0.0.0.0:5000", "0.0.0.0:0");
        assert_eq!(By::Port.key(&bound, &listeners, &NoOwners), Key::Local(5000));
        assert_eq!((Key::Local(80).to_string(), Key::Remote(443).to_string()), (":80".into(), "→443".into()));
    }

    #[test]
    fn a_peer_is_an_address_and_listeners_have_none() {
        let key = |state, remote: &str| {
            By::Peer.key(&sight(state, "[::ffff:10.0.0.1]:80", remote), &Listeners::new(), &NoOwners)
        };
        assert_eq!(
            key(TcpState::Established, "[::ffff:192.0.2.1]:5"),
            key(TcpState::TimeWait, "192.0.2.1:6")
        );
        assert_eq!(key(TcpState::Listen, "[::]:0"), Key::None(Why::Listening));
    }

    #[test]
    fn nobody_is_told_with_its_reason() {
        let key = |by: By, sight: &Sight| by.key(sight, &Listeners::new(), &Known);
        let full = |state, inode| of(Kind::Full, state, inode);
        use TcpState::{Established, FinWait1, FinWait2, NewSynRecv};
        assert_eq!(key(By::Process, &full(Established, 5)), Key::Process(nginx()));
        assert_eq!(key(By::Process, &full(Established, 6)), Key::None(Why::Unknown));
        assert_eq!(key(By::Process, &full(Established, 0)), Key::None(Why::NotAccepted));
        assert_eq!(key(By::Process, &full(FinWait1, 0)), Key::None(Why::Closed));
        assert_eq!(key(By::Process, &of(Kind::Minisocket, FinWait2, 0)), Key::None(Why::Closed));
        assert_eq!(key(By::Process, &of(Kind::Request, NewSynRecv, 0)), Key::None(Why::NotAccepted));
        let placed = |id| Sight { cgroup: Some(id), ..full(FinWait1, 0) };
        assert_eq!(key(By::Container, &placed(9)), Key::Container("nginx.service".into()));
        assert_eq!(key(By::Container, &placed(8)), Key::None(Why::Unknown));
        assert_eq!(key(By::Netns, &placed(8)).to_string(), "net:[7]");
    }

    #[test]
    fn groups_and_others_add_up() {
        let mut groups = Groups::default();
        let mut all = Tally::default();
        for port in [1, 1, 1, 2, 2, 3, 4] {
            let sight = of(Kind::Full, TcpState::Established, 1);
            groups.add(Key::Local(port), &sight);
            all.add(&sight);
        }
        let top = groups.clone().top(2);
        let shown: Vec<_> = top.groups.iter().map(|(key, tally)| (key.clone(), tally.total())).collect();
        assert_eq!(shown, [(Key::Local(1), 3), (Key::Local(2), 2)]);
        assert_eq!((top.more, top.others.total()), (Some(2), 2));
        let mut sum = top.others.clone();
        top.groups.iter().for_each(|(_, tally)| sum.merge(tally));
        assert_eq!(sum, all);
        let whole = groups.top(20);
        assert_eq!((whole.groups.len(), whole.more, whole.others.total()), (4, Some(0), 0));
        assert_eq!(whole.groups[2].0, Key::Local(3), "equal ones in their order");
    }

    #[test]
    fn groups_are_bounded() {
        let mut groups = Groups::default();
        let sight = of(Kind::Full, TcpState::Established, 1);
        for number in 0..MAX_GROUPS as u32 + 10 {
            groups.add(Key::Netns(number), &sight);
        }
        groups.add(Key::Netns(0), &sight);
        let top = groups.top(1);
        assert_eq!((top.groups[0].clone().0, top.more), (Key::Netns(0), None));
        assert_eq!(top.others.total(), MAX_GROUPS as u64 + 9);
    }
}
