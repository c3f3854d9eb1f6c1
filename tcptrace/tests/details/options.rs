//! What programs set, and what they leave alone.

use crate::{MS, alone, dial, listen, pair, read, sights, source, tcp, until};
use socket2::{Socket, TcpKeepalive};
use std::{os::fd::AsRawFd, time::Duration};
use tcptrace::{
    event::TcpState,
    sight::Kind,
    source::{
        details::{Linger2, Options, Wanted},
        live::boot_time_ns,
    },
};
use tcptrace_lab::{Direction, Family, Lab, Side};

/// Since 6.15; not in every C library.
const TCP_RTO_MAX_MS: libc::c_int = 44;

fn set(socket: &Socket, option: libc::c_int, value: libc::c_int) {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, the value ours and that long.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), length)
    };
    assert_eq!(result, 0, "option {option}: {}", std::io::Error::last_os_error());
}

/// `None`: this kernel does not have it.
fn get(socket: &Socket, option: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open, the value ours and that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(value)
}

/// Everything at once.
fn set_all(socket: &Socket) {
    socket.set_tcp_user_timeout(Some(Duration::from_millis(12_345))).expect("set");
    set(socket, libc::TCP_SYNCNT, 3);
    set(socket, libc::TCP_LINGER2, 7);
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(33));
    let keepalive = keepalive.with_interval(Duration::from_secs(5)).with_retries(4);
    socket.set_tcp_keepalive(&keepalive).expect("set");
}

fn all(rto_max_ms: Option<libc::c_int>) -> Options {
    Options {
        user_timeout_ms: Some(12_345),
        syn_retries: Some(3),
        linger2: Some(Linger2::Time(7_000 * MS)),
        keepalive: Some(true),
        keepalive_time_ns: Some(33_000 * MS),
        keepalive_interval_ns: Some(5_000 * MS),
        keepalive_probes: Some(4),
        rto_max_us: rto_max_ms.map(|ms| ms as u64 * 1000),
    }
}

fn none(rto_max_ms: Option<libc::c_int>) -> Options {
    Options {
        user_timeout_ms: Some(0),
        syn_retries: Some(0),
        linger2: Some(Linger2::Sysctl),
        keepalive: Some(false),
        keepalive_time_ns: Some(0),
        keepalive_interval_ns: Some(0),
        keepalive_probes: Some(0),
        ..all(rto_max_ms)
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn options_are_those_that_were_set() {
    let _alone = alone();
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        lab.wire().drop_when(Direction::ToServer, |segment| segment.syn);
        let before = boot_time_ns();
        let (set_socket, set_cookie) = dial(&lab, 0, set_all);
        let after = boot_time_ns();
        let (plain, plain_cookie) = dial(&lab, 0, |_| {});
        let (_aborts, aborts_cookie) = dial(&lab, 0, |socket| set(socket, libc::TCP_LINGER2, -1));
        let (_listener, listener_cookie) = listen(&lab, 7, set_all);

        let mut source = source(Wanted::Pressed);
        let here = read(&mut source, &lab, Side::Client);
        let rto_max_ms = get(&plain, TCP_RTO_MAX_MS);
        assert_eq!(here[&set_cookie].options, all(rto_max_ms));
        assert_eq!(here[&plain_cookie].options, none(rto_max_ms));
        assert_eq!(here[&aborts_cookie].options.linger2, Some(Linger2::Abort));
        for cookie in [set_cookie, plain_cookie, aborts_cookie] {
            let detail = here[&cookie];
            assert_eq!((detail.state, detail.orphan, detail.fin_received), (TcpState::SynSent, false, false));
            assert_eq!((detail.error, detail.soft_error), (0, 0));
            assert!(detail.queue().is_none() && detail.request().is_none());
        }
        // The SYN is stamped when it is sent, and counts as one byte.
        let stall = here[&set_cookie].stall().expect("a connection");
        let began = stall.began_ns.expect("known");
        assert!((before - MS..=after).contains(&began), "{before} {began} {after}");
        assert_eq!((stall.packets_out, stall.unacked, stall.unsent), (Some(1), Some(1), Some(0)));

        // Another namespace has its own.
        let there = read(&mut source, &lab, Side::Server);
        assert_eq!(there[&listener_cookie].options, all(rto_max_ms));
        assert!(!there.contains_key(&set_cookie) && !here.contains_key(&listener_cookie));

        // What changes is seen to change.
        set_socket.set_keepalive(false).expect("set");
        set(&set_socket, libc::TCP_LINGER2, 0);
        if rto_max_ms.is_some() {
            set(&set_socket, TCP_RTO_MAX_MS, 5_000);
        }
        let changed = read(&mut source, &lab, Side::Client)[&set_cookie].options;
        let expected = Options {
            keepalive: Some(false),
            linger2: Some(Linger2::Sysctl),
            ..all(rto_max_ms.map(|_| 5_000))
        };
        assert_eq!(changed, expected);
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn healthy_connections_are_shown_only_if_asked_for() {
    let _alone = alone();
    let lab = Lab::new(Family::V6).expect("a lab");
    let [client, server, listener] = pair(&lab);
    let (mut pressed, mut all) = (source(Wanted::Pressed), source(Wanted::All));
    assert!(!read(&mut pressed, &lab, Side::Client).contains_key(&client.1));
    let there = read(&mut pressed, &lab, Side::Server);
    assert!(!there.contains_key(&server.1) && there.contains_key(&listener.1));
    let detail = read(&mut all, &lab, Side::Client)[&client.1];
    assert_eq!(detail.state, TcpState::Established);
    let stall = detail.stall().expect("a connection");
    assert_eq!((stall.began_ns, stall.unacked, stall.unsent), (None, Some(0), Some(0)));

    // A connection that ends by itself is shown again; its minisocket is not.
    let client_cookie = client.1;
    drop(client.0);
    let detail = until("the FIN", || {
        read(&mut all, &lab, Side::Server).remove(&server.1).filter(|detail| detail.fin_received)
    });
    assert_eq!((detail.state, detail.orphan), (TcpState::CloseWait, false));
    assert!(!read(&mut pressed, &lab, Side::Server).contains_key(&server.1));
    until("the minisocket", || {
        let sight = sights(&lab, Side::Client).remove(&client_cookie);
        sight.filter(|sight| sight.kind == Kind::Minisocket)
    });
    assert!(!read(&mut all, &lab, Side::Client).contains_key(&client_cookie));
}

/// A socket that is neither bound nor connected is in no table of the kernel.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn unused_sockets_are_not_shown() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let (_socket, cookie) = tcp(&lab, Side::Client, set_all);
    assert!(!read(&mut source(Wanted::All), &lab, Side::Client).contains_key(&cookie));
}
