//! What goes wrong on the way, or at the other end.

use super::{
    Expected, Retransmits, Scenario,
    play::{Connection, Play, data, fin},
};
use crate::{Direction, Fate, LabError, Traffic, endpoint::PATIENCE};

/// Data segments of the lossy scenario, and how many of them are lost.
const SEGMENTS: usize = 8;
const LOST: usize = 3;
/// Bytes in each: two of them do not fit into one segment, so that no retransmission is made of two.
const SEGMENT_BYTES: usize = 1000;
/// How often the FIN is sent in vain before it may pass.
const FINS_LOST: usize = 4;

/// The FIN finds no answer: the state that the world is full of.
pub(super) const FIN_WAIT1_DROP: Scenario = Scenario {
    name: "fin-wait1-drop",
    title: "the peer has gone deaf: a closed socket stays in FIN_WAIT1 and repeats its FIN, owned by no program",
    replaces: "iptables -A INPUT -p tcp --tcp-flags FIN FIN -j DROP; netstat -nat | grep FIN_WAIT1",
    client: Expected {
        retransmits: Retransmits { fin: 3, ..Retransmits::NONE },
        ..Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"])
    },
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    script: fin_wait1_drop,
};

/// A close that loses data.
pub(super) const RST_UNREAD: Scenario = Scenario {
    name: "rst-unread",
    title: "the server closes without having read everything: the kernel sends a RST instead of a FIN",
    replaces: "tcpdump -ni any 'tcp[tcpflags] & tcp-rst != 0'; nstat TcpExtTCPAbortOnClose",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"]),
    server: Expected { resets: 1, ..Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE"]) },
    script: rst_unread,
};

/// A bad path.
pub(super) const LOSSY: Scenario = Scenario {
    name: "lossy",
    title: "data segments are lost on the way and sent again: everything arrives, later",
    replaces: "tc qdisc add dev eth0 root netem loss 10%; netstat -s | grep -i retrans",
    client: Expected {
        retransmits: Retransmits { data: LOST as u32, ..Retransmits::NONE },
        ..Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"])
    },
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    script: lossy,
};

fn fin_wait1_drop(play: &mut Play<'_>) -> Result<(), LabError> {
    let Connection { client, server, listener } = play.connection()?;
    play.stage("the connection is open", Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    let deaf = play.lab.wire().drop_when(Direction::ToServer, |_| true);
    client.close()?;
    play.until_dropped("the FIN to be lost", 1, Direction::ToServer, fin)?;
    play.stage(
        "nothing reaches the server any more, and the client has closed: its FIN is lost",
        Some("FIN_WAIT1"),
        Some("ESTABLISHED"),
    )?;
    play.until_dropped("the FIN to be lost again and again", FINS_LOST, Direction::ToServer, fin)?;
    play.stage(
        "the FIN was sent again and again in vain: the client is stuck in FIN_WAIT1, and no program owns the socket",
        Some("FIN_WAIT1"),
        Some("ESTABLISHED"),
    )?;
    play.lab.wire().remove(deaf);
    play.stage(
        "the path is whole again: the next FIN has arrived, and its ACK too",
        Some("FIN_WAIT2"),
        Some("CLOSE_WAIT"),
    )?;
    play.server_follows(server, listener)
}

fn rst_unread(play: &mut Play<'_>) -> Result<(), LabError> {
    let Connection { client, server, listener } = play.connection()?;
    client.send(b"nobody will ever read this")?;
    // Unacknowledged data would be sent again later, and answered with a second RST.
    let acknowledged = |traffic: &Traffic| {
        let data =
            traffic.sightings().find(|seen| seen.direction == Direction::ToServer && data(&seen.segment));
        data.is_some_and(|data| {
            let end = data.segment.seq.wrapping_add(data.segment.payload as u32);
            traffic.count(Direction::ToClient, Fate::Forwarded, |segment| segment.ack_number == end) > 0
        })
    };
    play.lab.wire().wait_until("the data to be acknowledged", PATIENCE, acknowledged)?;
    play.stage(
        "the client's data has arrived, and the server does not read it",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    server.close()?;
    match client.receive_end() {
        Err(LabError::Socket { source, .. }) if source.raw_os_error() == Some(libc::ECONNRESET) => {}
        Err(other) => return Err(other),
        Ok(()) => return Err(LabError::Unexpected("an orderly end after a close with unread data".into())),
    }
    client.close()?;
    listener.close()?;
    play.stage(
        "the server has closed with data unread: one RST, no TIME_WAIT, and the client reads \"connection reset\"",
        None,
        None,
    )
}

fn lossy(play: &mut Play<'_>) -> Result<(), LabError> {
    let connection = play.connection()?;
    play.stage("the connection is open", Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    // Each of the first segments once: a segment that comes again passes.
    let mut lost = Vec::new();
    play.lab.wire().drop_when(Direction::ToServer, move |segment| {
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
    play.stage(
        "the lost segments were sent again, and the server has read everything",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    play.close_client_then_server(connection)
}
