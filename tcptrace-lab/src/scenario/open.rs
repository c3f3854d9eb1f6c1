//! How connections begin, or fail to.

use std::time::Duration;

use super::{
    Expected, Retransmits, Scenario, Stage,
    play::{Connection, Play, Tries, fails_with, pure_ack, syn, syn_ack},
};
use crate::{Direction, LabError, Side, endpoint::PATIENCE, lesson};

/// How long a connect may take to fail when each SYN is lost: with the settings below 9 to 15 s.
const SYN_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects that are refused: the first in detail, the others in a burst.
const REFUSED_CONNECTS: u32 = 12;
/// How often the SYN timer expires before the client is called stuck; it expires once more before the end.
const SYNS_IN_VAIN: u32 = 3;

/// The ordinary case.
pub(super) const HANDSHAKE: Scenario = Scenario {
    name: "handshake",
    title: "a connection as it should be: three segments to open, a request and its answer, an orderly close",
    replaces: "tcpdump -ni any tcp port 10000; netstat -nat | grep 10000",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[],
    lesson: &lesson::open::HANDSHAKE,
    script: handshake,
};

/// Nobody listens.
pub(super) const REFUSED: Scenario = Scenario {
    name: "refused",
    title: "nobody listens: the server's kernel answers the SYN with a RST, for which it needs no socket",
    replaces: "telnet 10.0.0.9 10000; tcpdump -ni any 'tcp[tcpflags] & tcp-rst != 0'",
    client: Expected::path(&["CLOSE", "SYN_SENT", "CLOSE"]),
    server: Expected { resets: REFUSED_CONNECTS, socketless_resets: REFUSED_CONNECTS, ..Expected::path(&[]) },
    findings: &[(Side::Client, "connect-refused")],
    lesson: &lesson::open::REFUSED,
    script: refused,
};

/// The SYN is lost again and again.
pub(super) const SYN_DROP: Scenario = Scenario {
    name: "syn-drop",
    title: "every SYN is lost on the way: the client waits in SYN_SENT, tries again, and gives up",
    replaces: "iptables -A INPUT -p tcp --dport 10000 --syn -j DROP; netstat -nat | grep SYN_SENT",
    client: Expected {
        retransmits: Retransmits { syn: SYNS_IN_VAIN, ..Retransmits::NONE },
        ..Expected::path(&["CLOSE", "SYN_SENT", "CLOSE"])
    },
    server: Expected::path(&[]),
    findings: &[(Side::Client, "syn-unanswered")],
    lesson: &lesson::open::SYN_DROP,
    script: syn_drop,
};

/// The answer is lost.
pub(super) const SYNACK_DROP: Scenario = Scenario {
    name: "synack-drop",
    title: "every SYN-ACK is lost on the way back: SYN_SENT at the client, SYN_RECV at the server, both try again",
    replaces: "iptables -A INPUT -p tcp --sport 10000 --tcp-flags SYN,ACK SYN,ACK -j DROP; netstat -nat | grep SYN_RECV",
    client: Expected {
        retransmits: Retransmits { syn: SYNS_IN_VAIN, ..Retransmits::NONE },
        ..Expected::path(&["CLOSE", "SYN_SENT", "CLOSE"])
    },
    server: Expected {
        // Each repeated SYN is answered too, beside those that the timer sends.
        retransmits: Retransmits { syn_ack: SYNS_IN_VAIN, ..Retransmits::NONE },
        ..Expected::path(&[])
    },
    findings: &[(Side::Client, "syn-unanswered"), (Side::Server, "syn-ack-unanswered")],
    lesson: &lesson::open::SYNACK_DROP,
    script: synack_drop,
};

fn handshake(play: &mut Play<'_>) -> Result<(), LabError> {
    let wire = play.lab.wire();
    let listener = play.lab.listen()?;
    wire.hold();
    let client = play.lab.dial()?;
    play.until_held("the client's SYN", Direction::ToServer, syn)?;
    play.stage("the client has sent a SYN, which is under way", Some("SYN_SENT"), None)?;
    wire.step()?;
    play.until_held("the server's SYN-ACK", Direction::ToClient, syn_ack)?;
    play.stage(
        "the SYN has arrived: the server notes a half-open request and has sent its SYN-ACK",
        Some("SYN_SENT"),
        Some("SYN_RECV"),
    )?;
    wire.step()?;
    play.until_held("the client's ACK", Direction::ToServer, pure_ack)?;
    play.stage(
        "the SYN-ACK has arrived: for the client the connection is open, its ACK is under way",
        Some("ESTABLISHED"),
        Some("SYN_RECV"),
    )?;
    wire.release()?;
    let server = listener.accept()?;
    client.connected(PATIENCE)?;
    play.healthy(
        "the ACK has arrived: only now the server has a socket of its own for the connection",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    let (request, answer) = (b"hello?", b"hello!");
    client.send(request)?;
    server.receive(request.len())?;
    server.send(answer)?;
    client.receive(answer.len())?;
    play.healthy("a request and its answer have passed", Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    play.close_client_then_server(Connection { client, server, listener })
}

fn refused(play: &mut Play<'_>) -> Result<(), LabError> {
    play.healthy("nobody listens at the server", None, None)?;
    is_refused(play)?;
    play.healthy(
        "the SYN was answered with a RST: the client's program reads \"connection refused\"",
        None,
        None,
    )?;
    for _ in 1..REFUSED_CONNECTS {
        is_refused(play)?;
    }
    play.show(Stage {
        text: "the client has tried eleven times more, as programs do that do not wait in between",
        findings: Some(&[(Side::Client, "connect-refused")]),
        ..Stage::NOTHING
    })
}

fn is_refused(play: &Play<'_>) -> Result<(), LabError> {
    let client = play.lab.dial()?;
    fails_with(client.connected(PATIENCE), libc::ECONNREFUSED)?;
    client.close()
}

/// Lets the client's SYN timer expire five times at most: after 1, 2, 3, 5 and, for good, 9 s.
fn few_syns(play: &Play<'_>) -> Result<(), LabError> {
    play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_syn_retries", "2")?;
    // Since 6.5 some repeats come one second apart, before those whose distance doubles. Older kernels: 1, 3, 7, 15 s.
    match play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_syn_linear_timeouts", "2") {
        Err(LabError::Sysctl { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_syn_retries", "3")
        }
        result => result,
    }
}

fn syn_drop(play: &mut Play<'_>) -> Result<(), LabError> {
    few_syns(play)?;
    let listener = play.lab.listen()?;
    play.lab.wire().drop_when(Direction::ToServer, syn);
    let client = play.lab.dial()?;
    play.until_dropped("the first SYN to be lost", 1, Direction::ToServer, syn)?;
    play.stage("the client's SYN was lost: the server knows nothing of it", Some("SYN_SENT"), None)?;
    play.until_dropped("the second SYN to be lost", 2, Direction::ToServer, syn)?;
    play.stage("a second later the client has sent its SYN again, in vain", Some("SYN_SENT"), None)?;
    play.until_in_vain("more SYNs to be lost", Side::Client, "SYN_SENT", Tries::Expiries(SYNS_IN_VAIN))?;
    play.show(Stage {
        text: "and twice more: nothing has come back",
        client: Some("SYN_SENT"),
        findings: Some(&[(Side::Client, "syn-unanswered")]),
        ..Stage::NOTHING
    })?;
    fails_with(client.connected(SYN_TIMEOUT), libc::ETIMEDOUT)?;
    client.close()?;
    listener.close()?;
    play.healthy("the client's kernel has given up: the program reads \"connection timed out\"", None, None)
}

fn synack_drop(play: &mut Play<'_>) -> Result<(), LabError> {
    few_syns(play)?;
    // Every SYN that comes again delays the server's timer, so it expires twice at most before the end.
    play.lab.set_sysctl(Side::Server, "net.ipv4.tcp_synack_retries", "2")?;
    let listener = play.lab.listen()?;
    play.lab.wire().drop_when(Direction::ToClient, syn_ack);
    let client = play.lab.dial()?;
    play.until_dropped("the first SYN-ACK to be lost", 1, Direction::ToClient, syn_ack)?;
    play.stage(
        "the SYN has arrived, and the SYN-ACK was lost: the server notes a half-open request, the client nothing",
        Some("SYN_SENT"),
        Some("SYN_RECV"),
    )?;
    play.until_in_vain("SYNs to be unanswered", Side::Client, "SYN_SENT", Tries::Expiries(SYNS_IN_VAIN))?;
    play.until_in_vain("SYN-ACKs to be unanswered", Side::Server, "SYN_RECV", Tries::Expiries(1))?;
    play.show(Stage {
        text: "the client repeats its SYN, the server its SYN-ACK: one way is open, the other is not",
        client: Some("SYN_SENT"),
        server: Some("SYN_RECV"),
        findings: Some(&[(Side::Client, "syn-unanswered"), (Side::Server, "syn-ack-unanswered")]),
        ..Stage::NOTHING
    })?;
    fails_with(client.connected(SYN_TIMEOUT), libc::ETIMEDOUT)?;
    client.close()?;
    play.healthy("both kernels have given up: the program reads \"connection timed out\"", None, None)?;
    listener.close()
}
