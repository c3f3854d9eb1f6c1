//! What `stuck`, `explain` and `lab` share: looks at all sockets, with what events told in between, and what they come to.

use super::{feed::recording, trace::quietly};
use crate::{
    diagnose::{Around, Counted, Diagnosis, History, Look, Machine, Memory, Scene, Traced, diagnose},
    error::StartError,
    flow::{DEFAULT_MAX_FLOWS, Entry},
    record::playback::Playback,
    run::{
        Looked, Next, Origin, Questions, Ready, Run, Signals, Sink, Started, Wanted, look::Looks,
        report::Resync,
    },
    sandbox::Sandbox,
    source::{
        btf::KERNEL_BTF,
        filter::FilterSpec,
        load::{HookChoice, LoadOptions, RetransmitChoice},
        surroundings::Surroundings,
    },
    summary::LostCounts,
};
use anyhow::{Context, bail};
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
    /// Whether to give up what is needed no more once it is traced.
    pub sandbox: Sandbox,
    /// A recording, instead of this machine now: its last look, or (`looks` is `None`) each.
    pub from: Option<PathBuf>,
}

/// Looks as planned, and gives back who showed it. `make` is told where and when it takes place.
///
/// # Errors
/// Standard output's; a recording that cannot be read.
pub async fn observe<S: Show>(plan: Plan, make: impl FnOnce(&Origin, &Started) -> S) -> anyhow::Result<S> {
    let Plan { filter, older_than, every, looks, no_trace, sandbox, from } = plan;
    if let Some(path) = from {
        let playback = recording(&path, filter.clone())?;
        let shown = if looks.is_some() { Shown::AtTheEnd(None) } else { Shown::Each };
        let show = make(playback.origin(), playback.started());
        return replay(playback, Observer::new(&filter, older_than, shown, show));
    }
    let shown = looks.map_or(Shown::Each, Shown::After);
    let mut signals = Signals::listen()?;
    match if no_trace { Err("--no-trace".to_owned()) } else { start(&filter, sandbox) } {
        Ok(ready) => {
            let eager = looks.is_some();
            let wanted = Wanted {
                filter: filter.clone(),
                max_flows: DEFAULT_MAX_FLOWS,
                resync: Some(every),
                eager,
                look_at_end: false,
            };
            let run = Run::new(signals, ready, wanted);
            run.confine(sandbox);
            let show = make(&Origin::live(run.started()), run.started());
            let mut observer = Observer::new(&filter, older_than, shown, show);
            observer.traced(run.started());
            let ended = run.until_stopped(None, std::future::pending(), &mut observer).await;
            ended.context("cannot write to standard output")?;
            Ok(observer.show)
        }
        Err(why) => {
            let mut looks = Looks::new(filter.clone());
            let show = make(&Origin::live(looks.started()), looks.started());
            let mut observer = Observer::new(&filter, older_than, shown, show);
            observer.not_traced(&why);
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
            Ok(observer.show)
        }
    }
}

fn replay<S: Show>(playback: Playback, mut observer: Observer<S>) -> anyhow::Result<S> {
    if playback.started().is_traced() {
        observer.traced(playback.started());
    } else {
        observer.not_traced("the recording was made without");
    }
    let played = playback.play(None, &mut observer).context("cannot write to standard output")?;
    observer.notes.extend(played.flaws);
    match observer.shown {
        Shown::AtTheEnd(Some(scene)) => {
            let diagnosis = diagnose(&scene);
            let notes: Vec<_> = observer.notes.iter().chain(&observer.unread).cloned().collect();
            quietly(observer.show.show(&scene, diagnosis, &notes))?;
        }
        Shown::AtTheEnd(None) => {
            bail!("the recording has no list of sockets: it ended too early, or was made with --resync off")
        }
        Shown::After(_) | Shown::Each => {}
    }
    Ok(observer.show)
}

/// Starts to trace; or the first line of why not.
fn start(filter: &FilterSpec, sandbox: Sandbox) -> Result<Ready, String> {
    let options = LoadOptions {
        hooks: HookChoice::default(),
        retransmit: RetransmitChoice::default(),
        ring_bytes: RING_BYTES,
        btf: Some(PathBuf::from(KERNEL_BTF)),
        filter: filter.clone(),
    };
    let questions = Questions { holders: true, details: true };
    Ready::start(&options, questions, sandbox).map_err(|error| match error {
        StartError::Capability { missing, .. } => format!("tracing needs {}", missing.join(" and ")),
        error => error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

/// The default of `watch --ring-size`.
const RING_BYTES: u32 = 8 << 20;

/// Which looks are shown.
enum Shown {
    /// The one after which so many less one have been taken; then it is enough.
    After(u64),
    /// Each.
    Each,
    /// The last, which is known only when there are no more.
    AtTheEnd(Option<Box<Scene>>),
}

/// Takes looks, and remembers.
pub struct Observer<S> {
    older_than_ns: Option<u64>,
    shown: Shown,
    all_namespaces: bool,
    look: Look,
    memory: Memory,
    history: History,
    lost: u64,
    traced_since_ns: Option<u64>,
    notes: Vec<String>,
    /// What the last look could not see.
    unread: Option<String>,
    /// Who shows it.
    pub show: S,
}

impl<S: Show> Observer<S> {
    fn new(filter: &FilterSpec, older_than: Option<Duration>, shown: Shown, show: S) -> Self {
        Self {
            older_than_ns: older_than.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            shown,
            all_namespaces: filter.netns.is_empty(),
            look: Look::default(),
            memory: Memory::default(),
            history: History::default(),
            lost: 0,
            traced_since_ns: None,
            notes: Vec::new(),
            unread: None,
            show,
        }
    }

    /// Beside a trace that goes on, whose looks are shown one by one.
    pub fn endless(filter: &FilterSpec, started: &Started, show: S) -> Self {
        let mut observer = Self::new(filter, None, Shown::Each, show);
        observer.traced(started);
        observer
    }

    /// Events are traced since it began.
    fn traced(&mut self, started: &Started) {
        self.traced_since_ns = Some(started.began_ns);
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

    fn note_unread(&mut self, resync: &Resync) {
        self.unread = (resync.unread > 0 && self.all_namespaces).then(|| {
            let replayed = matches!(self.shown, Shown::AtTheEnd(_));
            let needs = if replayed || nix::unistd::geteuid().is_root() { "" } else { "needs root: " };
            let of = if resync.unread == 1 { "one process" } else { "several processes" };
            format!(
                "{needs}the network namespaces of {of} could not be looked into ({}); there may be more sockets",
                resync.unread
            )
        });
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
        self.note_unread(resync);
        match &mut self.shown {
            Shown::After(left) if *left > 1 => {
                *left -= 1;
                return Ok(Next::Continue);
            }
            Shown::AtTheEnd(last) => {
                *last = Some(Box::new(scene));
                return Ok(Next::Continue);
            }
            Shown::After(_) | Shown::Each => {}
        }
        let notes: Vec<_> = self.notes.iter().chain(&self.unread).cloned().collect();
        self.show.show(&scene, diagnose(&scene), &notes)?;
        Ok(if matches!(self.shown, Shown::After(_)) { Next::Enough } else { Next::Continue })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
