//! What is lost on the way while the connection is open, and how long the kernel goes on hoping.

use std::time::Duration;

use super::{
    Expected, Retransmits, Scenario, Stage,
    play::{Play, Tries, data},
};
use crate::{Direction, Endpoint, LabError, Side, endpoint::PATIENCE, lesson};

/// Data segments of the lossy scenario, and how many of them are lost.
const SEGMENTS: usize = 8;
const LOST: usize = 3;
/// Bytes in each: two of them do not fit into one segment, so that no retransmission is made of two.
const SEGMENT_BYTES: usize = 1000;
/// How often in a row the timer expires for one and the same segment.
const IN_VAIN: u32 = 4;
/// Keepalive as the scenario sets it: after a second of silence, every second, and eight probes in vain are the end.
const SECOND: Duration = Duration::from_secs(1);
const PROBES: u32 = 8;
/// How long data may stay unacknowledged: the fourth expiry in a row comes after 3 s, this leaves time to look.
const USER_TIMEOUT: Duration = Duration::from_secs(9);
/// How long either takes to end the connection, at most.
const GIVES_UP: Duration = Duration::from_secs(20);

/// A bad path.
pub(super) const LOSSY: Scenario = Scenario {
    name: "lossy",
    title: "data segments are lost on the way and sent again: everything arrives, later",
    replaces: "tc qdisc add dev eth0 root netem loss 10%; netstat -s | grep -i retrans",
    client: Expected {
        retransmits: Retransmits { data: LOST as u32 + IN_VAIN, ..Retransmits::NONE },
        ..Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"])
    },
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[(Side::Client, "retransmitting")],
    lesson: &lesson::silence::LOSSY,
    script: lossy,
};

/// Nobody has anything to say, and the peer is gone.
pub(super) const KEEPALIVE_TIMEOUT: Scenario = Scenario {
    name: "keepalive-timeout",
    title: "the peer vanishes while nothing is said: only keepalive notices, and ends the connection",
    replaces: "netstat -nato | grep keepalive; sysctl net.ipv4.tcp_keepalive_time",
    client: Expected { resets: 2, socketless_resets: 1, ..GIVEN_UP },
    server: FORGOTTEN,
    findings: &[(Side::Client, "dead-peer")],
    lesson: &lesson::silence::KEEPALIVE_TIMEOUT,
    script: keepalive_timeout,
};

/// The program says how long it is willing to wait.
pub(super) const USER_TIMEOUT_ENDS: Scenario = Scenario {
    name: "user-timeout",
    title: "the peer vanishes while data is under way: TCP_USER_TIMEOUT ends what would go on for a quarter of an hour",
    replaces: "ss -tino | grep -A1 'timer:(on'; sysctl net.ipv4.tcp_retries2",
    client: Expected {
        retransmits: Retransmits { data: IN_VAIN, ..Retransmits::NONE },
        resets: 1,
        socketless_resets: 1,
        ..GIVEN_UP
    },
    server: FORGOTTEN,
    findings: &[(Side::Client, "dead-peer")],
    lesson: &lesson::silence::USER_TIMEOUT,
    script: user_timeout,
};

const GIVEN_UP: Expected = Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"]);
const FORGOTTEN: Expected = Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE"]);
const OPEN: &str = "the connection is open";

fn lossy(play: &mut Play<'_>) -> Result<(), LabError> {
    let connection = play.connection()?;
    let wire = play.lab.wire();
    play.healthy(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    // Each of the first segments once: a segment that comes again passes.
    let mut lost = Vec::new();
    let each_once = wire.drop_when(Direction::ToServer, move |segment| {
        let loses = data(segment) && lost.len() < LOST && !lost.contains(&segment.seq);
        if loses {
            lost.push(segment.seq);
        }
        loses
    });
    let message: Vec<u8> = (0..SEGMENTS * SEGMENT_BYTES).map(|byte| byte as u8).collect();
    for segment in message.chunks(SEGMENT_BYTES) {
        connection.client.send(segment)?;
    }
    play.until_dropped("data to be lost", LOST, Direction::ToServer, data)?;
    play.stage(
        "the client has sent eight segments of data, and three were lost",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    if connection.server.receive(message.len())? != message {
        return Err(LabError::Unexpected("data that arrived changed".into()));
    }
    wire.remove(each_once);
    play.healthy(
        "the lost segments were sent again, and the server has read everything",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    let unlucky = wire.drop_when(Direction::ToServer, data);
    connection.client.send(b"lost")?;
    for expiries in 1..=IN_VAIN {
        play.until_in_vain(
            "the same segment to be lost again",
            Side::Client,
            "ESTABLISHED",
            Tries::Expiries(expiries),
        )?;
        connection.server.send(b".")?;
        connection.client.receive(1)?;
    }
    play.show(Stage {
        text: "one segment has been lost five times, while the server's data comes through: a path that loses, no dead peer",
        client: Some("ESTABLISHED"),
        server: Some("ESTABLISHED"),
        findings: Some(&[(Side::Client, "retransmitting")]),
        ..Stage::NOTHING
    })?;
    wire.remove(unlucky);
    connection.server.receive(4)?;
    play.stage("it has come through at last", Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    play.close_client_then_server(connection)
}

fn keepalive_timeout(play: &mut Play<'_>) -> Result<(), LabError> {
    let listener = play.lab.listen()?;
    let (client, server) = play.connect(&listener)?;
    client.keep_alive(SECOND, SECOND, PROBES)?;
    play.stage(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    let dead = [Direction::ToServer, Direction::ToClient].map(|way| play.lab.wire().drop_when(way, |_| true));
    play.until_in_vain("keepalive probes to be lost", Side::Client, "ESTABLISHED", Tries::Probes(3))?;
    play.show(Stage {
        text: "the wire is dead, and nobody has sent anything: the client's keepalive probes find no answer",
        client: Some("ESTABLISHED"),
        server: Some("ESTABLISHED"),
        findings: Some(&[(Side::Client, "dead-peer")]),
        ..Stage::NOTHING
    })?;
    gives_up(&client)?;
    client.close()?;
    play.stage(
        "eight probes were in vain: the client's kernel has given up; the server, which asks nothing, knows nothing",
        None,
        Some("ESTABLISHED"),
    )?;
    for rule in dead {
        play.lab.wire().remove(rule);
    }
    server_speaks(play, server, listener)
}

fn user_timeout(play: &mut Play<'_>) -> Result<(), LabError> {
    let listener = play.lab.listen()?;
    let (client, server) = play.connect(&listener)?;
    client.user_timeout(USER_TIMEOUT)?;
    play.healthy(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    let dead = [Direction::ToServer, Direction::ToClient].map(|way| play.lab.wire().drop_when(way, |_| true));
    client.send(b"is anybody there?")?;
    play.until_dropped("data to be lost", 1, Direction::ToServer, data)?;
    play.stage(
        "the wire is dead, and the client has sent data into it",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    play.until_in_vain(
        "data to be lost again and again",
        Side::Client,
        "ESTABLISHED",
        Tries::Expiries(IN_VAIN),
    )?;
    play.show(Stage {
        text: "the data was sent again and again, and nothing at all is heard of the server",
        client: Some("ESTABLISHED"),
        server: Some("ESTABLISHED"),
        findings: Some(&[(Side::Client, "dead-peer")]),
        ..Stage::NOTHING
    })?;
    gives_up(&client)?;
    client.close()?;
    play.stage(
        "the program's time is over: its kernel has given up, without a RST, and the server knows nothing",
        None,
        Some("ESTABLISHED"),
    )?;
    for rule in dead {
        play.lab.wire().remove(rule);
    }
    server_speaks(play, server, listener)
}

fn gives_up(client: &Endpoint<'_>) -> Result<(), LabError> {
    let error = client.failure(GIVES_UP)?;
    match error.raw_os_error() {
        Some(libc::ETIMEDOUT) => Ok(()),
        _ => Err(LabError::Unexpected(format!("{error}, not a timeout"))),
    }
}

/// The end of a connection that only one side has given up: the other one learns it when it speaks.
fn server_speaks(play: &mut Play<'_>, server: Endpoint<'_>, listener: Endpoint<'_>) -> Result<(), LabError> {
    server.send(b"hello?")?;
    let error = server.failure(PATIENCE)?;
    if error.raw_os_error() != Some(libc::ECONNRESET) {
        return Err(LabError::Unexpected(format!("{error}, not a connection reset")));
    }
    server.close()?;
    listener.close()?;
    play.healthy(
        "the wire is whole again, and the server has spoken: a host that knows nothing any more answers with a RST",
        None,
        None,
    )
}
