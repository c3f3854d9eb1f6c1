//! How connections begin, or fail to.

use std::time::Duration;

use super::{
    Expected, Retransmits, Scenario,
    play::{Connection, Play, pure_ack, syn, syn_ack},
};
use crate::{Direction, LabError, Side, endpoint::PATIENCE};

/// How long a connect may take to fail when each SYN is lost: with the settings below 4 to 7 s.
const SYN_TIMEOUT: Duration = Duration::from_secs(30);

/// The ordinary case.
pub(super) const HANDSHAKE: Scenario = Scenario {
    name: "handshake",
    title: "a connection as it should be: three segments to open, a request and its answer, an orderly close",
    replaces: "tcpdump -ni any tcp port 10000; netstat -nat | grep 10000",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    script: handshake,
};

/// Nobody listens.
pub(super) const REFUSED: Scenario = Scenario {
    name: "refused",
    title: "nobody listens: the server's kernel answers the SYN with a RST, for which it needs no socket",
    replaces: "telnet 10.0.0.9 10000; tcpdump -ni any 'tcp[tcpflags] & tcp-rst != 0'",
    client: Expected::path(&["CLOSE", "SYN_SENT", "CLOSE"]),
    server: Expected { resets: 1, ..Expected::path(&[]) },
    script: refused,
};

/// The SYN is lost again and again.
pub(super) const SYN_DROP: Scenario = Scenario {
    name: "syn-drop",
    title: "every SYN is lost on the way: the client waits in SYN_SENT, tries again, and gives up",
    replaces: "iptables -A INPUT -p tcp --dport 10000 --syn -j DROP; netstat -nat | grep SYN_SENT",
    client: Expected {
        retransmits: Retransmits { syn: 2, ..Retransmits::NONE },
        ..Expected::path(&["CLOSE", "SYN_SENT", "CLOSE"])
    },
    server: Expected::path(&[]),
    script: syn_drop,
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
    play.stage(
        "the ACK has arrived: only now the server has a socket of its own for the connection",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    let (request, answer) = (b"hello?", b"hello!");
    client.send(request)?;
    server.receive(request.len())?;
    server.send(answer)?;
    client.receive(answer.len())?;
    play.stage("a request and its answer have passed", Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    play.close_client_then_server(Connection { client, server, listener })
}

fn refused(play: &mut Play<'_>) -> Result<(), LabError> {
    play.stage("nobody listens at the server", None, None)?;
    let client = play.lab.dial()?;
    fails_with(client.connected(PATIENCE), libc::ECONNREFUSED)?;
    client.close()?;
    play.stage(
        "the SYN was answered with a RST: the client's program reads \"connection refused\"",
        None,
        None,
    )
}

fn syn_drop(play: &mut Play<'_>) -> Result<(), LabError> {
    play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_syn_retries", "1")?;
    // Since 6.5 some repeats come one second apart, beside those whose distance doubles: three in all, as before.
    match play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_syn_linear_timeouts", "1") {
        Err(LabError::Sysctl { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            play.lab.set_sysctl(Side::Client, "net.ipv4.tcp_syn_retries", "2")?;
        }
        result => result?,
    }
    let listener = play.lab.listen()?;
    play.lab.wire().drop_when(Direction::ToServer, syn);
    let client = play.lab.dial()?;
    play.until_dropped("the first SYN to be lost", 1, Direction::ToServer, syn)?;
    play.stage("the client's SYN was lost: the server knows nothing of it", Some("SYN_SENT"), None)?;
    play.until_dropped("the second SYN to be lost", 2, Direction::ToServer, syn)?;
    play.stage("a second later the client has sent its SYN again, in vain", Some("SYN_SENT"), None)?;
    play.until_dropped("the third SYN to be lost", 3, Direction::ToServer, syn)?;
    play.stage("and once more", Some("SYN_SENT"), None)?;
    fails_with(client.connected(SYN_TIMEOUT), libc::ETIMEDOUT)?;
    client.close()?;
    listener.close()?;
    play.stage("the client's kernel has given up: the program reads \"connection timed out\"", None, None)
}

/// The failure that a scenario is about; anything else, success too, is an error.
fn fails_with(result: Result<(), LabError>, errno: i32) -> Result<(), LabError> {
    match result {
        Err(LabError::Socket { source, .. }) if source.raw_os_error() == Some(errno) => Ok(()),
        Err(other) => Err(other),
        Ok(()) => Err(LabError::Unexpected("a connection that should have failed is open".into())),
    }
}
