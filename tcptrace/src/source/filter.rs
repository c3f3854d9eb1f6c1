//! What the user wants to see, as the kernel programs can decide it.

use ipnet::IpNet;
use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};
use tcptrace_common::{
    config::{Filter, PORT_EITHER, PORT_LOCAL, PORT_REMOTE},
    state::TcpState,
};

/// Inclusive port ranges.
pub type Ports = Vec<RangeInclusive<u16>>;

/// Every condition must hold; inside one, any of its values. An empty condition always holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterSpec {
    /// Local or remote port.
    pub port: Ports,
    /// Local port.
    pub lport: Ports,
    /// Remote port.
    pub rport: Ports,
    /// Local or remote address.
    pub addresses: Vec<IpNet>,
    /// 4 or 6; IPv4-mapped addresses are 4.
    pub family: Option<u8>,
    /// Inode numbers of network namespaces.
    pub netns: BTreeSet<u32>,
    /// cgroup v2 ids.
    pub cgroups: BTreeSet<u64>,
    /// Owners of the socket.
    pub uids: BTreeSet<u32>,
    /// States entered or left.
    pub states: Vec<TcpState>,
}

impl FilterSpec {
    /// The switches for the programs; the values go into the maps.
    pub fn switches(&self) -> Filter {
        // Most people look at one: a comparison costs next to nothing, a look into a map 40 ns.
        let one_netns = if self.netns.len() == 1 { self.netns.first().copied().unwrap_or(0) } else { 0 };
        let bit = |ports: &Ports, bit: u8| if ports.is_empty() { 0 } else { bit };
        Filter {
            states: self.states.iter().fold(0, |bits, state| {
                let more = match state {
                    // People say SYN_RECV for both of the kernel's kinds.
                    TcpState::SynRecv => 1 << TcpState::NewSynRecv.number(),
                    // No event tells of it; the ledger infers it from the closes of these.
                    TcpState::TimeWait => 1 << TcpState::FinWait2.number() | 1 << TcpState::Closing.number(),
                    _ => 0,
                };
                bits | 1 << state.number() | more
            }),
            ports: bit(&self.port, PORT_EITHER)
                | bit(&self.lport, PORT_LOCAL)
                | bit(&self.rport, PORT_REMOTE),
            addresses: u8::from(!self.addresses.is_empty()),
            one_netns,
            netns: u8::from(one_netns == 0 && !self.netns.is_empty()),
            cgroup: u8::from(!self.cgroups.is_empty()),
            uid: u8::from(!self.uids.is_empty()),
            family: self.family.unwrap_or(0),
            spare: [0; 2],
        }
    }

    /// The byte of each port.
    pub fn port_table(&self) -> Vec<u8> {
        let mut table = vec![0; 1 << 16];
        for (ports, bit) in [(&self.port, PORT_EITHER), (&self.lport, PORT_LOCAL), (&self.rport, PORT_REMOTE)]
        {
            for port in ports.iter().cloned().flatten() {
                if let Some(byte) = table.get_mut(usize::from(port)) {
                    *byte |= bit;
                }
            }
        }
        table
    }

    /// Prefix length and address of each network, IPv4 as `::ffff:a.b.c.d/96+n`.
    pub fn networks(&self) -> impl Iterator<Item = (u32, [u8; 16])> {
        self.addresses.iter().map(|net| {
            let length = u32::from(net.prefix_len());
            match net.network() {
                IpAddr::V4(v4) => (length + 96, v4.to_ipv6_mapped().octets()),
                IpAddr::V6(v6) => (length, v6.octets()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_name_what_the_maps_hold() {
        let spec = FilterSpec {
            port: vec![10000..=10000],
            rport: vec![80..=81, 443..=443],
            addresses: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()],
            states: vec![TcpState::SynRecv, TcpState::FinWait1],
            ..FilterSpec::default()
        };
        let switches = spec.switches();
        assert_eq!(switches.ports, PORT_EITHER | PORT_REMOTE);
        assert_eq!(switches.states, 1 << 3 | 1 << 12 | 1 << 4);
        assert_eq!((switches.addresses, switches.netns, switches.family), (1, 0, 0));
        let table = spec.port_table();
        assert_eq!(table[10000], PORT_EITHER);
        assert_eq!((table[80], table[82], table[443]), (PORT_REMOTE, 0, PORT_REMOTE));
        let networks: Vec<_> = spec.networks().collect();
        assert_eq!(networks[0].0, 104);
        assert_eq!(networks[0].1[10..13], [0xff, 0xff, 10]);
        assert_eq!(networks[1].0, 16);
    }
}
