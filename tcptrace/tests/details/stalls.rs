//! When a stall began: by the kernel's stamp, and by what the wire saw.

use crate::{MS, alone, pair, pair_with, read, sights, source, until};
use socket2::Socket;
use std::{
    process::Command,
    sync::{Arc, Mutex, PoisonError},
};
use tcptrace::{
    event::TcpState,
    source::{
        details::{SocketDetail, Wanted},
        live::boot_time_ns,
    },
};
use tcptrace_lab::{Direction, Family, Lab, Segment, Side};

/// A busy machine may let a segment wait that long before the wire sees it.
const LATE_NS: u64 = 150 * MS;

/// When segments came to the wire, on the boot-time clock.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<u64>>>);

impl Times {
    /// Of the client's segments for which `which` says so; they are lost if `lost`.
    fn of(lab: &Lab, lost: bool, which: impl Fn(&Segment) -> bool + Send + 'static) -> Self {
        let times = Self::default();
        let seen = times.clone();
        lab.wire().drop_when(Direction::ToServer, move |segment| {
            let is = which(segment);
            if is {
                seen.0.lock().unwrap_or_else(PoisonError::into_inner).push(boot_time_ns());
            }
            is && lost
        });
        times
    }

    fn get(&self) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Was this sent at the time of the stamp?
fn close(stamp_ns: u64, seen_ns: u64) -> bool {
    stamp_ns <= seen_ns && seen_ns - stamp_ns <= LATE_NS
}

fn send(lab: &Lab, socket: &Socket, bytes: &'static [u8]) {
    let socket = socket.try_clone().expect("a descriptor");
    let sent = lab.run_in(Side::Client, move || socket.send(bytes)).expect("runs").expect("sent");
    assert_eq!(sent, bytes.len());
}

/// An orphan whose FIN nobody gets, when it has been sent again by time-outs at least twice, and what the wire has seen of
/// it by then.
fn orphan(lab: &Lab) -> (SocketDetail, Vec<u64>) {
    let fins = Times::of(lab, true, |segment| segment.fin);
    let [(client, cookie), _server, _listener] = pair(lab);
    lab.run_in(Side::Client, move || drop(client)).expect("closed");
    let mut source = source(Wanted::Pressed);
    until("the FIN, twice again by time-out", || {
        let before = fins.get();
        let detail = read(&mut source, lab, Side::Client)[&cookie];
        let sight = sights(lab, Side::Client)[&cookie];
        // The wire has a thread of its own, and may be behind: it has seen all that the kernel has sent again, too.
        let sent = 1 + detail.stall()?.total_retrans? as usize;
        if detail.stall()?.retransmits? < 2 || before.len() != sent || fins.get() != before {
            return None;
        }
        // The same as the other way of asking shows, where that shows it.
        let (stall, info) = (detail.stall()?, sight.info.expect("numbers"));
        assert_eq!((stall.retransmits, stall.backoff), (Some(info.retransmits), Some(info.backoff)));
        assert_eq!((stall.rto_us, stall.packets_out), (Some(info.rto_us.into()), Some(info.unacked)));
        assert_eq!((stall.peer_window, stall.total_retrans), (Some(info.snd_wnd), Some(info.total_retrans)));
        assert_eq!((detail.state, detail.netns), (sight.state, sight.netns));
        Some((detail, before))
    })
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn an_orphan_tells_when_its_stall_began() {
    let _alone = alone();
    for family in Family::ALL {
        let lab = Lab::new(family).expect("a lab");
        let (detail, fins) = orphan(&lab);
        let stall = detail.stall().expect("a connection");
        assert_eq!((detail.state, detail.orphan, detail.fin_received), (TcpState::FinWait1, true, false));
        assert_eq!((stall.unacked, stall.unsent), (Some(1), Some(0)), "the FIN was sent");
        // The last ones are time-outs; before them the FIN itself, and perhaps a tail loss probe.
        let first = fins.len() - usize::from(stall.retransmits.expect("known"));
        assert!((1..=2).contains(&first), "{stall:?}: {fins:?}");
        let began = stall.began_ns.expect("a stall");
        assert!(close(began, fins[first]), "{began} of {fins:?}");
        assert_eq!(stall.probes_began_ns, None);
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_connection_is_shown_while_it_stalls() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let [(client, cookie), (server, server_cookie), _listener] = pair(&lab);
    let data = Times::of(&lab, false, |segment| segment.payload > 0);
    let lost = lab.wire().drop_when(Direction::ToServer, |segment| segment.payload > 0);
    send(&lab, &client, b"lost");
    let mut source = source(Wanted::Pressed);
    let stalled = || read(&mut source, &lab, Side::Client).remove(&cookie);
    let detail = until("a time-out", stalled);
    let stall = detail.stall().expect("a connection");
    assert_eq!((detail.state, stall.unacked, detail.soft_error), (TcpState::Established, Some(4), 0));
    let began = stall.began_ns.expect("a stall");
    assert!(data.get().iter().skip(1).any(|seen| close(began, *seen)), "{began} of {:?}", data.get());
    assert!(!read(&mut source, &lab, Side::Server).contains_key(&server_cookie), "it lacks nothing");

    // No way to the peer any more: the kernel remembers why it could not send.
    let unreachable = lab.address(Side::Server).to_string();
    let route = |action: &str| {
        let mut ip = Command::new("ip");
        ip.args(["route", action, "unreachable", &unreachable]);
        assert!(lab.command(Side::Client, ip).expect("`ip` runs (package iproute2)").status.success());
    };
    route("add");
    let soft = until("a soft error", || {
        let detail = read(&mut source, &lab, Side::Client).remove(&cookie)?;
        (detail.soft_error != 0).then_some(detail)
    });
    assert_eq!((soft.soft_error, soft.error), (libc::EHOSTUNREACH.cast_unsigned(), 0));
    assert_eq!(soft.stall().expect("a connection").began_ns, Some(began), "the same stall");

    route("del");
    lab.wire().remove(lost);
    until("the end of the stall", || {
        (!read(&mut source, &lab, Side::Client).contains_key(&cookie)).then_some(())
    });
    drop((client, server));
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn probes_of_a_closed_window_tell_when_they_began() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    // Small from the start: a window that shrinks makes the receiver drop segments that it had room for.
    let small = |listener: &Socket| listener.set_recv_buffer_size(4096).expect("set");
    let [(client, cookie), (server, _), _listener] = pair_with(&lab, small);
    // The server sends nothing, so after the handshake what the client sends without data are probes.
    let probes = Times::of(&lab, false, |segment| segment.payload == 0);
    client.set_send_buffer_size(1 << 20).expect("set");
    send(&lab, &client, &[0; 200_000]);
    let mut source = source(Wanted::Pressed);
    let detail = until("two probes and their answers", || {
        let detail = read(&mut source, &lab, Side::Client).remove(&cookie)?;
        (detail.stall()?.backoff? >= 2 && detail.stall()?.probes_out? == 0).then_some(detail)
    });
    let (stall, probes) = (detail.stall().expect("a connection"), probes.get());
    assert_eq!((stall.peer_window, stall.packets_out, stall.retransmits), (Some(0), Some(0), Some(0)));
    assert_eq!((stall.began_ns, stall.unacked), (None, Some(0)));
    assert!(stall.unsent.expect("known") > 0);
    let began = stall.probes_began_ns.expect("probes");
    // Stamped in ticks, of up to 10 ms.
    assert!(began.abs_diff(probes[0]) <= LATE_NS, "{began} of {probes:?}");
    drop((client, server));
}
