//! The thread that writes: a slow disk holds up nobody else.

use super::{
    CreateError, Stopped, Why,
    block::EndKind,
    disk::Disk,
    queue::{Job, Shared},
};
use crate::sandbox::{Sandbox, Thread};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
    thread::JoinHandle,
};

/// How a thread comes by its disk: there, since that may take time, too.
pub type Begin = Box<dyn FnOnce(&Shared) -> Result<Disk, CreateError> + Send>;

/// Starts it. `begun` is told how the beginning went, `ended` when all is written.
pub fn start(
    begin: Begin,
    jobs: Receiver<Job>,
    shared: Arc<Shared>,
    sandbox: Sandbox,
    begun: SyncSender<Result<(), CreateError>>,
    ended: SyncSender<()>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("record".to_owned()).spawn(move || {
        // A file that may not grow any more (ulimit -f) is an error like others, not the end of the process.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGXFSZ);
        let _ = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&signals), None);
        match begin(&shared) {
            Ok(disk) => {
                shared.set_written(disk.written());
                sandbox.enter(&Thread::Recorder(disk.folder()));
                let _ = begun.send(Ok(()));
                work(disk, &jobs, &shared);
            }
            Err(why) => {
                let _ = begun.send(Err(why));
            }
        }
        let _ = ended.send(());
    })
}

fn work(mut disk: Disk, jobs: &Receiver<Job>, shared: &Shared) {
    if disk.is_blank()
        && let Err(why) = disk.begin(&shared.preamble(), 0)
    {
        stop(&mut disk, Why::Io(why), shared);
    }
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Block(run) => {
                if !shared.has_stopped()
                    && let Err(why) = disk.write(&run, &shared.preamble(), shared.dropped())
                {
                    stop(&mut disk, why, shared);
                }
                shared.set_written(disk.written());
                shared.taken(run.bytes.len());
            }
            Job::Finish(reason) => {
                if !shared.has_stopped()
                    && let Err(why) = disk.end(EndKind::Finished, &reason, shared.dropped())
                {
                    stop(&mut disk, Why::Io(why), shared);
                }
                shared.set_written(disk.written());
                break;
            }
        }
    }
}

/// Says in the file why it ends, if there is room for that, and tells.
fn stop(disk: &mut Disk, why: Why, shared: &Shared) {
    let (kind, words) = match &why {
        Why::Io(why) => (EndKind::Failed, why.to_string()),
        Why::Full { .. } => (EndKind::Full, String::new()),
    };
    if !disk.is_blank() {
        // If it fails, the file ends with its last block, and readers say so.
        let _ = disk.end(kind, &words, shared.dropped());
    }
    let written = disk.written();
    shared.stop(Stopped {
        path: disk.path(),
        why,
        frames: written.kept_frames,
        bytes: written.bytes,
        files: written.files,
        last_ns: written.last_ns,
    });
}
