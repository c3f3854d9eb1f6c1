//! What `stuck`, `explain` and `lab` share: looks at all sockets, with what events told in between, and what they come to.

use super::trace::quietly;
use crate::{
    diagnose::{Around, Counted, Diagnosis, History, Look, Machine, Memory, Scene, Traced, diagnose},
    error::StartError,
    flow::{DEFAULT_MAX_FLOWS, Entry},
    run::{Looked, Next, Run, Signals, Sink, Wanted, look::Looks, report::Resync},
    source::{
        btf::KERNEL_BTF,
        filter::FilterSpec,
        live::{Live, boot_time_ns},
        load::{HookChoice, LoadOptions, RetransmitChoice},
        surroundings::Surroundings,
    },
    summary::LostCounts,
};
use anyhow::Context;
use std::{io, path::PathBuf, time::Duration};

/// Who shows what a look came to.
pub trait Show {
    /// One look; the last of them, where only one is wanted.
    ///
    /// # Errors
    /// It cannot be written.
    fn show(&mut self, scene: &Scene, diagnosis: Diagnosis, notes: &[String]) -> io::Result<()>;

    /// Something happened.
    fn entry(&mut self, _entry: &Entry) {}

    /// Sockets that are in order matter too.
    fn everything(&self) -> bool {
        false
    }
}

/// How to look.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is looked at, and traced.
    pub filter: FilterSpec,
    /// What counts as stuck, instead of the limits of each state.
    pub older_than: Option<Duration>,
    /// Time between two looks.
    pub every: Duration,
    /// How many; `None`: until interrupted. Only the last is shown, unless there is no last.
    pub looks: Option<u64>,
    /// Not to be traced.
    pub no_trace: bool,
}

/// Looks as planned, and gives back who showed it.
///
/// # Errors
/// Standard output's.
pub async fn observe<S: Show>(plan: Plan, show: S) -> anyhow::Result<S> {
    let Plan { filter, older_than, every, looks, no_trace } = plan;
    let mut observer = Observer::new(&filter, older_than, looks.unwrap_or(u64::MAX), show);
    let mut signals = Signals::listen()?;
    match if no_trace { Err("--no-trace".to_owned()) } else { start(&filter) } {
        Ok(live) => {
            observer.traced();
            let wanted = Wanted {
                filter,
                max_flows: DEFAULT_MAX_FLOWS,
                resync: Some(every),
                eager: looks.is_some(),
                look_at_end: false,
            };
            let run = Run::new(signals, live, wanted);
            let ended = run.until_stopped(None, std::future::pending(), &mut observer).await;
            ended.context("cannot write to standard output")?;
        }
        Err(why) => {
            observer.not_traced(&why);
            let mut looks = Looks::new(filter);
            loop {
                match looks.look(&mut observer) {
                    Ok(Next::Continue) => {}
                    Ok(Next::Enough) => break,
                    Err(error) => {
                        quietly(Err(error))?;
                        break;
                    }
                }
                tokio::select! {
                    () = signals.any() => break,
                    () = tokio::time::sleep(every) => {}
                }
            }
        }
    }
    Ok(observer.show)
}

/// Starts to trace; or the first line of why not.
fn start(filter: &FilterSpec) -> Result<Live, String> {
    let options = LoadOptions {
        hooks: HookChoice::default(),
        retransmit: RetransmitChoice::default(),
        ring_bytes: RING_BYTES,
        btf: Some(PathBuf::from(KERNEL_BTF)),
        filter: filter.clone(),
    };
    Live::start(&options).map_err(|error| match error {
        StartError::Capability { missing, .. } => format!("tracing needs {}", missing.join(" and ")),
        error => error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

/// The default of `watch --ring-size`.
const RING_BYTES: u32 = 8 << 20;

/// Takes looks, and remembers.
pub struct Observer<S> {
    older_than_ns: Option<u64>,
    /// Looks that are still to come; only the last is shown, unless there is no last.
    left: u64,
    all_namespaces: bool,
    look: Look,
    memory: Memory,
    history: History,
    lost: u64,
    traced_since_ns: Option<u64>,
    notes: Vec<String>,
    /// Who shows it.
    pub show: S,
}

impl<S: Show> Observer<S> {
    /// `looks`: how many there will be.
    fn new(filter: &FilterSpec, older_than: Option<Duration>, looks: u64, show: S) -> Self {
        Self {
            older_than_ns: older_than.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            left: looks,
            all_namespaces: filter.netns.is_empty(),
            look: Look::default(),
            memory: Memory::default(),
            history: History::default(),
            lost: 0,
            traced_since_ns: None,
            notes: Vec::new(),
            show,
        }
    }

    /// Beside a trace that goes on, whose looks are shown one by one.
    pub fn endless(filter: &FilterSpec, show: S) -> Self {
        let mut observer = Self::new(filter, None, u64::MAX, show);
        observer.traced();
        observer
    }

    /// Events are traced from now on.
    fn traced(&mut self) {
        self.traced_since_ns = Some(boot_time_ns());
    }

    /// They are not, for this reason.
    fn not_traced(&mut self, why: &str) {
        self.notes.push(format!(
            "not traced ({why}): bursts of refusals and resets, failed sends, and who closed an orphan are not seen"
        ));
    }

    /// Asks only where there is something to ask for.
    fn add_details(&mut self, look: &mut Look, surroundings: &mut dyn Surroundings) {
        for netns in look.doubtful(self.older_than_ns) {
            if let Some(details) = surroundings.details(netns) {
                look.add_details(netns, &details);
                look.ask_routes(netns, |peers| surroundings.routes(netns, peers));
            }
        }
    }

    fn around(&mut self, now_ns: u64, surroundings: &mut dyn Surroundings) -> Around {
        let (sockstat, settings) = surroundings.whole();
        let counters = surroundings.counters().into_iter();
        Around {
            machine: Machine { sockstat, settings },
            counters: counters.map(|(netns, (now, before))| (netns, Counted { now, before })).collect(),
            traced: self.traced_since_ns.map(|since_ns| Traced {
                watched_ns: now_ns.saturating_sub(since_ns),
                bursts: self.history.bursts(now_ns),
                failed: self.history.all_failed(),
                lost: self.lost,
            }),
        }
    }
}

impl<S: Show> Sink for Observer<S> {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.history.take(entry);
        self.show.entry(entry);
        Ok(Next::Continue)
    }

    fn lost(&mut self, _now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.lost = self.lost.saturating_add(lost.total());
        Ok(())
    }

    fn looking(&mut self, surroundings: &mut dyn Surroundings) -> io::Result<()> {
        self.look =
            Look::new(surroundings.settings(), self.show.everything()).ticking(surroundings.tick_ns());
        Ok(())
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        self.look.add(look.sight, look.taken, look.holder, || look.ledger.told(look.sight, look.taken));
    }

    fn resynced(
        &mut self,
        now_ns: u64,
        resync: &Resync,
        surroundings: &mut dyn Surroundings,
    ) -> io::Result<Next> {
        let mut look = std::mem::take(&mut self.look);
        self.add_details(&mut look, surroundings);
        let around = self.around(now_ns, surroundings);
        let scene = look.finish(now_ns, around, self.older_than_ns, &mut self.memory);
        let endless = self.left == u64::MAX;
        self.left = if endless { self.left } else { self.left.saturating_sub(1) };
        if endless || self.left == 0 {
            let mut notes = self.notes.clone();
            if resync.unread > 0 && self.all_namespaces {
                let needs = if nix::unistd::geteuid().is_root() { "" } else { "needs root: " };
                let of = if resync.unread == 1 { "one process" } else { "several processes" };
                notes.push(format!(
                    "{needs}the network namespaces of {of} could not be looked into ({}); there may be more sockets",
                    resync.unread
                ));
            }
            self.show.show(&scene, diagnose(&scene), &notes)?;
        }
        Ok(if self.left == 0 { Next::Enough } else { Next::Continue })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
