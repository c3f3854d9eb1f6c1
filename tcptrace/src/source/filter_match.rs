//! The filter as user space decides it, for sockets that were looked at: the same answer that the kernel programs give
//! for an event of that socket (tcptrace-ebpf, `filter.rs`).

use super::filter::{FilterSpec, Ports};
use crate::{
    event::{Ends, Event, TcpState},
    sight::{Kind, Sight},
};

impl FilterSpec {
    /// Whether it wants this event, or may want it: where a port is not known yet the event is marked as undecided. As the
    /// kernel programs do, but for users, cgroups and states, which events do not tell.
    pub fn admits(&self, event: &mut Event) -> bool {
        // The ends of a socket that is destroyed are never known.
        if matches!(event, Event::Destroy(_)) {
            return true;
        }
        let head = event.head_mut();
        let Ends { local, remote, lport, rport } = head.ends;
        if !(self.netns.is_empty() || head.netns == 0 || self.netns.contains(&head.netns)) {
            return false;
        }
        if self.family.is_none_or(|family| family == head.ends.family())
            && self.address_matches([local, remote])
            && self.ports_match(lport, rport)
        {
            return true;
        }
        let incomplete = lport == 0 || rport == 0;
        head.undecided |= incomplete;
        incomplete
    }

    /// Whether it wants this socket.
    ///
    /// Requests and minisockets have neither a user nor a cgroup: as in the kernel programs those two conditions do not
    /// hold them back.
    pub fn matches(&self, sight: &Sight) -> bool {
        let full = sight.kind == Kind::Full;
        (self.netns.is_empty() || self.netns.contains(&sight.netns))
            && (!full || self.uids.is_empty() || self.uids.contains(&sight.uid))
            && (!full || self.cgroups.is_empty() || sight.cgroup.is_some_and(|id| self.cgroups.contains(&id)))
            && (self.states.is_empty() || self.states.contains(&spoken(sight.state)))
            && self.family.is_none_or(|family| family == sight.ends.family())
            && self.ports_match(sight.ends.lport, sight.ends.rport)
            && self.address_matches([sight.ends.local, sight.ends.remote])
    }

    fn ports_match(&self, local: u16, remote: u16) -> bool {
        let has = |ports: &Ports, port: u16| ports.iter().any(|range| range.contains(&port));
        (self.port.is_empty() || has(&self.port, local) || has(&self.port, remote))
            && (self.lport.is_empty() || has(&self.lport, local))
            && (self.rport.is_empty() || has(&self.rport, remote))
    }

    fn address_matches(&self, ends: [[u8; 16]; 2]) -> bool {
        self.addresses.is_empty()
            || self
                .networks()
                .any(|(length, network)| ends.iter().any(|address| same_prefix(length, network, *address)))
    }
}

/// People say SYN_RECV for both of the kernel's kinds.
fn spoken(state: TcpState) -> TcpState {
    if state == TcpState::NewSynRecv { TcpState::SynRecv } else { state }
}

/// Do the first `length` bits agree?
fn same_prefix(length: u32, network: [u8; 16], address: [u8; 16]) -> bool {
    let differing = u128::from_be_bytes(network) ^ u128::from_be_bytes(address);
    differing.leading_zeros() >= length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Ends;
    use std::net::{IpAddr, SocketAddr};

    fn sight(local: &str, remote: &str) -> Sight {
        let bytes = |end: SocketAddr| match end.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let [local, remote]: [SocketAddr; 2] = [local, remote].map(|end| end.parse().unwrap());
        Sight {
            cookie: 1,
            netns: 7,
            kind: Kind::Full,
            state: TcpState::Established,
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
            cgroup: Some(9),
            memory: None,
            info: None,
        }
    }

    #[test]
    fn nothing_asked_is_all() {
        assert!(FilterSpec::default().matches(&sight("10.0.0.1:80", "10.0.0.9:40000")));
    }

    #[test]
    fn each_port_condition_is_about_its_end() {
        let sight = sight("10.0.0.1:80", "10.0.0.9:40000");
        let ports = |port: &[u16], lport: &[u16], rport: &[u16]| {
            let list = |ports: &[u16]| ports.iter().map(|port| *port..=*port).collect();
            FilterSpec { port: list(port), lport: list(lport), rport: list(rport), ..FilterSpec::default() }
                .matches(&sight)
        };
        assert!(ports(&[80], &[], &[]) && ports(&[40000], &[], &[]) && ports(&[1, 80], &[], &[]));
        assert!(ports(&[], &[80], &[]) && !ports(&[], &[40000], &[]));
        assert!(ports(&[], &[], &[40000]) && !ports(&[], &[], &[80]));
        assert!(ports(&[80], &[80], &[40000]) && !ports(&[81], &[80], &[40000]), "all of them must hold");
        assert!(!ports(&[80], &[80], &[1]));
    }

    #[test]
    fn addresses_are_either_end_and_mapped_ones_are_ipv4() {
        let v4 = sight("10.0.0.1:80", "192.0.2.9:40000");
        let mapped = sight("[::ffff:10.0.0.1]:80", "[::ffff:192.0.2.9]:40000");
        let v6 = sight("[fd00::1]:80", "[fd00::2]:40000");
        let of = |nets: &[&str], sight: &Sight| {
            let addresses = nets.iter().map(|net| net.parse().unwrap()).collect();
            FilterSpec { addresses, ..FilterSpec::default() }.matches(sight)
        };
        for sight in [&v4, &mapped] {
            assert!(of(&["10.0.0.0/8"], sight) && of(&["192.0.2.9/32"], sight) && of(&["0.0.0.0/0"], sight));
            assert!(!of(&["10.0.0.2/32"], sight) && of(&["10.0.0.2/32", "10.0.0.1/32"], sight));
            assert!(of(&["::/0"], sight), "as in the kernel's table of prefixes");
        }
        assert!(of(&["fd00::/16"], &v6) && !of(&["0.0.0.0/0"], &v6) && !of(&["fd00::3/128"], &v6));
        let family = |family, sight: &Sight| {
            FilterSpec { family: Some(family), ..FilterSpec::default() }.matches(sight)
        };
        assert!(family(4, &v4) && family(4, &mapped) && !family(4, &v6));
        assert!(family(6, &v6) && !family(6, &v4) && !family(6, &mapped));
    }

    #[test]
    fn syn_recv_is_both_of_the_kernels_kinds() {
        let spec = FilterSpec { states: vec![TcpState::SynRecv], ..FilterSpec::default() };
        let in_state =
            |kind, state| spec.matches(&Sight { kind, state, ..sight("10.0.0.1:80", "10.0.0.9:1") });
        assert!(in_state(Kind::Full, TcpState::SynRecv));
        assert!(in_state(Kind::Request, TcpState::NewSynRecv));
        assert!(!in_state(Kind::Full, TcpState::Established));
    }

    #[test]
    fn user_and_cgroup_hold_back_full_sockets_only() {
        let full = sight("10.0.0.1:80", "10.0.0.9:1");
        let mini = Sight { kind: Kind::Minisocket, state: TcpState::TimeWait, uid: 0, cgroup: None, ..full };
        let uid = |uid| FilterSpec { uids: [uid].into(), ..FilterSpec::default() };
        assert!(uid(1000).matches(&full) && !uid(1).matches(&full) && uid(1).matches(&mini));
        let cgroup = |id| FilterSpec { cgroups: [id].into(), ..FilterSpec::default() };
        assert!(cgroup(9).matches(&full) && !cgroup(8).matches(&full) && cgroup(8).matches(&mini));
        assert!(!cgroup(9).matches(&Sight { cgroup: None, ..full }), "not told is no match");
        let netns = |number| FilterSpec { netns: [number].into(), ..FilterSpec::default() };
        assert!(netns(7).matches(&mini) && !netns(8).matches(&mini));
    }
}
