//! A list of sockets, read on a thread of its own: to list 200,000 takes the kernel 0.2 s, and to make flows of them takes
//! half as long again, at the same time if there is a second processor.

use super::{DiagError, DumpCounts, Query, SockDiag};
use crate::sight::{Sight, Taken};
use std::{
    collections::VecDeque,
    mem, panic,
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::{Builder, JoinHandle},
};

/// Datagrams handed over at once: to wake the other thread takes as long as to read one or two of them.
const PACK: usize = 8;
/// Packs that wait to be taken, some 200 KiB each; then the reader waits.
const PACKS: usize = 2;

type Batch = (Vec<Sight>, Taken);

/// Sockets being listed while others of them are looked at. The same answers as [`Dump`](super::Dump), each with the time
/// when the kernel gave it, which is now somewhat longer ago.
#[derive(Debug)]
pub struct Ahead {
    packs: Receiver<Vec<Batch>>,
    ready: VecDeque<Batch>,
    /// Emptied, to be filled again.
    used: Sender<Vec<Sight>>,
    thread: JoinHandle<(SockDiag, Result<DumpCounts, DiagError>)>,
}

impl Ahead {
    /// Begins. The thread has `diag` until [`end`](Self::end).
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn begin(mut diag: SockDiag, query: Query) -> Result<Self, DiagError> {
        let (packs_in, packs) = sync_channel(PACKS);
        let (used, used_out) = channel();
        let work = move || {
            let result = read(&mut diag, query, &packs_in, &used_out);
            (diag, result)
        };
        let thread = Builder::new().name("sockets".into()).spawn(work).map_err(DiagError::Refused)?;
        Ok(Self { packs, ready: VecDeque::new(), used, thread })
    }

    /// Replaces `batch` by the sockets of the next datagram. `None`: that was all, for a reason that [`end`](Self::end)
    /// tells.
    pub fn next_batch(&mut self, batch: &mut Vec<Sight>) -> Option<Taken> {
        if self.ready.is_empty() {
            self.ready.extend(self.packs.recv().ok()?);
        }
        let (next, taken) = self.ready.pop_front()?;
        let _ = self.used.send(mem::replace(batch, next)); // nobody needs it any more if the reader has ended
        Some(taken)
    }

    /// Ends it, half-way too: gives `diag` back, and says what came of it.
    pub fn end(self) -> (SockDiag, Result<DumpCounts, DiagError>) {
        drop(self.packs); // the reader stops at the next pack
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => panic::resume_unwind(panic), // the reader's own
        }
    }
}

fn read(
    diag: &mut SockDiag,
    query: Query,
    packs: &SyncSender<Vec<Batch>>,
    used: &Receiver<Vec<Sight>>,
) -> Result<DumpCounts, DiagError> {
    let mut dump = diag.dump(query)?;
    let mut pack = Vec::with_capacity(PACK);
    loop {
        let mut sights = used.try_recv().unwrap_or_default();
        sights.clear();
        let read = dump.next_batch(&mut sights);
        let more = matches!(read, Ok(Some(_)));
        if let Ok(Some(taken)) = read {
            pack.push((sights, taken));
        }
        let full = pack.len() == PACK || !more;
        let wanted = !full || packs.send(mem::replace(&mut pack, Vec::with_capacity(PACK))).is_ok();
        if !more || !wanted {
            return read.map(|_| dump.counts());
        }
    }
}
