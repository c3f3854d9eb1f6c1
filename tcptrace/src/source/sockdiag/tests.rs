//! What the kernel breaks off. In our own namespace, for which no privilege is needed.

use super::*;
use std::net::{SocketAddr, TcpListener};

/// Lists until the end, only what is bound to `address`: how often a list of all is begun again depends on how many others
/// there are. Whether it was there, and how often the list was begun again.
fn find(diag: &mut SockDiag, address: SocketAddr) -> (Option<Sight>, u32) {
    let query =
        Query { ports: (address.port(), 0), ..Query::of(States::of([TcpState::Listen]), Detail::Full) };
    let mut dump = diag.dump(query).unwrap();
    let mut sights = Vec::new();
    while dump.next_batch(&mut sights).unwrap().is_some() {}
    let restarts = dump.counts().restarts;
    (sights.into_iter().find(|sight| sight.ends.local() == address), restarts)
}

fn finds(diag: &mut SockDiag, address: SocketAddr) -> (bool, u32) {
    let (found, restarts) = find(diag, address);
    (found.is_some(), restarts)
}

fn listening() -> (TcpListener, SocketAddr, SockDiag) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address, SockDiag::open(&Namespace::own().unwrap()).unwrap())
}

#[test]
fn a_datagram_that_did_not_fit_comes_again() {
    let (_listener, address, mut diag) = listening();
    diag.buffer = Vec::with_capacity(100);
    assert_eq!(finds(&mut diag, address), (true, 1));
    assert_eq!(finds(&mut diag, address), (true, 0), "the buffer has grown");
}

#[test]
fn the_other_thread_reads_the_same_and_gives_back_what_it_got() {
    let (_listener, address, diag) = listening();
    let query = Query::of(States::ALL, Detail::Full);
    // Half-way: nothing of the answer is taken.
    let (diag, result) = Ahead::begin(diag, query).unwrap().end();
    assert!(result.is_ok(), "{result:?}");
    let mut ahead = Ahead::begin(diag, query).unwrap();
    let (mut batch, mut sights) = (Vec::new(), Vec::new());
    while let Some(taken) = ahead.next_batch(&mut batch) {
        assert!(taken.from_ns <= taken.to_ns && !batch.is_empty());
        sights.append(&mut batch);
    }
    assert!(sights.iter().any(|sight| sight.ends.local() == address));
    let (mut diag, result) = ahead.end();
    assert_eq!(result.unwrap().sockets, sights.len() as u64);
    assert!(finds(&mut diag, address).0);
}

#[test]
fn a_busy_socket_is_replaced() {
    let (_listener, address, mut diag) = listening();
    let _ = diag.dump(Query::of(States::ALL, Detail::Plain)).unwrap();
    diag.busy = false; // forgotten: the kernel says EBUSY, behind what it still had to say
    let (sight, restarts) = find(&mut diag, address);
    let sight = sight.unwrap();
    assert_eq!(restarts, 1);
    let _ = diag.dump(Query::of(States::ALL, Detail::Plain)).unwrap();
    diag.busy = false;
    assert_eq!(diag.look(&sight.ends, sight.cookie).unwrap().map(|it| it.cookie), Some(sight.cookie));
}

#[test]
fn what_goes_on_failing_is_an_error_in_the_end() {
    let (_listener, _, mut diag) = listening();
    let mut dump = diag.dump(Query::of(States::ALL, Detail::Plain)).unwrap();
    let mut result = Ok(Some(Taken::default()));
    for _ in 0..100 {
        dump.interrupted = true;
        result = dump.next_batch(&mut Vec::new());
        if !matches!(result, Ok(Some(_))) {
            break;
        }
    }
    assert!(matches!(result, Err(DiagError::BrokenOff(4, _))), "{result:?}");
    assert!(matches!(dump.next_batch(&mut Vec::new()), Ok(None)), "it is over");
    assert!(diag.dump(Query::of(States::ALL, Detail::Plain)).unwrap().next_batch(&mut Vec::new()).is_ok());
}

#[test]
fn errors_say_what_to_do() {
    assert!(refused(libc::ENOENT).to_string().contains("modprobe tcp_diag"));
    let refused = refused(libc::EPERM);
    assert!(matches!(refused, DiagError::Refused(_)) && refused.to_string().contains("TCP sockets"));
}
