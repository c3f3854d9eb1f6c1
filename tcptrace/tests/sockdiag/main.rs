//! The kernel's list of sockets, beside what `ss` makes of it.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod namespaces;
mod population;
mod sockets;
mod ss;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tcptrace::{
    sight::Sight,
    source::{
        live::boot_time_ns,
        netns::Namespace,
        sockdiag::{Detail, Query, SockDiag, States},
    },
};
use tcptrace_lab::{Lab, Side};

const PATIENCE: Duration = Duration::from_secs(20);

/// One at a time: a child that another test starts holds all our descriptors until its exec, and nothing is closed.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it is so.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

fn namespace(lab: &Lab, side: Side) -> Namespace {
    lab.run_in(side, Namespace::own).expect("the host runs it").expect("its namespace")
}

fn diag(lab: &Lab, side: Side) -> SockDiag {
    let diag = SockDiag::open(&namespace(lab, side)).expect("sock_diag");
    assert_eq!(diag.netns(), lab.netns(side));
    diag
}

/// Everything, and that nothing went wrong.
fn list(diag: &mut SockDiag, query: Query) -> Vec<Sight> {
    let mut dump = diag.dump(query).expect("a dump");
    let mut sights = Vec::new();
    while let Some(taken) = dump.next_batch(&mut sights).expect("a batch") {
        assert!(taken.from_ns <= taken.to_ns && taken.to_ns <= boot_time_ns());
    }
    let counts = dump.counts();
    assert_eq!((counts.sockets, counts.restarts, counts.unreadable), (sights.len() as u64, 0, 0));
    sights
}

fn all(detail: Detail) -> Query {
    Query::of(States::ALL, detail)
}
