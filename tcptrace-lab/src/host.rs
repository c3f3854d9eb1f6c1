//! One host: a thread in a network namespace of its own that runs what it is given.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    panic::{self, AssertUnwindSafe},
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, unshare};

use crate::{Family, LabError, Side, tun};

/// Buckets in a host's own table of sockets. The kernel derives `tcp_max_tw_buckets` from it, half as many.
const SOCKET_TABLE_SIZE: &str = "4096";

type Job = Box<dyn FnOnce() + Send>;

/// A host, which is there until it is dropped.
#[derive(Debug)]
pub(crate) struct Host {
    side: Side,
    netns: u32,
    thread_id: i32,
    /// Closed, by being taken, to end the thread.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What a new host tells its maker.
struct Made {
    netns: u32,
    thread_id: i32,
    tun: File,
}

impl Host {
    /// Makes the host and its device, which the wire takes.
    pub(crate) fn start(side: Side, family: Family) -> Result<(Self, File), LabError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let body = move || {
            let made = make(side, family);
            let failed = made.is_err();
            if tell.send(made).is_err() || failed {
                return;
            }
            // Ends when the host drops its sender.
            for job in inbox {
                job();
            }
            hurry_orphans();
        };
        // The kernel shows this name as the task of every event that the host's programs cause.
        let name = match side {
            Side::Client => "lab-client",
            Side::Server => "lab-server",
        };
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(body)
            .map_err(|error| LabError::system("start a host's thread", error))?;
        let made = told.recv().unwrap_or(Err(LabError::HostEnded(side)))?;
        let host = Self {
            side,
            netns: made.netns,
            thread_id: made.thread_id,
            jobs: Some(jobs),
            thread: Some(thread),
        };
        Ok((host, made.tun))
    }

    pub(crate) fn netns(&self) -> u32 {
        self.netns
    }

    pub(crate) fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// Runs the closure on the host's thread and waits for its result. A panic in it is passed on to the caller.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, LabError> {
        let ended = || LabError::HostEnded(self.side);
        let (reply, answer) = mpsc::channel();
        let job = Box::new(move || {
            let result = panic::catch_unwind(AssertUnwindSafe(job));
            // The receiver is waiting below: it cannot be gone.
            let _ = reply.send(result);
        });
        self.jobs.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())?;
        match answer.recv().map_err(|_| ended())? {
            Ok(value) => Ok(value),
            Err(panic) => panic::resume_unwind(panic),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Jobs catch their panics, so the thread has none of its own to report.
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread, and no other, into a new namespace and makes its device.
fn make(side: Side, family: Family) -> Result<Made, LabError> {
    let new_namespace = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| LabError::errno("make a network namespace", errno))
    };
    new_namespace()?;
    // Namespaces share one table of sockets, of a size that suits the machine, and to look at it takes milliseconds
    // each time, during which a held segment grows old. Since 6.1 the namespaces made out of this one can have
    // tables of their own; before, looking is slower.
    if fs::write("/proc/sys/net/ipv4/tcp_child_ehash_entries", SOCKET_TABLE_SIZE).is_ok() {
        new_namespace()?;
    }
    let tun = tun::open(family.address(side))?;
    let inode = fs::metadata("/proc/thread-self/ns/net")
        .map_err(|error| LabError::system("look at the new network namespace", error))?
        .ino();
    let netns = u32::try_from(inode)
        .map_err(|_| LabError::Unexpected(format!("a network namespace with the inode number {inode}")))?;
    Ok(Made { netns, thread_id: nix::unistd::gettid().as_raw(), tun })
}

/// Sockets that were closed but whose FIN is unanswered keep the namespace alive for about two minutes. Nobody is
/// going to answer, so let them give up at their next retransmission. A failure only means that they take longer.
fn hurry_orphans() {
    let _: io::Result<()> = fs::write("/proc/sys/net/ipv4/tcp_orphan_retries", "1");
}
