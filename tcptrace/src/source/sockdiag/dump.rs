//! A list of sockets, a datagram at a time.

use super::{
    DiagError, Query, RETRIES, SockDiag, boot_time_ns,
    codec::{End, Reply, Request},
    passes, refused,
};
use crate::sight::{Sight, Taken};
use std::io;

/// What came of a [`Dump`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpCounts {
    /// Sockets appended, again after a restart included.
    pub sockets: u64,
    /// Times that the list was begun again, because the kernel broke off or lost its place.
    pub restarts: u32,
    /// Messages that make no sense.
    pub unreadable: u64,
}

/// Sockets being listed.
///
/// The list is not one moment's: each datagram has its own [`Taken`]. A socket that changes its kind meanwhile (request
/// to connection, connection to minisocket) may be in it twice, by the same cookie; in very rare cases one is left out,
/// when another one before it in the same bucket of the kernel's table goes away between two datagrams. So presence
/// proves something, absence only suggests it: [`SockDiag::look`] proves.
#[derive(Debug)]
pub struct Dump<'a> {
    diag: &'a mut SockDiag,
    query: Query,
    counts: DumpCounts,
    /// When the kernel filled the datagram that we receive next.
    filled: Taken,
    pub(super) interrupted: bool,
    finished: bool,
}

impl<'a> Dump<'a> {
    pub(super) fn begin(diag: &'a mut SockDiag, query: Query) -> Result<Self, DiagError> {
        let filled = diag.send(|sequence| Request::dump(&query, sequence))?;
        let counts = DumpCounts::default();
        Ok(Self { diag, query, counts, filled, interrupted: false, finished: false })
    }

    /// What came so far.
    pub fn counts(&self) -> DumpCounts {
        self.counts
    }

    /// Appends the sockets of the next datagram, up to 32 KiB of them: some 260 plain ones, or 70 with full detail. Takes
    /// well under a millisecond, and never waits. `None`: that was all.
    ///
    /// After a restart sockets come again, so the receiver should know them by their cookies.
    ///
    /// # Errors
    /// If the kernel refuses, or could not complete the list in several attempts. What was appended before is true all
    /// the same.
    pub fn next_batch(&mut self, into: &mut Vec<Sight>) -> Result<Option<Taken>, DiagError> {
        while !self.finished {
            let (before, from_ns) = (into.len(), boot_time_ns());
            let received = self.diag.receive(self.query.states, into);
            // The kernel fills the first datagram while it takes the request, and each further one at the end of the
            // receive before: netlink_recvmsg() hands out what is there, then calls netlink_dump(). So this one was
            // filled during the call before this one, and what has been filled during this one comes next.
            let next = Taken { from_ns, to_ns: boot_time_ns() };
            let taken = std::mem::replace(&mut self.filled, next);
            self.counts.sockets += (into.len() - before) as u64;
            let reply = match received {
                Ok(reply) => reply,
                Err(errno) => {
                    self.again(errno)?;
                    continue;
                }
            };
            self.counts.unreadable += reply.unreadable;
            self.interrupted |= reply.interrupted;
            self.end(reply)?;
            if into.len() > before {
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }

    fn end(&mut self, reply: Reply) -> Result<(), DiagError> {
        match reply.end {
            None => Ok(()),
            Some(End::Failed(errno)) => self.again(errno),
            // Complete, but with holes.
            Some(End::Complete) if self.interrupted => self.again(libc::EINTR),
            Some(End::Complete) => {
                (self.finished, self.diag.busy) = (true, false);
                Ok(())
            }
        }
    }

    /// Begins again, if that may help.
    fn again(&mut self, errno: i32) -> Result<(), DiagError> {
        self.finished = true; // whatever becomes of it, unless it succeeds
        if !passes(errno) {
            return Err(refused(errno));
        }
        if self.counts.restarts == RETRIES {
            return Err(DiagError::BrokenOff(RETRIES + 1, io::Error::from_raw_os_error(errno)));
        }
        self.counts.restarts += 1;
        self.interrupted = false;
        let query = self.query;
        self.filled = self.diag.send(|sequence| Request::dump(&query, sequence))?;
        self.finished = false;
        Ok(())
    }
}
