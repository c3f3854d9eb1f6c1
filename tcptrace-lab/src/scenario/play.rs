//! What the scripts are written with.

use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

use super::Stage;
use crate::{Direction, Endpoint, Fate, Lab, LabError, Segment, Side, endpoint::PATIENCE, table::Row};

/// How long to wait for traffic before the kernel's tables are read again; some changes cause none.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How long a timer of the kernel may take that a scenario waits for; the longest takes 7 s.
const TIMER_PATIENCE: Duration = Duration::from_secs(20);
/// How often the tables are read while a timer runs.
const TIMER_LOOK: Duration = Duration::from_millis(10);

/// What was tried in vain, and how often at least.
#[derive(Clone, Copy)]
pub(super) enum Tries {
    /// Expiries of the retransmission timer in a row; of half-open requests, of the SYN-ACK timer.
    Expiries(u32),
    /// Keepalive probes in a row.
    Probes(u32),
}

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

    /// Shows a stage in transit: one connection, that nobody is to judge now.
    pub(super) fn stage(
        &mut self,
        text: &'static str,
        client: Option<&'static str>,
        server: Option<&'static str>,
    ) -> Result<(), LabError> {
        self.show(Stage { text, client, server, ..Stage::NOTHING })
    }

    /// Shows a stage where all is well and stays as it is.
    pub(super) fn healthy(
        &mut self,
        text: &'static str,
        client: Option<&'static str>,
        server: Option<&'static str>,
    ) -> Result<(), LabError> {
        self.show(Stage { text, client, server, findings: Some(&[]), ..Stage::NOTHING })
    }

    /// Shows a stage as soon as the kernel's tables show it too.
    pub(super) fn show(&mut self, stage: Stage) -> Result<(), LabError> {
        let expected = (stage.states(Side::Client), stage.states(Side::Server));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut seen = (self.lab.states(Side::Client)?, self.lab.states(Side::Server)?);
            seen.0.sort_unstable();
            seen.1.sort_unstable();
            if seen == expected {
                break;
            }
            if Instant::now() >= deadline {
                return Err(LabError::Stage { text: stage.text, expected, seen });
            }
            self.lab.wire().wait_for_traffic(LOOK_AGAIN);
        }
        (self.observer)(&stage);
        Ok(())
    }

    /// Waits until the kernel's table shows all connections of that host in that state to have tried that often in
    /// vain.
    pub(super) fn until_in_vain(
        &self,
        what: &'static str,
        side: Side,
        state: &str,
        tries: Tries,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + TIMER_PATIENCE;
        let tried = |row: &Row| match tries {
            Tries::Expiries(least) => row.expiries >= least,
            Tries::Probes(least) => row.probes >= least,
        };
        loop {
            let rows = self.lab.rows(side)?;
            let mut there = rows.iter().filter(|row| row.state == state).peekable();
            if there.peek().is_some() && there.all(tried) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(LabError::Timeout { what: what.into(), waited: TIMER_PATIENCE });
            }
            self.lab.wire().wait_for_traffic(TIMER_LOOK);
        }
    }

    /// Lets time pass, where age itself is what the scenario is about; traffic goes on meanwhile.
    pub(super) fn grow_old(&self, age: Duration) {
        thread::sleep(age);
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
        let (client, server) = self.connect(&listener)?;
        Ok(Connection { client, server, listener })
    }

    /// Makes one more connection: its ends at client and server.
    pub(super) fn connect(&self, listener: &Endpoint<'a>) -> Result<(Endpoint<'a>, Endpoint<'a>), LabError> {
        let client = self.lab.dial()?;
        let server = listener.accept()?;
        client.connected(PATIENCE)?;
        Ok((client, server))
    }

    /// From now on drops what is sent again of the segments in that direction that match. For those whose second
    /// answer would do harm, however long the first one is looked at.
    pub(super) fn without_repeats(&self, direction: Direction, matches: fn(&Segment) -> bool) {
        let mut sent = HashSet::new();
        self.lab.wire().drop_when(direction, move |segment| {
            matches(segment) && !sent.insert((segment.source_port, segment.seq))
        });
    }

    /// The end of most scenarios: the client closes, and the server when it has seen that.
    pub(super) fn close_client_then_server(&mut self, connection: Connection<'_>) -> Result<(), LabError> {
        let Connection { client, server, listener } = connection;
        client.close()?;
        self.healthy(
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
        self.healthy(
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

/// The failure that a scenario is about; anything else, success too, is an error.
pub(super) fn fails_with(result: Result<(), LabError>, errno: i32) -> Result<(), LabError> {
    match result {
        Err(LabError::Socket { source, .. }) if source.raw_os_error() == Some(errno) => Ok(()),
        Err(other) => Err(other),
        Ok(()) => Err(LabError::Unexpected("what should have failed has succeeded".into())),
    }
}
