//! What the kernel answered, kept as bytes, so that tests can judge it again without a kernel.

use super::{
    BUFFER, Detail, Query, SockDiag, States,
    codec::{Reader, Request},
};
use crate::{sight::Sight, source::netns::Namespace};

/// The datagrams that list every socket of a namespace, with all detail.
pub(crate) fn record(namespace: &Namespace) -> Vec<Vec<u8>> {
    let mut diag = SockDiag::open(namespace).expect("sock_diag");
    diag.send(|sequence| Request::dump(&Query::of(States::ALL, Detail::Full), sequence)).expect("a request");
    let mut datagrams = Vec::new();
    let mut last = false;
    while !last {
        let mut datagram = Vec::with_capacity(BUFFER);
        diag.socket.recv(&mut datagram, libc::MSG_DONTWAIT).expect("a datagram");
        last = read(0, &datagram, &mut Vec::new());
        datagrams.push(datagram);
    }
    datagrams
}

/// The sockets of these datagrams, as the codec reads them.
pub(crate) fn replay(netns: u32, datagrams: &[Vec<u8>]) -> Vec<Sight> {
    let mut sights = Vec::new();
    let ends = datagrams.iter().filter(|datagram| read(netns, datagram, &mut sights)).count();
    assert_eq!(ends, 1, "the list has one end");
    sights
}

/// Whether the list ends in this datagram.
fn read(netns: u32, datagram: &[u8], into: &mut Vec<Sight>) -> bool {
    let sequence = datagram.get(8..12).and_then(|bytes| bytes.try_into().ok());
    let sequence = u32::from_ne_bytes(sequence.expect("a netlink header"));
    let mut reader = Reader { sequence, states: States::ALL, netns, bound_to: &mut |_| {} };
    let reply = reader.read(datagram, into);
    assert_eq!(reply.unreadable, 0);
    reply.end.is_some()
}
