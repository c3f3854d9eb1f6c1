//! The network between the hosts: carries packets, and drops or holds them as it is told.

mod carrier;
mod traffic;

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, PipeWriter, Write},
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

pub use traffic::{Direction, Fate, Sighting, Traffic};

use crate::{LabError, Segment, packet};

/// How long held or injected segments may take to be passed on; it takes microseconds.
const RELEASE_DEADLINE: Duration = Duration::from_secs(10);

/// Decides about a segment: true drops it.
type Predicate = Box<dyn FnMut(&Segment) -> bool + Send>;

/// The network between the two hosts of a lab.
///
/// A thread of its own, `lab-wire`, carries each packet by writing it into the receiving host's device, and the
/// kernel handles it within that write. So a segment that the wire has counted as forwarded has been seen by the
/// receiver's TCP, unless a program was inside a system call on that very socket at the time, in which case TCP
/// looks at it before that call returns.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    wake: PipeWriter,
    thread_id: i32,
    thread: Option<JoinHandle<()>>,
}

/// Names a rule, to remove it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    traffic: Traffic,
    rules: Vec<Rule>,
    rules_made: u64,
    holding: bool,
    /// How many of the held segments, oldest first, are to be passed on now.
    releasing: usize,
    /// Packets made by hand that wait to be carried, in the order they came.
    injected: VecDeque<(Direction, Segment, Vec<u8>)>,
    stop: bool,
    /// Why nothing is carried any more.
    ended: Option<String>,
}

struct Rule {
    id: RuleId,
    direction: Direction,
    drops: Predicate,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("id", &self.id)
            .field("direction", &self.direction)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The state stays usable when a caller's predicate panics: every change to it is complete in itself.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wire {
    /// Connects the two devices.
    pub(crate) fn start(client: File, server: File) -> Result<Self, LabError> {
        let failed = |error| LabError::system("start the wire", error);
        let shared = Arc::new(Shared::default());
        let (woken, wake) = io::pipe().map_err(failed)?;
        let carrier = carrier::Carrier::new(client, server, woken, Arc::clone(&shared));
        let (tell, told) = mpsc::channel();
        let body = move || {
            // A wire whose maker is gone has nothing to carry.
            if tell.send(nix::unistd::gettid().as_raw()).is_ok() {
                carrier.run();
            }
        };
        let thread = thread::Builder::new().name("lab-wire".into()).spawn(body).map_err(failed)?;
        // A thread names itself, so its name is there for all to see once it has spoken.
        let thread_id = told.recv().map_err(|_| LabError::WireEnded("its thread did not start".into()))?;
        Ok(Self { shared, wake, thread_id, thread: Some(thread) })
    }

    /// The id of the wire's thread: the task that the kernel names where it handles a segment that has arrived.
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// From now on drops the segments in that direction for which `drops` says so, until the rule is removed.
    ///
    /// The predicate runs on the wire's thread while the wire is locked: it must not call back into the wire.
    pub fn drop_when(
        &self,
        direction: Direction,
        drops: impl FnMut(&Segment) -> bool + Send + 'static,
    ) -> RuleId {
        let mut state = self.shared.lock();
        state.rules_made += 1;
        let id = RuleId(state.rules_made);
        state.rules.push(Rule { id, direction, drops: Box::new(drops) });
        id
    }

    /// Drops the first `count` segments in that direction that match; later ones pass.
    pub fn drop_first(
        &self,
        count: usize,
        direction: Direction,
        mut matches: impl FnMut(&Segment) -> bool + Send + 'static,
    ) -> RuleId {
        let mut left = count;
        self.drop_when(direction, move |segment| {
            let drops = left > 0 && matches(segment);
            left -= usize::from(drops);
            drops
        })
    }

    /// Ends a rule; one that has been removed before is no error.
    pub fn remove(&self, rule: RuleId) {
        self.shared.lock().rules.retain(|other| other.id != rule);
    }

    /// From now on keeps all segments that no rule drops, both ways, until [`Self::step`] or [`Self::release`].
    pub fn hold(&self) {
        self.shared.lock().holding = true;
    }

    /// Passes on what is held at this moment, in the order it came, and goes on holding what comes next.
    pub fn step(&self) -> Result<(), LabError> {
        self.pass_held(true)
    }

    /// Passes on what is held, in the order it came, and everything that follows.
    pub fn release(&self) -> Result<(), LabError> {
        self.pass_held(false)
    }

    /// Carries a packet that no host has sent, as if it had come from the far end: rules and holding apply to it. It
    /// must be one whole TCP segment with right checksums, or it is refused.
    pub fn inject(&self, direction: Direction, packet: Vec<u8>) -> Result<(), LabError> {
        let Some(segment) = Segment::parse(&packet) else {
            return Err(LabError::NoSegment);
        };
        self.shared.lock().injected.push_back((direction, segment, packet));
        self.wake()?;
        self.wait("an injected segment to be carried", RELEASE_DEADLINE, |state| state.injected.is_empty())
    }

    /// Injects a SYN with that source, whoever has the address.
    pub fn inject_syn(
        &self,
        direction: Direction,
        source: SocketAddr,
        destination: SocketAddr,
        seq: u32,
    ) -> Result<(), LabError> {
        self.inject(direction, packet::syn(source, destination, seq).ok_or(LabError::NoSegment)?)
    }

    fn pass_held(&self, go_on_holding: bool) -> Result<(), LabError> {
        {
            let mut state = self.shared.lock();
            state.holding = go_on_holding;
            let held = state.traffic.held().len();
            state.releasing = held;
        }
        self.wake()?;
        self.wait("held segments to be passed on", RELEASE_DEADLINE, |state| state.releasing == 0)
    }

    /// Waits until the traffic so far satisfies `condition`; `what` completes "waited for ..." if it never does.
    pub fn wait_until(
        &self,
        what: &str,
        timeout: Duration,
        mut condition: impl FnMut(&Traffic) -> bool,
    ) -> Result<(), LabError> {
        self.wait(what, timeout, |state| condition(&state.traffic))
    }

    /// Looks at the traffic so far. The wire stands still meanwhile, so this must not call back into it.
    pub fn look<T>(&self, look: impl FnOnce(&Traffic) -> T) -> T {
        look(&self.shared.lock().traffic)
    }

    /// Waits for the next segment, but no longer than `timeout`.
    pub(crate) fn wait_for_traffic(&self, timeout: Duration) {
        let guard = self.shared.lock();
        // A wake-up too many does no harm: the caller looks again in any case.
        drop(self.shared.changed.wait_timeout(guard, timeout));
    }

    fn wait(
        &self,
        what: &str,
        timeout: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if done(&state) {
                return Ok(());
            }
            if let Some(reason) = &state.ended {
                return Err(LabError::WireEnded(reason.clone()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LabError::Timeout { what: what.into(), waited: timeout });
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wake(&self) -> Result<(), LabError> {
        (&self.wake).write_all(&[0]).map_err(|error| LabError::system("wake the wire", error))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        // Fails only when the thread, the other end of the pipe, is gone already.
        let _ = self.wake();
        if let Some(thread) = self.thread.take() {
            // An error is a panic of a caller's predicate; the thread has said so on stderr, and the wire is ending.
            let _ = thread.join();
        }
    }
}
