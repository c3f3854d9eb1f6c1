//! The labels of `--label`: which group a flow belongs to.

use crate::{
    enrich::Places,
    flow::{Entry, FlowId, Known, Role, What, Who},
    process::Process,
    sight::Sight,
    stat::by::Listeners,
};
use clap::ValueEnum;
use hashbrown::HashMap;
use std::{borrow::Cow, net::IpAddr, sync::Arc};
use tcptrace_common::state::TcpState;

/// What flows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Label {
    /// The service's port: the local one where this host listens, else the remote one
    Port,
    /// The command of the process that opened the connection
    Process,
    /// The container, or the systemd unit, of that process
    Container,
    /// The remote address
    Peer,
    /// The network namespace, by inode number
    Netns,
    /// Which side opened the connection: active, passive, listen, unknown
    Role,
}

impl Label {
    /// The label's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Process => "process",
            Self::Container => "container",
            Self::Peer => "peer",
            Self::Netns => "netns",
            Self::Role => "role",
        }
    }
}

/// What is counted apart from the groups that are kept: every label has this value then.
pub const OTHER: &str = "other";
/// A value that could not be found out.
const UNKNOWN: &str = "unknown";
/// A listener has no peer.
const NONE: &str = "none";
/// Names of processes and containers that are remembered, and listeners; what comes after them is `other`.
const MOST_NAMES: usize = 65_536;
/// What comes after them.
const BEYOND: u32 = u32::MAX;

/// A group: of each label that is asked for, the value; of the others nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    port: u16,
    process: u32,
    container: u32,
    peer: Option<IpAddr>,
    netns: u32,
    role: u8,
}

const ROLES: [Role; 4] = [Role::Unknown, Role::Active, Role::Passive, Role::Listen];

/// Finds the group of a flow.
pub struct Labels {
    labels: Vec<Label>,
    names: Vec<Arc<str>>,
    by_name: HashMap<Arc<str>, u32>,
    places: Places,
    listeners: Listeners,
}

impl Labels {
    /// Each label once, in this order.
    pub fn new(labels: &[Label]) -> Self {
        let mut once: Vec<Label> = Vec::new();
        labels.iter().for_each(|label| {
            if !once.contains(label) {
                once.push(*label);
            }
        });
        let unknown: Arc<str> = UNKNOWN.into();
        Self {
            labels: once,
            by_name: HashMap::from([(Arc::clone(&unknown), 0)]),
            names: vec![unknown],
            places: Places::new(),
            listeners: Listeners::new(),
        }
    }

    /// No label was asked for: there is one group.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The group of a flow.
    pub fn key(&mut self, who: &Who) -> Key {
        let mut key = Key::default();
        for index in 0..self.labels.len() {
            let process = who.owner.as_ref().map(|owner| &owner.process);
            match self.labels[index] {
                Label::Port => key.port = self.port(who),
                Label::Process => key.process = process.map_or(0, |process| self.name(&process.comm)),
                Label::Container => key.container = process.map_or(0, |process| self.container(process)),
                Label::Peer => key.peer = (who.role != Role::Listen).then(|| who.ends.remote().ip()),
                Label::Netns => key.netns = who.netns,
                Label::Role => {
                    key.role = ROLES.iter().position(|role| *role == who.role).unwrap_or(0) as u8;
                }
            }
        }
        key
    }

    /// The labels of this group; `None`: of all that are not kept apart.
    pub fn values(&self, key: Option<&Key>) -> Vec<(&'static str, Cow<'static, str>)> {
        let name = |number: u32| match self.names.get(number as usize) {
            Some(name) => Cow::Owned(name.to_string()),
            None => Cow::Borrowed(OTHER),
        };
        let value = |label: &Label| -> Cow<'static, str> {
            let Some(key) = key else { return OTHER.into() };
            match label {
                Label::Port if key.port == 0 => UNKNOWN.into(),
                Label::Port => key.port.to_string().into(),
                Label::Process => name(key.process),
                Label::Container => name(key.container),
                Label::Peer => key.peer.map_or(NONE.into(), |peer| peer.to_string().into()),
                Label::Netns if key.netns == 0 => UNKNOWN.into(),
                Label::Netns => key.netns.to_string().into(),
                Label::Role => ROLES.get(usize::from(key.role)).map_or(UNKNOWN, |role| role.name()).into(),
            }
        };
        self.labels.iter().map(|label| (label.name(), value(label))).collect()
    }

    /// A listener in the kernel's list.
    pub fn seen(&mut self, sight: &Sight) {
        if sight.state == TcpState::Listen {
            self.listens((sight.netns, sight.ends.lport));
        }
    }

    /// A listener begins.
    pub fn told(&mut self, entry: &Entry) {
        if let What::Transition { new: TcpState::Listen, known: Known::Event, .. } = entry.what {
            self.listens((entry.who.netns, entry.who.ends.lport));
        }
    }

    fn listens(&mut self, place: (u32, u16)) {
        if self.labels.contains(&Label::Port) && self.listeners.len() < MOST_NAMES {
            self.listeners.insert(place);
        }
    }

    fn port(&self, who: &Who) -> u16 {
        let listened = self.listeners.contains(&(who.netns, who.ends.lport));
        // An RST without a socket: of its ports one may be any, and a port scan would fill all groups.
        if who.id == FlowId::None && !listened {
            return 0;
        }
        who.service(listened).1
    }

    fn container(&mut self, process: &Process) -> u32 {
        match self.places.of_owner(process).filter(|place| !place.is_root()) {
            Some(place) => self.name(place.name()),
            None => 0,
        }
    }

    fn name(&mut self, text: &str) -> u32 {
        if let Some(number) = self.by_name.get(text) {
            return *number;
        }
        if self.names.len() >= MOST_NAMES {
            return BEYOND;
        }
        let (name, number): (Arc<str>, _) = (text.into(), self.names.len() as u32);
        self.by_name.insert(Arc::clone(&name), number);
        self.names.push(name);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Ends,
        flow::owner::{Owner, Source},
    };
    use std::rc::Rc;

    fn who(role: Role, lport: u16, rport: u16) -> Who {
        let address = |last| std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
        let process = Rc::new(Process { pid: 1, uid: 0, cgroup: 0, comm: "a\"b".into() });
        Who {
            id: FlowId::Cookie(1),
            netns: 7,
            ends: Ends { local: address(1), remote: address(9), lport, rport },
            role,
            owner: Some(Owner { process, source: Source::Connect }),
        }
    }

    fn of(labels: &mut Labels, who: &Who) -> Vec<String> {
        let key = labels.key(who);
        labels.values(Some(&key)).into_iter().map(|(_, value)| value.into_owned()).collect()
    }

    #[test]
    fn a_reset_without_a_socket_makes_no_group_of_its_port() {
        let mut labels = Labels::new(&[Label::Port]);
        let stray = Who { id: FlowId::None, ..who(Role::Unknown, 1, 41442) };
        assert_eq!(of(&mut labels, &stray), ["unknown"]);
        labels.listens((7, 1));
        assert_eq!(of(&mut labels, &stray), ["1"]);
    }

    #[test]
    fn values_are_what_users_read() {
        let mut labels =
            Labels::new(&[Label::Port, Label::Peer, Label::Process, Label::Netns, Label::Role, Label::Port]);
        assert_eq!(
            of(&mut labels, &who(Role::Active, 40000, 443)),
            ["443", "10.0.0.9", "a\"b", "7", "active"]
        );
        assert_eq!(of(&mut labels, &who(Role::Passive, 80, 40000))[0], "80");
        assert_eq!(
            of(&mut labels, &Who { netns: 0, owner: None, ..who(Role::Listen, 80, 0) }),
            ["80", "none", "unknown", "unknown", "listen"]
        );
        let names: Vec<_> = labels.values(None);
        assert!(names.iter().all(|(_, value)| value == OTHER) && names.len() == 5, "{names:?}");
    }

    #[test]
    fn an_older_connection_goes_to_the_port_that_somebody_listens_on() {
        let mut labels = Labels::new(&[Label::Port]);
        let older = who(Role::Unknown, 80, 40000);
        assert_eq!(of(&mut labels, &older), ["40000"]);
        labels.listens((8, 80));
        assert_eq!(of(&mut labels, &older), ["40000"], "another namespace");
        labels.listens((7, 80));
        assert_eq!(of(&mut labels, &older), ["80"]);
    }

    #[test]
    fn names_are_bounded() {
        let mut labels = Labels::new(&[Label::Process]);
        for number in 0..MOST_NAMES + 10 {
            labels.name(&number.to_string());
        }
        assert_eq!(labels.names.len(), MOST_NAMES);
        let key = Key { process: labels.name("one more"), ..Key::default() };
        assert_eq!(labels.values(Some(&key)), [("process", OTHER.into())]);
    }
}
