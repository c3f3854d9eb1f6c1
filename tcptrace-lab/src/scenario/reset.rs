//! Connections that end with a RST.

use super::{
    Expected, Scenario, Stage,
    play::{Play, data},
};
use crate::{Direction, Endpoint, LabError, Side, endpoint::PATIENCE, lesson};

/// Connections of each burst.
const RESET: usize = 25;

/// A close that loses data.
pub(super) const RST_UNREAD: Scenario = Scenario {
    name: "rst-unread",
    title: "the server closes without having read everything: the kernel sends a RST instead of a FIN",
    replaces: "tcpdump -ni any 'tcp[tcpflags] & tcp-rst != 0'; nstat TcpExtTCPAbortOnClose",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"]),
    server: Expected {
        resets: RESET as u32,
        ..Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE"])
    },
    findings: &[(Side::Server, "rst-storm")],
    lesson: &lesson::reset::RST_UNREAD,
    script: rst_unread,
};

/// A program that wants no TIME_WAIT.
pub(super) const RST_LINGER: Scenario = Scenario {
    name: "rst-linger",
    title: "the client closes with SO_LINGER at zero: a RST at once, no FIN, no TIME_WAIT, and nothing is sure to arrive",
    replaces: "tcpdump -ni any 'tcp[tcpflags] & tcp-rst != 0'; netstat -s | grep -i 'resets sent'",
    client: Expected {
        resets: RESET as u32,
        ..Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"])
    },
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE"]),
    findings: &[(Side::Client, "rst-storm")],
    lesson: &lesson::reset::RST_LINGER,
    script: rst_linger,
};

fn rst_unread(play: &mut Play<'_>) -> Result<(), LabError> {
    const UNREAD: &[u8] = b"nobody will ever read this";
    let listener = play.lab.listen()?;
    let (client, server) = play.connect(&listener)?;
    // What is sent again after the close would be answered with a second RST.
    play.without_repeats(Direction::ToServer, data);
    client.send(UNREAD)?;
    server.see(UNREAD.len())?;
    play.stage(
        "the client's data has arrived, and the server does not read it",
        Some("ESTABLISHED"),
        Some("ESTABLISHED"),
    )?;
    server.close()?;
    is_reset(&client)?;
    client.close()?;
    play.healthy(
        "the server has closed with data unread: one RST, no TIME_WAIT, and the client reads \"connection reset\"",
        None,
        None,
    )?;
    for _ in 1..RESET {
        let (client, server) = play.connect(&listener)?;
        client.send(UNREAD)?;
        server.see(UNREAD.len())?;
        server.close()?;
        is_reset(&client)?;
        client.close()?;
    }
    listener.close()?;
    play.show(Stage {
        text: "the server has done the same to 24 more: whoever counts RSTs sees a storm, and the server sends it",
        findings: Some(&[(Side::Server, "rst-storm")]),
        ..Stage::NOTHING
    })
}

fn rst_linger(play: &mut Play<'_>) -> Result<(), LabError> {
    let listener = play.lab.listen()?;
    let (client, server) = play.connect(&listener)?;
    play.healthy("the connection is open", Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    client.close_hard()?;
    is_reset(&server)?;
    server.close()?;
    play.healthy(
        "the client has closed hard: one RST, no TIME_WAIT on either side, and the server reads \"connection reset\"",
        None,
        None,
    )?;
    for _ in 1..RESET {
        let (client, server) = play.connect(&listener)?;
        client.close_hard()?;
        is_reset(&server)?;
        server.close()?;
    }
    listener.close()?;
    play.show(Stage {
        text: "the client has done so 24 times more: every one of its connections ends with a RST of its own",
        findings: Some(&[(Side::Client, "rst-storm")]),
        ..Stage::NOTHING
    })
}

fn is_reset(endpoint: &Endpoint<'_>) -> Result<(), LabError> {
    let error = endpoint.failure(PATIENCE)?;
    match error.raw_os_error() {
        Some(libc::ECONNRESET) => Ok(()),
        _ => Err(LabError::Unexpected(format!("{error}, not a connection reset"))),
    }
}
