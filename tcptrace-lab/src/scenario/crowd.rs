//! What goes wrong by numbers: too many half-open, too many to be accepted, too many in TIME_WAIT.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    Expected, Retransmits, Scenario, Stage,
    play::{Play, Tries, syn_ack},
};
use crate::{Direction, Endpoint, Family, LabError, Listening, Side, endpoint::PATIENCE, lesson};

/// Addresses of the flood, one SYN from each, and the listener's backlog: with more than half of it in use the kernel
/// tries less often, and when it is full it answers with cookies and remembers nothing.
const SOURCES: usize = 40;
const ROOM: i32 = 128;

/// A backlog that is soon used up: five connections wait to be accepted, one more than it says.
const BACKLOG: i32 = 4;
const EARLY: usize = 4;
const LATE: usize = 4;
const FIT: usize = BACKLOG as usize + 1;
const CLIENTS: usize = EARLY + LATE;

/// How many TIME_WAITs the client may have, and how many connections it closes: first below, then above that.
const BUCKETS: usize = 20;
const BELOW: usize = 19;
const ABOVE: usize = 6;

/// Half-open connections that nobody means to complete.
pub(super) const SYN_FLOOD: Scenario = Scenario {
    name: "syn-flood",
    title: "SYNs from addresses that do not answer: half-open connections pile up in SYN_RECV at the server",
    replaces: "netstat -nat | awk '/SYN_RECV/ {print $5}' | cut -d: -f1 | sort | uniq -c; sysctl net.ipv4.tcp_syncookies",
    client: Expected::path(&[]),
    server: Expected {
        retransmits: Retransmits { syn_ack: SOURCES as u32, ..Retransmits::NONE },
        ..Expected::path(&[])
    },
    findings: &[(Side::Server, "syn-flood")],
    lesson: &lesson::crowd::SYN_FLOOD,
    script: syn_flood,
};

/// A program that does not accept.
pub(super) const BACKLOG_FULL: Scenario = Scenario {
    name: "backlog-full",
    title: "the program does not accept and its queue is full: the clients are connected, the server does not know it",
    replaces: "ss -tln; netstat -s | grep -i listen",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected {
        retransmits: Retransmits { syn_ack: (CLIENTS - FIT) as u32, ..Retransmits::NONE },
        ..Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"])
    },
    findings: &[(Side::Server, "accept-queue-full")],
    lesson: &lesson::crowd::BACKLOG_FULL,
    script: backlog_full,
};

/// Short connections in great number.
pub(super) const TIME_WAIT_BURST: Scenario = Scenario {
    name: "time-wait-burst",
    title: "the client closes one connection after the other: TIME_WAITs fill the room that the kernel has for them",
    replaces: "netstat -nat | grep -c TIME_WAIT; sar -n SOCK 1; sysctl net.ipv4.tcp_max_tw_buckets",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[(Side::Client, "time-wait-pressure")],
    lesson: &lesson::crowd::TIME_WAIT_BURST,
    script: time_wait_burst,
};

fn syn_flood(play: &mut Play<'_>) -> Result<(), LabError> {
    // Repeats after 1 and 3 s, and after 7 s each is forgotten.
    play.lab.set_sysctl(Side::Server, "net.ipv4.tcp_synack_retries", "2")?;
    let wire = play.lab.wire();
    let listener = play.lab.listen_as(Listening { backlog: ROOM, ..Listening::default() })?;
    // The answers go to addresses that nobody has.
    wire.drop_when(Direction::ToClient, |_| true);
    for number in 0..SOURCES as u8 {
        let address: IpAddr = match play.lab.family() {
            Family::V4 => Ipv4Addr::new(10, 0, 0, 100 + number).into(),
            Family::V6 => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, u16::from(number)).into(),
        };
        let source = SocketAddr::new(address, 20_000 + u16::from(number));
        let seq = u32::from(number) * 1_000_000;
        wire.inject_syn(Direction::ToServer, source, play.lab.server_address(), seq)?;
    }
    let flood = Stage {
        text: "forty SYNs have come from forty addresses: the server has answered each and waits for the third segment",
        server: Some("SYN_RECV"),
        server_others: &[(SOURCES - 1, "SYN_RECV")],
        ..Stage::NOTHING
    };
    play.show(flood)?;
    play.until_in_vain("SYN-ACKs to be sent again", Side::Server, "SYN_RECV", Tries::Expiries(1))?;
    play.until_dropped("SYN-ACKs to be lost again", 2 * SOURCES, Direction::ToClient, syn_ack)?;
    play.show(Stage {
        text: "no third segment comes from any of them, and the server's kernel sends its SYN-ACKs again",
        findings: Some(&[(Side::Server, "syn-flood")]),
        ..flood
    })?;
    play.healthy("the server's kernel has given up on all of them", None, None)?;
    listener.close()
}

fn backlog_full(play: &mut Play<'_>) -> Result<(), LabError> {
    let wire = play.lab.wire();
    let listener = play.lab.listen_as(Listening { backlog: BACKLOG, ..Listening::default() })?;
    let mut clients = Vec::new();
    for _ in 0..EARLY {
        let client = play.lab.dial()?;
        client.connected(PATIENCE)?;
        clients.push(client);
    }
    play.show(Stage {
        text: "four clients are connected, and wait in the listener's queue to be accepted",
        client: Some("ESTABLISHED"),
        server: Some("ESTABLISHED"),
        client_others: &[(EARLY - 1, "ESTABLISHED")],
        server_others: &[(EARLY - 1, "ESTABLISHED")],
        findings: Some(&[]),
    })?;
    // A SYN is refused only when the queue is full already, so these four come in while it is not.
    wire.hold();
    for _ in 0..LATE {
        clients.push(play.lab.dial()?);
    }
    wait_for_held(play, "four SYNs", Direction::ToServer)?;
    wire.step()?;
    wait_for_held(play, "four SYN-ACKs", Direction::ToClient)?;
    wire.step()?;
    wait_for_held(play, "four ACKs", Direction::ToServer)?;
    for client in &clients {
        client.connected(PATIENCE)?;
    }
    wire.release()?;
    let full = Stage {
        text: "four more have completed their handshakes at once: one fits, for three the server ignores the third segment",
        client: Some("ESTABLISHED"),
        server: Some("ESTABLISHED"),
        client_others: &[(CLIENTS - 1, "ESTABLISHED")],
        server_others: &[(FIT - 1, "ESTABLISHED"), (CLIENTS - FIT, "SYN_RECV")],
        ..Stage::NOTHING
    };
    play.show(full)?;
    play.until_in_vain("SYN-ACKs to be sent again", Side::Server, "SYN_RECV", Tries::Expiries(1))?;
    play.show(Stage {
        text: "the program still does not accept: the server repeats its SYN-ACKs, though the clients have answered them",
        findings: Some(&[(Side::Server, "accept-queue-full")]),
        ..full
    })?;
    let mut servers: Vec<_> = (0..FIT).map(|_| listener.accept()).collect::<Result<_, _>>()?;
    // Each carries an ACK, which now finds room.
    for client in &clients {
        client.send(b"?")?;
    }
    for _ in FIT..CLIENTS {
        servers.push(listener.accept()?);
    }
    play.show(Stage {
        text: "the program accepts: with the clients' next segments the last three get in too",
        client: Some("ESTABLISHED"),
        server: Some("ESTABLISHED"),
        client_others: &[(CLIENTS - 1, "ESTABLISHED")],
        server_others: &[(CLIENTS - 1, "ESTABLISHED")],
        ..Stage::NOTHING
    })?;
    for server in &servers {
        server.receive(1)?;
    }
    clients.into_iter().try_for_each(Endpoint::close)?;
    for server in servers {
        server.receive_end()?;
        server.close()?;
    }
    listener.close()?;
    play.show(Stage {
        text: "all have closed in order",
        client: Some("TIME_WAIT"),
        client_others: &[(CLIENTS - 1, "TIME_WAIT")],
        findings: Some(&[]),
        ..Stage::NOTHING
    })
}

fn wait_for_held(play: &Play<'_>, what: &str, direction: Direction) -> Result<(), LabError> {
    play.lab.wire().wait_until(what, PATIENCE, |traffic| traffic.count_held(direction, |_| true) >= LATE)
}

fn time_wait_burst(play: &mut Play<'_>) -> Result<(), LabError> {
    play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_max_tw_buckets", &BUCKETS.to_string())?;
    let listener = play.lab.listen()?;
    closes_first(play, &listener)?;
    play.healthy(
        "the client has closed a connection first: its end stays in TIME_WAIT for 60 s",
        Some("TIME_WAIT"),
        None,
    )?;
    for _ in 1..BELOW {
        closes_first(play, &listener)?;
    }
    play.show(Stage {
        text: "it has done so nineteen times, and its kernel keeps no more than twenty",
        client: Some("TIME_WAIT"),
        client_others: &[(BELOW - 1, "TIME_WAIT")],
        findings: Some(&[(Side::Client, "time-wait-pressure")]),
        ..Stage::NOTHING
    })?;
    for _ in 0..ABOVE {
        closes_first(play, &listener)?;
    }
    listener.close()?;
    play.show(Stage {
        text: "six times more: one fitted, the other five ended without TIME_WAIT, unprotected against old segments",
        client: Some("TIME_WAIT"),
        client_others: &[(BUCKETS - 1, "TIME_WAIT")],
        findings: Some(&[(Side::Client, "time-wait-pressure")]),
        ..Stage::NOTHING
    })
}

/// One connection that the client ends first. It keeps its descriptor to the last: FIN_WAIT2 without one would take a
/// place among the TIME_WAITs too, and when there is none the kernel drops the connection before the server's FIN.
fn closes_first(play: &Play<'_>, listener: &Endpoint<'_>) -> Result<(), LabError> {
    let client = play.lab.dial()?;
    let server = listener.accept()?;
    client.connected(PATIENCE)?;
    client.shutdown_write()?;
    server.receive_end()?;
    server.close()?;
    client.receive_end()?;
    client.close()
}
