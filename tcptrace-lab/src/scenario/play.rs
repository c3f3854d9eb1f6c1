//! What the scripts are written with.

use std::time::{Duration, Instant};

use super::Stage;
use crate::{Direction, Endpoint, Fate, Lab, LabError, Segment, Side, endpoint::PATIENCE};

/// How long to wait for traffic before the kernel's tables are read again; some changes cause none.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// A scenario being played in a lab.
pub(super) struct Play<'a> {
    pub(super) lab: &'a Lab,
    observer: &'a mut dyn FnMut(&Stage),
}

/// The two ends of an established connection, and the listener it came in by.
pub(super) struct Connection<'lab> {
    pub(super) client: Endpoint<'lab>,
    pub(super) server: Endpoint<'lab>,
    pub(super) listener: Endpoint<'lab>,
}

impl<'a> Play<'a> {
    pub(super) fn new(lab: &'a Lab, observer: &'a mut dyn FnMut(&Stage)) -> Result<Self, LabError> {
        if !lab.wire().look(|traffic| traffic.is_empty()) {
            return Err(LabError::Used);
        }
        Ok(Self { lab, observer })
    }

    /// Shows a stage as soon as the kernel's tables show it too.
    pub(super) fn stage(
        &mut self,
        text: &'static str,
        client: Option<&'static str>,
        server: Option<&'static str>,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = (self.lab.states(Side::Client)?, self.lab.states(Side::Server)?);
            if seen.0 == client.as_slice() && seen.1 == server.as_slice() {
                break;
            }
            if Instant::now() >= deadline {
                return Err(LabError::Stage { text, expected: (client, server), seen });
            }
            self.lab.wire().wait_for_traffic(LOOK_AGAIN);
        }
        (self.observer)(&Stage { text, client, server });
        Ok(())
    }

    /// Waits until the wire holds a segment in that direction that matches.
    pub(super) fn until_held(
        &self,
        what: &str,
        direction: Direction,
        matches: fn(&Segment) -> bool,
    ) -> Result<(), LabError> {
        self.lab.wire().wait_until(what, PATIENCE, |traffic| traffic.count_held(direction, matches) > 0)
    }

    /// Waits until the wire has lost so many segments in that direction that match.
    pub(super) fn until_dropped(
        &self,
        what: &str,
        count: usize,
        direction: Direction,
        matches: fn(&Segment) -> bool,
    ) -> Result<(), LabError> {
        self.lab
            .wire()
            .wait_until(what, PATIENCE, |traffic| traffic.count(direction, Fate::Dropped, matches) >= count)
    }

    /// Makes a connection, without ado.
    pub(super) fn connection(&self) -> Result<Connection<'a>, LabError> {
        let listener = self.lab.listen()?;
        let client = self.lab.dial()?;
        let server = listener.accept()?;
        client.connected(PATIENCE)?;
        Ok(Connection { client, server, listener })
    }

    /// The end of most scenarios: the client closes, and the server when it has seen that.
    pub(super) fn close_client_then_server(&mut self, connection: Connection<'_>) -> Result<(), LabError> {
        let Connection { client, server, listener } = connection;
        client.close()?;
        self.stage(
            "the client closes: its FIN has arrived, the ACK for it is back, and the client waits for the other FIN",
            Some("FIN_WAIT2"),
            Some("CLOSE_WAIT"),
        )?;
        self.server_follows(server, listener)
    }

    /// The second half of that: the server reads the end of the stream and closes.
    pub(super) fn server_follows(
        &mut self,
        server: Endpoint<'_>,
        listener: Endpoint<'_>,
    ) -> Result<(), LabError> {
        server.receive_end()?;
        server.close()?;
        listener.close()?;
        self.stage(
            "the server closes too: its end is gone, the client's is kept for 60 s, which is no error",
            Some("TIME_WAIT"),
            None,
        )
    }
}

/// A segment that asks for a connection.
pub(super) fn syn(segment: &Segment) -> bool {
    segment.syn && !segment.ack
}

/// The answer to it.
pub(super) fn syn_ack(segment: &Segment) -> bool {
    segment.syn && segment.ack
}

/// The end of a direction.
pub(super) fn fin(segment: &Segment) -> bool {
    segment.fin
}

/// An acknowledgement and nothing else.
pub(super) fn pure_ack(segment: &Segment) -> bool {
    segment.ack && segment.space() == 0 && !segment.rst
}

/// A segment with data.
pub(super) fn data(segment: &Segment) -> bool {
    segment.payload > 0
}
