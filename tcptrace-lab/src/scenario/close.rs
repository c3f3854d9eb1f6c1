//! How connections end when nothing goes wrong.

use super::{
    Expected, Scenario,
    play::{Connection, Play, fin, pure_ack},
};
use crate::{Direction, Endpoint, LabError, Side, lesson};

/// The client is the one that ends up in TIME_WAIT.
pub(super) const CLOSE_CLIENT_FIRST: Scenario = Scenario {
    name: "close-client-first",
    title: "the client closes first, segment by segment: who closes first is who ends in TIME_WAIT",
    replaces: "netstat -nat | grep -E 'FIN_WAIT|CLOSE_WAIT|LAST_ACK|TIME_WAIT'",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[],
    lesson: &lesson::close::CLOSE_CLIENT_FIRST,
    script: close_client_first,
};

/// The server is the one that ends up in TIME_WAIT.
pub(super) const CLOSE_SERVER_FIRST: Scenario = Scenario {
    name: "close-server-first",
    title: "the server closes first, segment by segment: TIME_WAIT is now at the server",
    replaces: "netstat -nat | grep TIME_WAIT",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    findings: &[],
    lesson: &lesson::close::CLOSE_SERVER_FIRST,
    script: close_server_first,
};

/// One direction ends before the other.
pub(super) const HALF_CLOSE: Scenario = Scenario {
    name: "half-close",
    title: "the client ends its direction only, and still receives: FIN_WAIT2 with a program that waits, not a leak",
    replaces: "nc -N 10.0.0.9 10000 < request; netstat -nat | grep FIN_WAIT2",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]),
    findings: &[],
    lesson: &lesson::close::HALF_CLOSE,
    script: half_close,
};

/// The FINs cross.
pub(super) const SIMULTANEOUS_CLOSE: Scenario = Scenario {
    name: "simultaneous-close",
    title: "both sides close at once and their FINs cross: CLOSING, the state that is hardly ever seen",
    replaces: "netstat -nat | grep CLOSING",
    client: Expected::path(&["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "CLOSING", "CLOSE"]),
    server: Expected::path(&["LISTEN", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1", "CLOSING", "CLOSE"]),
    findings: &[],
    lesson: &lesson::close::SIMULTANEOUS_CLOSE,
    script: simultaneous_close,
};

const OPEN: &str = "the connection is open";

fn close_client_first(play: &mut Play<'_>) -> Result<(), LabError> {
    let Connection { client, server, listener } = play.connection()?;
    close_in_order(play, Side::Client, client, server)?;
    listener.close()
}

fn close_server_first(play: &mut Play<'_>) -> Result<(), LabError> {
    let Connection { client, server, listener } = play.connection()?;
    close_in_order(play, Side::Server, server, client)?;
    listener.close()
}

/// Closes one end, then the other, with a stage for each segment of the close.
fn close_in_order(
    play: &mut Play<'_>,
    first_side: Side,
    first: Endpoint<'_>,
    second: Endpoint<'_>,
) -> Result<(), LabError> {
    let wire = play.lab.wire();
    let (from_first, to_first) = (Direction::from_side(first_side), Direction::from_side(first_side.peer()));
    let ordered = |first, second| match first_side {
        Side::Client => (first, second),
        Side::Server => (second, first),
    };
    let stage = |play: &mut Play<'_>, text, first, second| {
        let (client, server) = ordered(first, second);
        play.stage(text, client, server)
    };
    let healthy = |play: &mut Play<'_>, text, first, second| {
        let (client, server) = ordered(first, second);
        play.healthy(text, client, server)
    };
    healthy(play, OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    wire.hold();
    first.close()?;
    play.until_held("the first FIN", from_first, fin)?;
    stage(play, "one side has closed: its FIN is under way", Some("FIN_WAIT1"), Some("ESTABLISHED"))?;
    wire.step()?;
    play.until_held("the ACK of the first FIN", to_first, pure_ack)?;
    stage(play, "the FIN has arrived: its ACK is under way", Some("FIN_WAIT1"), Some("CLOSE_WAIT"))?;
    wire.release()?;
    second.receive_end()?;
    healthy(
        play,
        "the ACK has arrived: the other side has read the end of the stream, and it is its program's turn to close",
        Some("FIN_WAIT2"),
        Some("CLOSE_WAIT"),
    )?;
    // While it is looked at the FIN may be repeated. Its answer would come behind the last ACK and find no socket any
    // more, and the RST for that would end the TIME_WAIT (net.ipv4.tcp_rfc1337 is 0).
    play.without_repeats(to_first, fin);
    wire.hold();
    second.close()?;
    play.until_held("the second FIN", to_first, fin)?;
    stage(play, "the other side has closed too: its FIN is under way", Some("FIN_WAIT2"), Some("LAST_ACK"))?;
    wire.step()?;
    play.until_held("the ACK of the second FIN", from_first, pure_ack)?;
    stage(
        play,
        "the second FIN has arrived: the last ACK is under way",
        Some("TIME_WAIT"),
        Some("LAST_ACK"),
    )?;
    wire.release()?;
    healthy(
        play,
        "the last ACK has arrived: who closed last is done, who closed first remembers for 60 s",
        Some("TIME_WAIT"),
        None,
    )
}

fn half_close(play: &mut Play<'_>) -> Result<(), LabError> {
    let Connection { client, server, listener } = play.connection()?;
    play.healthy(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    client.shutdown_write()?;
    server.receive_end()?;
    play.healthy(
        "the client has shut its direction down: it sends no more but still listens",
        Some("FIN_WAIT2"),
        Some("CLOSE_WAIT"),
    )?;
    let answer = b"what you asked for";
    server.send(answer)?;
    client.receive(answer.len())?;
    play.healthy("the server's answer has come through all the same", Some("FIN_WAIT2"), Some("CLOSE_WAIT"))?;
    server.close()?;
    client.receive_end()?;
    play.stage(
        "the server has closed: the client's kernel waits in TIME_WAIT, though its program has the socket still open",
        Some("TIME_WAIT"),
        None,
    )?;
    client.close()?;
    listener.close()?;
    play.healthy(
        "the client's program has closed its socket, which changes nothing more",
        Some("TIME_WAIT"),
        None,
    )
}

fn simultaneous_close(play: &mut Play<'_>) -> Result<(), LabError> {
    let Connection { client, server, listener } = play.connection()?;
    let wire = play.lab.wire();
    play.healthy(OPEN, Some("ESTABLISHED"), Some("ESTABLISHED"))?;
    wire.hold();
    client.close()?;
    server.close()?;
    listener.close()?;
    play.until_held("the client's FIN", Direction::ToServer, fin)?;
    play.until_held("the server's FIN", Direction::ToClient, fin)?;
    play.stage("both sides have closed: two FINs are under way", Some("FIN_WAIT1"), Some("FIN_WAIT1"))?;
    wire.step()?;
    play.until_held("the client's ACK", Direction::ToServer, pure_ack)?;
    play.until_held("the server's ACK", Direction::ToClient, pure_ack)?;
    play.stage(
        "each has received a FIN instead of the ACK for its own, and has answered it",
        Some("CLOSING"),
        Some("CLOSING"),
    )?;
    wire.release()?;
    play.healthy("the ACKs have arrived: both sides wait in TIME_WAIT", Some("TIME_WAIT"), Some("TIME_WAIT"))
}
