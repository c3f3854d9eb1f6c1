//! Between who records and the thread that writes: what waits, bounded in bytes, and what each side tells the other.

use super::{Preamble, Stopped, disk::Written, frames::Run};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// For the thread.
pub enum Job {
    /// To be written.
    Block(Run),
    /// The recording is complete, for this reason.
    Finish(String),
}

/// What both sides see.
#[derive(Default)]
pub struct Shared {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Frames that were dropped.
    dropped: AtomicU64,
    has_stopped: AtomicBool,
    stopped: Mutex<Option<Stopped>>,
    written: Mutex<Written>,
    preamble: Mutex<Arc<Preamble>>,
}

/// A panic elsewhere must not become one here; all values are whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// With what opens every file.
    pub fn new(preamble: Preamble) -> Self {
        Self { preamble: Mutex::new(Arc::new(preamble)), ..Self::default() }
    }

    /// Bytes that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// More wait.
    pub fn put(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    /// They wait no more.
    pub fn taken(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Another frame was dropped.
    pub fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Nothing more is written.
    pub fn stop(&self, why: Stopped) {
        *lock(&self.stopped) = Some(why);
        self.has_stopped.store(true, Ordering::Release);
    }

    /// Whether that is so.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Acquire)
    }

    /// Why; told once.
    pub fn take_stopped(&self) -> Option<Stopped> {
        lock(&self.stopped).take()
    }

    /// What was written so far.
    pub fn written(&self) -> Written {
        *lock(&self.written)
    }

    /// More was written.
    pub fn set_written(&self, written: Written) {
        *lock(&self.written) = written;
    }

    /// What opens every file.
    pub fn preamble(&self) -> Arc<Preamble> {
        Arc::clone(&lock(&self.preamble))
    }

    /// From the next file on.
    pub fn set_preamble(&self, preamble: Preamble) {
        *lock(&self.preamble) = Arc::new(preamble);
    }
}
