//! The thread that pushes. Numbers are cumulative, so of what waits only the newest is kept: a push that works brings everything.

use super::{answer::Answer, client::Client, encode, settings::Settings};
use crate::{
    export::model::Snapshot,
    sandbox::{Sandbox, Thread},
};
use bytes::Bytes;
use prost::Message;
use std::{
    hash::{BuildHasher, RandomState},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use tokio::{
    select,
    sync::{oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};

/// How long the last push may take.
const LAST: Duration = Duration::from_secs(3);
/// How long after that the thread may take to end.
const GRACE: Duration = Duration::from_millis(500);
/// The first pause after a failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Failures of changing kinds are told no more often than this.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// A running thread that pushes.
pub struct Pusher {
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Pusher {
    /// Starts it. The first push is that of the first snapshot whose time is not 0. `dropped` counts those that were not pushed: replaced
    /// by newer ones, or refused.
    ///
    /// # Errors
    /// There can be no further thread, or no runtime on it.
    pub fn start(
        settings: Settings,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        dropped: Arc<AtomicU64>,
        sandbox: Sandbox,
    ) -> io::Result<Self> {
        let itself = Thread::Pusher(settings.url.port);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let (ending, ended) = mpsc::channel();
        let push = Push::new(settings, snapshots, dropped);
        thread::Builder::new().name("otlp".to_owned()).spawn(move || {
            sandbox.enter(&itself);
            runtime.block_on(push.run(stopped));
            // A name server that does not answer must not keep the program.
            runtime.shutdown_background();
            // Nobody listens any more if it took too long.
            let _ = ending.send(());
        })?;
        Ok(Self { stop, ended })
    }

    /// Pushes the newest snapshot once more and ends the thread: within [`LAST`], or it is left behind.
    pub fn finish(self) {
        // The thread ends by itself only when it panics.
        let _ = self.stop.send(());
        if self.ended.recv_timeout(LAST + GRACE).is_err() {
            log::warn!("the OTLP thread does not end; going without it");
        }
    }
}

type Flight = Pin<Box<dyn Future<Output = (Client, Arc<Snapshot>, Answer)>>>;

struct Push {
    settings: Settings,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    dropped: Arc<AtomicU64>,
    /// `None`: under way.
    client: Option<Client>,
    /// The newest that was looked at.
    newest: Option<Arc<Snapshot>>,
    /// The newest that is not under way.
    waiting: Option<Arc<Snapshot>>,
    /// The newest that arrived.
    taken: Option<Arc<Snapshot>>,
    /// Not before this, says the receiver or prudence.
    not_before: Instant,
    /// The receiver says it.
    throttled: bool,
    failures: u32,
    told: Told,
}

/// What the user has been told.
#[derive(Default)]
struct Told {
    /// That it fails, why, and when that was.
    failing: Option<(String, Instant)>,
    /// What is rejected.
    partly: Option<String>,
}

impl Push {
    fn new(settings: Settings, snapshots: watch::Receiver<Arc<Snapshot>>, dropped: Arc<AtomicU64>) -> Self {
        Self {
            client: Some(Client::new(settings.clone())),
            settings,
            snapshots,
            dropped,
            newest: None,
            waiting: None,
            taken: None,
            not_before: Instant::now(),
            throttled: false,
            failures: 0,
            told: Told::default(),
        }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let there_is_one = select! {
            biased;
            _ = &mut stopped => false,
            first = self.snapshots.wait_for(|snapshot| snapshot.at_unix_ns > 0) => first.is_ok(),
        };
        if !there_is_one {
            return self.last(None).await;
        }
        let mut ticks = interval(self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut flight: Option<Flight> = None;
        loop {
            if Instant::now() >= self.not_before && flight.is_none() {
                flight = self.depart();
            }
            let due = self.not_before;
            select! {
                biased;
                _ = &mut stopped => break,
                (client, snapshot, answer) = landing(&mut flight) => {
                    flight = None;
                    self.client = Some(client);
                    self.landed(snapshot, &answer);
                }
                _ = ticks.tick() => self.renew(),
                () = sleep_until(due), if flight.is_none() && self.waiting.is_some() => {}
            }
        }
        self.last(flight).await;
    }

    /// Takes the newest snapshot, in place of one that still waits.
    fn renew(&mut self) {
        let newest = self.snapshots.borrow_and_update().clone();
        if self.newest.as_ref().is_some_and(|old| Arc::ptr_eq(old, &newest)) {
            return;
        }
        self.newest = Some(newest.clone());
        if let Some(old) = self.waiting.replace(newest) {
            log::debug!("the snapshot of {} was not pushed in time", old.at_unix_ns);
            self.drop_one();
        }
    }

    fn depart(&mut self) -> Option<Flight> {
        let snapshot = self.waiting.take()?;
        let Some(mut client) = self.client.take() else {
            self.waiting = Some(snapshot);
            return None;
        };
        let message = self.encoded(&snapshot);
        Some(Box::pin(async move {
            let answer = client.push(message).await;
            (client, snapshot, answer)
        }))
    }

    fn encoded(&self, snapshot: &Snapshot) -> Bytes {
        encode::request(snapshot, &self.settings.resource, self.settings.buckets).encode_to_vec().into()
    }

    fn landed(&mut self, snapshot: Arc<Snapshot>, answer: &Answer) {
        self.throttled = false;
        match answer {
            Answer::Taken | Answer::Partly { .. } => {
                self.failures = 0;
                self.taken = Some(snapshot);
            }
            Answer::Refused { .. } => {
                self.failures = 0;
                self.drop_one();
            }
            Answer::Again { wait, .. } => {
                self.throttled = wait.is_some();
                self.not_before = Instant::now() + wait.unwrap_or_else(|| pause(self.failures));
                self.failures = self.failures.saturating_add(1);
                if self.waiting.is_some() {
                    self.drop_one();
                } else {
                    self.waiting = Some(snapshot);
                }
            }
        }
        self.tell(answer);
    }

    /// What is newest at the end, once, even if pushing did not work lately; unless the receiver wants to be left alone.
    async fn last(mut self, mut flight: Option<Flight>) {
        let deadline = Instant::now() + LAST;
        if flight.is_some() {
            match timeout_at(deadline, landing(&mut flight)).await {
                Ok((client, snapshot, answer)) => {
                    self.client = Some(client);
                    self.landed(snapshot, &answer);
                }
                Err(_) => return self.lost(&format!("no answer within {LAST:?}")),
            }
        }
        let newest = self.snapshots.borrow_and_update().clone();
        let taken = self.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &newest));
        if taken || newest.at_unix_ns == 0 {
            return;
        }
        if self.throttled && self.not_before >= deadline {
            return self.lost("it wants to be left alone");
        }
        if self.throttled {
            sleep_until(self.not_before).await;
        }
        let message = self.encoded(&newest);
        let Some(mut client) = self.client.take() else { return };
        match timeout_at(deadline, client.push(message)).await {
            Ok(answer @ (Answer::Taken | Answer::Partly { .. })) => self.tell(&answer),
            Ok(Answer::Again { why, .. } | Answer::Refused { why }) => self.lost(&why),
            Err(_) => self.lost(&format!("no answer within {LAST:?}")),
        }
    }

    fn lost(&self, why: &str) {
        self.drop_one();
        log::warn!("{}: the last numbers were not pushed: {why}", self.receiver());
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn receiver(&self) -> String {
        format!("OTLP receiver {} ({})", self.settings.url, self.settings.protocol)
    }

    /// Says what is new: that it fails and why, that it works again, what is rejected.
    fn tell(&mut self, answer: &Answer) {
        let receiver = self.receiver();
        match answer {
            Answer::Again { why, .. } | Answer::Refused { why } => {
                let known = |(old, when): &(String, Instant)| old == why || when.elapsed() < TELL_EVERY;
                if self.told.failing.as_ref().is_some_and(known) {
                    log::debug!("{receiver}: {why}");
                    return;
                }
                let then = match answer {
                    Answer::Refused { .. } => "what it refuses is dropped and counted",
                    _ => "trying again; tracing goes on",
                };
                log::warn!("{receiver}: {why}; {then}");
                self.told.failing = Some((why.clone(), Instant::now()));
            }
            Answer::Taken | Answer::Partly { .. } => {
                if self.told.failing.take().is_some() {
                    log::warn!(
                        "{receiver}: works again; {} dropped so far",
                        self.dropped.load(Ordering::Relaxed)
                    );
                }
            }
        }
        match answer {
            Answer::Partly { rejected, why } if self.told.partly.as_ref() != Some(why) => {
                log::warn!("{receiver}: took all but {rejected} data points: {why}");
                self.told.partly = Some(why.clone());
            }
            Answer::Taken => self.told.partly = None,
            _ => {}
        }
    }
}

/// The end of what is under way; of nothing there is none.
async fn landing(flight: &mut Option<Flight>) -> (Client, Arc<Snapshot>, Answer) {
    match flight {
        Some(flight) => flight.await,
        None => std::future::pending().await,
    }
}

/// How long to leave a receiver alone after so many failures in a row: half of it by chance, so that a fleet does not come back at once.
fn pause(failures: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(LONGEST_PAUSE);
    let chance = RandomState::new().hash_one(failures) >> 32;
    full / 2 + (full / 2).mul_f64(chance as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        for (failures, full) in [(0, 1), (1, 2), (3, 8), (6, 60), (u32::MAX, 60)] {
            for _ in 0..100 {
                let (pause, full) = (pause(failures), Duration::from_secs(full));
                assert!(pause >= full / 2 && pause <= full, "{failures}: {pause:?}");
            }
        }
        let some: std::collections::BTreeSet<_> = (0..20).map(|_| pause(6)).collect();
        assert!(some.len() > 1, "{some:?}");
    }
}
