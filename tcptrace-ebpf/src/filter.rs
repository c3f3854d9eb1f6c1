//! The only early exit. It runs before anything is counted or sent.

use crate::{config, maps, member, read::Access, sock};
use aya_ebpf::maps::lpm_trie::Key;
use tcptrace_common::{
    address::Address,
    config::{PORT_EITHER, PORT_LOCAL, PORT_REMOTE},
    event::{Header, Kind, Tuple, UNDECIDED},
};

/// What the filter asks of every record; the rest is asked only where it matters.
pub struct About {
    /// What the record will be.
    pub kind: Kind,
    /// The state it tells, or the one that is left.
    pub state: u8,
    /// The state that is entered.
    pub to: u8,
    /// Inode number of the network namespace.
    pub netns: u32,
}

/// Does the filter want this record? Marks it [`UNDECIDED`] where `incomplete` addresses leave that open.
#[inline(always)]
pub fn wants<A: Access>(head: &mut Header, sk: *const u8, full: bool, incomplete: bool) -> bool {
    let Header { pre, tuple } = *head;
    let kind = if pre.kind == Kind::Destroy as u8 { Kind::Destroy } else { Kind::Transition };
    let about = About { kind, state: pre.state, to: pre.to, netns: pre.netns };
    let Some(flags) = flags::<A>(about, sk, full, || (tuple, incomplete)) else { return false };
    head.pre.flags |= flags;
    true
}

/// The [`Prefix::flags`](tcptrace_common::event::Prefix::flags) of a record that the filter wants; `None`: it does not.
/// `ends`: both ends, and whether they are incomplete.
#[inline(always)]
pub fn flags<A: Access>(
    about: About,
    sk: *const u8,
    full: bool,
    ends: impl FnOnce() -> (Tuple, bool),
) -> Option<u8> {
    let one_netns = config!(filter.one_netns) as u32;
    if one_netns != 0 && about.netns != one_netns {
        return None;
    }
    if config!(filter.netns) != 0 {
        maps::NETNS.get_ptr(about.netns)?;
    }
    if full && config!(filter.uid) != 0 {
        maps::UIDS.get_ptr(member!(A::at(sk), sk_uid, u32))?;
    }
    if full && config!(filter.cgroup) != 0 {
        maps::CGROUPS.get_ptr(sock::cgroup(sk))?;
    }
    let states = config!(filter.states);
    // The end of a socket ends its flow, whichever states are shown.
    if states != 0
        && !matches!(about.kind, Kind::Destroy)
        && (states >> (about.state & 31) | states >> (about.to & 31)) & 1 == 0
    {
        return None;
    }
    if config!(filter.family) == 0 && config!(filter.ports) == 0 && config!(filter.addresses) == 0 {
        return Some(0);
    }
    match ends() {
        (tuple, _) if tuple_passes(&tuple) => Some(0),
        (_, true) => Some(UNDECIDED),
        _ => None,
    }
}

#[inline(always)]
fn tuple_passes(tuple: &Tuple) -> bool {
    let family = config!(filter.family);
    if family != 0 && (family == 4) != tuple.local.is_v4() {
        return false;
    }
    let conditions = config!(filter.ports);
    if conditions != 0 {
        let of = |port: u16| u64::from(maps::PORTS.get(u32::from(port)).copied().unwrap_or(0));
        let (local, remote) = (of(tuple.lport), of(tuple.rport));
        let [at_local, at_remote, at_either] = [PORT_LOCAL, PORT_REMOTE, PORT_EITHER].map(u64::from);
        let met = (local & at_local) | (remote & at_remote) | ((local | remote) & at_either);
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
