//! Listeners and half-open requests.

use crate::{alone, dial, listen, read, sights, source, until};
use std::process::Command;
use tcptrace::{
    event::TcpState,
    sight::Kind,
    source::details::{Request, SocketDetail, Wanted},
};
use tcptrace_lab::{Direction, Family, Lab, Side};

/// Recv-Q and Send-Q of the only listener, as `ss` prints them.
fn ss(lab: &Lab) -> (Option<u32>, Option<u32>) {
    let mut ss = Command::new("ss");
    ss.args(["-ltnH"]);
    let output = lab.command(Side::Server, ss).expect("`ss` runs (package iproute2)");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    let mut numbers = text.split_whitespace().skip(1).map(|number| number.parse().ok());
    (numbers.next().flatten(), numbers.next().flatten())
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn queues_and_requests_are_as_they_should_be() {
    let _alone = alone();
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        let (_listener, cookie) = listen(&lab, 1, |_| {});
        let mut source = source(Wanted::Pressed);
        let mut listener = |what: &str, is: &dyn Fn(&SocketDetail) -> bool| {
            until(what, || {
                let all = read(&mut source, &lab, Side::Server);
                let requests = all.values().filter(|detail| detail.request().is_some()).copied();
                let requests: Vec<_> = requests.collect();
                is(&all[&cookie]).then(|| (*all[&cookie].queue().expect("a listener"), requests))
            })
        };
        let (queue, requests) = listener("an empty queue", &|_| true);
        assert_eq!((queue.length, queue.limit, queue.drops), (Some(0), Some(1), Some(0)));
        assert_eq!((queue.half_open, queue.young, queue.defer_accept), (Some(0), Some(0), Some(0)));
        assert!(requests.is_empty());

        // A connection that stays half open: its last ACK gets lost.
        let late = lab.wire().drop_when(Direction::ToServer, |it| it.source_port == 40001 && !it.syn);
        let _half_open = dial(&lab, 40001, |_| {});
        let half_open =
            |detail: &SocketDetail| detail.queue().is_some_and(|queue| queue.half_open == Some(1));
        // Nobody has asked for the request's cookie yet.
        until("a request", || sights(&lab, Side::Server).into_values().find(|it| it.kind == Kind::Request));
        let (queue, requests) = listener("a half-open request", &half_open);
        assert_eq!(queue.length, Some(0));
        let [request] = requests[..] else { panic!("not one request: {requests:?}") };
        let sight = sights(&lab, Side::Server)[&request.cookie];
        assert_eq!((sight.kind, request.state), (Kind::Request, TcpState::NewSynRecv));
        assert_eq!(request.request().and_then(|request| request.acked), Some(false));

        // The queue takes two: it is full when it is longer than the backlog.
        let _waiting = [dial(&lab, 40002, |_| {}), dial(&lab, 40003, |_| {})];
        let full = |detail: &SocketDetail| detail.queue().is_some_and(|queue| queue.length == Some(2));
        let (queue, _) = listener("a full queue", &full);
        assert_eq!((queue.length, queue.limit), ss(&lab));
        assert_eq!(queue.half_open, Some(1));

        // Now the repeated ACK comes, and finds no room.
        lab.wire().remove(late);
        let refused = |detail: &SocketDetail| detail.queue().is_some_and(|queue| queue.drops > Some(0));
        let (queue, requests) = listener("a connection without room", &refused);
        assert_eq!((queue.half_open, queue.young), (Some(1), Some(0)), "its SYN-ACK was repeated");
        let [request] = requests[..] else { panic!("not one request: {requests:?}") };
        let expected = Request { retransmits: Some(1), timeouts: Some(1), acked: Some(true) };
        assert_eq!(request.request(), Some(&expected));
    }
}
