//! The only early exit. It runs before anything is counted or sent.

use crate::{config, maps, member, read::Access, sock};
use aya_ebpf::maps::lpm_trie::Key;
use tcptrace_common::{
    address::Address,
    config::{PORT_EITHER, PORT_LOCAL, PORT_REMOTE},
    event::{Header, Kind, Tuple, UNDECIDED},
};

/// Does the filter want this record? Marks it [`UNDECIDED`] where `incomplete` addresses leave that open.
#[inline(always)]
pub fn wants<A: Access>(head: &mut Header, sk: *const u8, full: bool, incomplete: bool) -> bool {
    let one_netns = config!(filter.one_netns);
    if one_netns != 0 && head.pre.netns != one_netns {
        return false;
    }
    if config!(filter.netns) != 0 && maps::NETNS.get_ptr(head.pre.netns).is_none() {
        return false;
    }
    if full && config!(filter.uid) != 0 {
        let uid = member!(A::at(sk), sk_uid, u32);
        if maps::UIDS.get_ptr(uid).is_none() {
            return false;
        }
    }
    if full && config!(filter.cgroup) != 0 && maps::CGROUPS.get_ptr(sock::cgroup(sk)).is_none() {
        return false;
    }
    let states = config!(filter.states);
    // The end of a socket ends its flow, whichever states are shown.
    if states != 0
        && head.pre.kind != Kind::Destroy as u8
        && (states >> (head.pre.state & 31) | states >> (head.pre.to & 31)) & 1 == 0
    {
        return false;
    }
    if !tuple_passes(&head.tuple) {
        if !incomplete {
            return false;
        }
        head.pre.flags |= UNDECIDED;
    }
    true
}

#[inline(always)]
fn tuple_passes(tuple: &Tuple) -> bool {
    let family = config!(filter.family);
    if family != 0 && (family == 4) != tuple.local.is_v4() {
        return false;
    }
    let conditions = config!(filter.ports);
    if conditions != 0 {
        let of = |port: u16| maps::PORTS.get(u32::from(port)).copied().unwrap_or(0);
        let (local, remote) = (of(tuple.lport), of(tuple.rport));
        let met = (local & PORT_LOCAL) | (remote & PORT_REMOTE) | ((local | remote) & PORT_EITHER);
        if met & conditions != conditions {
            return false;
        }
    }
    if config!(filter.addresses) != 0 {
        let known = |address: Address| maps::ADDRESSES.get(Key::new(128, address.bytes())).is_some();
        if !known(tuple.local) && !known(tuple.remote) {
            return false;
        }
    }
    true
}
