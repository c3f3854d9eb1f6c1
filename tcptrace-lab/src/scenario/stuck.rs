//! Closes that do not come to their end: by a deaf peer, a full one, or a program that holds on.

use std::time::Duration;

use super::{
    Expected, Retransmits, Scenario, Stage,
    play::{Connection, Play, Tries, fin, pure_ack},
};
use crate::{Direction, Fate, LabError, Listening, Segment, Side, endpoint::PATIENCE, lesson};

/// Connections of the leak, and what each server end has not read, in bytes.
const LEAKED: usize = 5;
const UNREAD: &[u8] = b"a request that nobody reads";
/// Receive buffer of a server that falls behind, and what the client sends to it, in bytes: more than fits, but no more
/// than the client's own buffer takes. With a smaller one the kernel would throw segments away that it had announced
/// room for.
const SMALL_BUFFER: usize = 16_384;
const TOO_MUCH: usize = 32_768;
/// Window probes that are answered with "still no room".
const PROBES: usize = 3;

/// A program forgets to close.
pub(super) const CLOSE_WAIT_LEAK: Scenario = Scenario {
    name: "close-wait-leak",
    title: "the server's program never closes: its ends pile up in CLOSE_WAIT, and no timer of the kernel ends them",
    replaces: "netstat -nat | awk '/^tcp/ {++S[$NF]} END {for (s in S) print s, S[s]}'; lsof -nP -i:10000 | grep CLOSE_WAIT",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[(Side::Server, "close-wait-leak")],
    lesson: &lesson::stuck::CLOSE_WAIT_LEAK,
    script: close_wait_leak,
};

/// The same seen from the other end.
pub(super) const FIN_WAIT2_ORPHAN: Scenario = Scenario {
    name: "fin-wait2-orphan",
    title: "the client has closed, the server holds on: FIN_WAIT2 without a program, until tcp_fin_timeout ends it",
    replaces: "netstat -nat | grep FIN_WAIT2; cat /proc/sys/net/ipv4/tcp_fin_timeout; sar -n SOCK 1",
    client: Expected {
        resets: 1,
        socketless_resets: 1,
        ..Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"])
    },
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[(Side::Client, "peer-never-closed")],
    lesson: &lesson::stuck::FIN_WAIT2_ORPHAN,
    script: fin_wait2_orphan,
};

/// The FIN finds no answer: the state that the world is full of.
pub(super) const FIN_WAIT1_DROP: Scenario = Scenario {
    name: "fin-wait1-drop",
    title: "the peer has gone deaf: a closed socket stays in FIN_WAIT1 and repeats its FIN, owned by no program",
    replaces: "iptables -A INPUT -p tcp --tcp-flags FIN FIN -j DROP; netstat -nat | grep FIN_WAIT1",
    client: Expected {
        retransmits: Retransmits { fin: 4, ..Retransmits::NONE },
        ..Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"])
    },
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[(Side::Client, "fin-unanswered")],
    lesson: &lesson::stuck::FIN_WAIT1_DROP,
    script: fin_wait1_drop,
};

/// The FIN cannot even be sent.
pub(super) const FIN_WAIT1_ZERO_WINDOW: Scenario = Scenario {
    name: "fin-wait1-zero-window",
    title: "the server does not read and has no room left: the client's FIN waits behind data that cannot be sent",
    replaces: "netstat -nato | grep -E 'FIN_WAIT1.*probe'; tcpdump -ni any 'tcp[14:2] = 0'",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[(Side::Client, "fin-behind-zero-window")],
    lesson: &lesson::stuck::FIN_WAIT1_ZERO_WINDOW,
    script: fin_wait1_zero_window,
};

const OPEN: &str = "the connection is open";

fn close_wait_leak(play: &mut Play<'_>) -> Result<(), LabError> {
    // What a host takes for long is measured by its own setting: the server is impatient here, the client is not.
    play.lab.set_sysctl(Side::Server, "net.ipv4.tcp_fin_timeout", "1")?;
    let listener = play.lab.listen()?;
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..LEAKED {
        let (client, server) = play.connect(&listener)?;
        client.send(UNREAD)?;
        clients.push(client);
        servers.push(server);
    }
    play.show(Stage {
        text: "five connections are open, each with a request",
        client: Some("ESTABLISHED"),
        server: Some("ESTABLISHED"),
        client_others: &[(LEAKED - 1, "ESTABLISHED")],
        server_others: &[(LEAKED - 1, "ESTABLISHED")],
        ..Stage::NOTHING
    })?;
    for client in clients {
        client.close()?;
    }
    let leak = Stage {
        text: "the clients have closed: it is the turn of the server's program, which does nothing",
        client: Some("FIN_WAIT2"),
        server: Some("CLOSE_WAIT"),
        client_others: &[(LEAKED - 1, "FIN_WAIT2")],
        server_others: &[(LEAKED - 1, "CLOSE_WAIT")],
        ..Stage::NOTHING
    };
    play.show(leak)?;
    play.grow_old(Duration::from_millis(1500));
    play.show(Stage {
        text: "time has passed and nothing has changed: the program has forgotten to close, and only it can end this",
        findings: Some(&[(Side::Server, "close-wait-leak")]),
        ..leak
    })?;
    for server in servers {
        server.receive(UNREAD.len())?;
        server.receive_end()?;
        server.close()?;
    }
    listener.close()?;
    play.show(Stage {
        text: "the program has read what was there and closed: all ends well",
        client: Some("TIME_WAIT"),
        client_others: &[(LEAKED - 1, "TIME_WAIT")],
        findings: Some(&[]),
        ..Stage::NOTHING
    })
}

fn fin_wait2_orphan(play: &mut Play<'_>) -> Result<(), LabError> {
    play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_fin_timeout", "8")?;
    let Connection { client, server, listener } = play.connection()?;
    play.healthy(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    client.close()?;
    play.stage(
        "the client has closed, and the server has acknowledged that: now its own FIN is due",
        Some("FIN_WAIT2"),
        Some("CLOSE_WAIT"),
    )?;
    play.grow_old(Duration::from_millis(2500));
    play.show(Stage {
        text: "the server's FIN does not come: no program holds the client's end any more, only its kernel waits",
        client: Some("FIN_WAIT2"),
        server: Some("CLOSE_WAIT"),
        findings: Some(&[(Side::Client, "peer-never-closed")]),
        ..Stage::NOTHING
    })?;
    play.healthy(
        "tcp_fin_timeout is over: the client's kernel has dropped its end, without a word to the server",
        None,
        Some("CLOSE_WAIT"),
    )?;
    server.receive_end()?;
    server.close()?;
    listener.close()?;
    play.healthy(
        "the server has closed at last: its FIN met a host that knows nothing any more and answered with a RST",
        None,
        None,
    )
}

fn fin_wait1_drop(play: &mut Play<'_>) -> Result<(), LabError> {
    let Connection { client, server, listener } = play.connection()?;
    play.healthy(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    let deaf = play.lab.wire().drop_when(Direction::ToServer, |_| true);
    client.close()?;
    play.until_dropped("the FIN to be lost", 1, Direction::ToServer, fin)?;
    play.stage(
        "nothing reaches the server any more, and the client has closed: its FIN is lost",
        Some("FIN_WAIT1"),
        Some("ESTABLISHED"),
    )?;
    play.until_in_vain("the FIN to be lost again and again", Side::Client, "FIN_WAIT1", Tries::Expiries(4))?;
    play.show(Stage {
        text: "the FIN was sent again and again in vain: the client is stuck in FIN_WAIT1, and no program owns the socket",
        client: Some("FIN_WAIT1"),
        server: Some("ESTABLISHED"),
        findings: Some(&[(Side::Client, "fin-unanswered")]),
        ..Stage::NOTHING
    })?;
    play.lab.wire().remove(deaf);
    play.stage(
        "the path is whole again: the next FIN has arrived, and its ACK too",
        Some("FIN_WAIT2"),
        Some("CLOSE_WAIT"),
    )?;
    play.server_follows(server, listener)
}

fn fin_wait1_zero_window(play: &mut Play<'_>) -> Result<(), LabError> {
    let wire = play.lab.wire();
    // One less is what a diagnosis waits for; that the peer answers keeps the orphan alive in any case.
    play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_orphan_retries", "4")?;
    let listener =
        play.lab.listen_as(Listening { receive_buffer: Some(SMALL_BUFFER), ..Listening::default() })?;
    let (client, server) = play.connect(&listener)?;
    play.healthy(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    client.send(&[b'x'; TOO_MUCH])?;
    let no_room = |segment: &Segment| pure_ack(segment) && segment.window == 0;
    let answers = |traffic: &crate::Traffic| traffic.count(Direction::ToClient, Fate::Forwarded, no_room);
    wire.wait_until("the server to have no room left", PATIENCE, |traffic| answers(traffic) > 0)?;
    play.stage(
        "the server does not read: its buffer is full, and it has told the client to send nothing more",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    client.close()?;
    play.stage(
        "the client has closed: its FIN comes after data that must not be sent, so it is not sent either",
        Some("FIN_WAIT1"),
        Some("ESTABLISHED"),
    )?;
    let before = wire.look(answers);
    wire.wait_until("window probes to be answered", PATIENCE, |traffic| answers(traffic) >= before + PROBES)?;
    play.show(Stage {
        text: "the client has asked again and again whether there is room: the answer is always no",
        client: Some("FIN_WAIT1"),
        server: Some("ESTABLISHED"),
        findings: Some(&[(Side::Client, "fin-behind-zero-window")]),
        ..Stage::NOTHING
    })?;
    server.receive(TOO_MUCH)?;
    play.stage(
        "the server has read everything: the window has opened, the rest and the FIN have arrived",
        Some("FIN_WAIT2"),
        Some("CLOSE_WAIT"),
    )?;
    play.server_follows(server, listener)
}
