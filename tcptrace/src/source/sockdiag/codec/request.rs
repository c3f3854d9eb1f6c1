//! What is sent.

use super::{
    super::query::{Detail, Family, Query},
    abi::{
        ATTRIBUTE_INFO, ATTRIBUTE_MEMORY, BOTH_FAMILIES, BY_FAMILY, BothFamilies, ByFamily, DESTROY, Header,
        SocketId,
    },
};
use crate::event::Ends;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use zerocopy::{FromZeros, IntoBytes};

/// `INET_DIAG_NOCOOKIE`, twice: the kernel compares none.
const NO_COOKIE: u64 = u64::MAX;

/// A request in bytes, on the stack.
pub(in super::super) struct Request {
    bytes: [u8; 80],
    length: usize,
}

impl Request {
    /// Lists sockets.
    pub(in super::super) fn dump(query: &Query, sequence: u32) -> Self {
        let mut id = SocketId::new_zeroed();
        (id.lport, id.rport) = (query.ports.0.into(), query.ports.1.into());
        let (extensions, states) = (extensions(query.detail), query.states.bits().into());
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        match query.family {
            Some(family) => {
                let family = number(family);
                let body =
                    ByFamily { family, protocol: libc::IPPROTO_TCP as u8, extensions, pad: 0, states, id };
                Self::new(BY_FAMILY, flags, sequence, body.as_bytes())
            }
            None => {
                let tables = 0.into();
                let body = BothFamilies { family: 0, lengths: [0; 2], extensions, id, states, tables };
                Self::new(BOTH_FAMILIES, flags, sequence, body.as_bytes())
            }
        }
    }

    /// Asks for one socket, with all detail. Cookie 0: whatever its cookie is.
    pub(in super::super) fn look(ends: &Ends, interface: u32, cookie: u64, sequence: u32) -> Self {
        let cookie = if cookie == 0 { NO_COOKIE } else { cookie };
        let body = one(ends, interface, cookie, extensions(Detail::Full));
        Self::new(BY_FAMILY, NLM_F_REQUEST, sequence, body.as_bytes())
    }

    /// Asks the kernel to end one socket, and to say what came of it.
    pub(in super::super) fn destroy(ends: &Ends, interface: u32, cookie: u64, sequence: u32) -> Self {
        // Never without a cookie: whatever has these ends would be ended. No socket has cookie 0.
        let cookie = if cookie == NO_COOKIE { 0 } else { cookie };
        let body = one(ends, interface, cookie, 0);
        Self::new(DESTROY, NLM_F_REQUEST | NLM_F_ACK, sequence, body.as_bytes())
    }

    pub(super) fn new(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Self {
        let length = size_of::<Header>() + body.len();
        let header = Header {
            length: (length as u32).into(),
            kind: kind.into(),
            flags: flags.into(),
            sequence: sequence.into(),
            port: 0.into(),
        };
        let mut bytes = [0; 80];
        let parts = header.as_bytes().iter().chain(body);
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        Self { bytes, length }
    }

    /// What to send.
    pub(in super::super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Names one socket.
fn one(ends: &Ends, interface: u32, cookie: u64, extensions: u8) -> ByFamily {
    // By IPv4 addresses the kernel finds IPv6 sockets with mapped addresses, too.
    let (family, [local, remote]) = match (unmapped(ends.local), unmapped(ends.remote)) {
        (Some(local), Some(remote)) => (Family::Inet, [local, remote]),
        _ => (Family::Inet6, [ends.local, ends.remote]),
    };
    let id = SocketId {
        lport: ends.lport.into(),
        rport: ends.rport.into(),
        local,
        remote,
        interface: interface.into(),
        cookie: [(cookie as u32).into(), ((cookie >> 32) as u32).into()],
    };
    ByFamily {
        family: number(family),
        protocol: libc::IPPROTO_TCP as u8,
        extensions,
        pad: 0,
        states: u32::MAX.into(),
        id,
    }
}

fn extensions(detail: Detail) -> u8 {
    match detail {
        Detail::Plain => 0,
        Detail::Full => 1 << (ATTRIBUTE_INFO - 1) | 1 << (ATTRIBUTE_MEMORY - 1),
    }
}

const fn number(family: Family) -> u8 {
    match family {
        Family::Inet => libc::AF_INET as u8,
        Family::Inet6 => libc::AF_INET6 as u8,
    }
}

/// An IPv4-mapped address as the kernel has IPv4 ones: in the first word.
fn unmapped(address: [u8; 16]) -> Option<[u8; 16]> {
    let v4 = address.strip_prefix(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])?;
    let mut first = [0; 16];
    first.iter_mut().zip(v4).for_each(|(to, from)| *to = *from);
    Some(first)
}
