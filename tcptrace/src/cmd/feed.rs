//! Where a view gets what it shows: from this machine, as it happens, or from a recording; and whether it is recorded.

use super::trace::AttachArgs;
use crate::{
    record::{
        file::{CreateError, Limits, Options},
        playback::Playback,
        recorder::Recorder,
        tape::FileTape,
    },
    run::{Origin, Run, Signals, Sink, Started},
    sandbox::{self, Sandbox},
    source::filter::FilterSpec,
    summary::Summary,
    tell,
};
use anyhow::Context;
use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where from, and where to.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FeedArgs {
    /// Show a recording (`tcptrace record`) instead of what happens now: without root, on any machine; `-`: standard input
    #[arg(long, value_name = "FILE", help_heading = "Recording", conflicts_with = "record")]
    pub from: Option<PathBuf>,
    /// Record to this file, too; at most 1 GiB in 8 files, the oldest go first
    #[arg(long, value_name = "FILE", help_heading = "Recording")]
    pub record: Option<PathBuf>,
    /// Replace a recording of this name
    #[arg(long, help_heading = "Recording", requires = "record")]
    pub force: bool,
}

/// Opens a recording, and has no capability any more: a program that may look everywhere, for everybody who starts it, shows
/// nobody a file that is not his.
///
/// # Errors
/// It cannot be read.
pub fn recording(path: &Path, filter: FilterSpec) -> anyhow::Result<Playback> {
    sandbox::only_reads().map_err(anyhow::Error::msg)?;
    Ok(Playback::open(path, filter)?)
}

/// A source that is ready.
pub enum Feed {
    /// This machine.
    Live(Box<Run>),
    /// The same, recorded. `bool`: the recording is what it is for.
    Recorded(Box<(Run, FileTape)>, bool),
    /// A recording.
    File(Box<Playback>),
}

impl Feed {
    /// Opens the recording, or attaches.
    ///
    /// # Errors
    /// What is wrong, why, and what to type.
    pub fn open(args: &FeedArgs, attach: &AttachArgs, filter: FilterSpec) -> anyhow::Result<Self> {
        if let Some(path) = &args.from {
            return Ok(Self::File(Box::new(recording(path, filter)?)));
        }
        // A file that cannot be written is told before anything is attached.
        let sandbox = attach.sandbox.into();
        let tape = args.record.as_deref().map(|path| beside(path, args.force, sandbox)).transpose()?;
        Self::attached(tape, attach, filter, false)
    }

    /// Attaches, to record.
    ///
    /// # Errors
    /// What is wrong, why, and what to type.
    pub fn recorded(tape: FileTape, attach: &AttachArgs, filter: FilterSpec) -> anyhow::Result<Self> {
        Self::attached(Some(tape), attach, filter, true)
    }

    fn attached(
        tape: Option<FileTape>,
        attach: &AttachArgs,
        filter: FilterSpec,
        essential: bool,
    ) -> anyhow::Result<Self> {
        let options = attach.load_options(filter);
        let signals = Signals::listen()?;
        // What sockets tell themselves is recorded, and shown by nobody here.
        let ready = match attach.start(&options, tape.is_some()) {
            Ok(ready) => ready,
            Err(error) => {
                tape.into_iter().for_each(FileTape::discard);
                return Err(error.into());
            }
        };
        let mut wanted = attach.wanted(options.filter);
        wanted.look_at_end = tape.is_some();
        let run = Run::new(signals, ready, wanted);
        run.confine(attach.sandbox.into());
        Ok(match tape {
            Some(tape) => Self::Recorded(Box::new((run, tape)), essential),
            None => Self::Live(Box::new(run)),
        })
    }

    /// How it began.
    pub fn started(&self) -> &Started {
        match self {
            Self::Live(run) => run.started(),
            Self::Recorded(both, _) => both.0.started(),
            Self::File(playback) => playback.started(),
        }
    }

    /// Where and when it takes place, or took place.
    pub fn origin(&self) -> Origin {
        match self {
            Self::File(playback) => playback.origin().clone(),
            live => Origin::live(live.started()),
        }
    }

    /// To the sink, until a signal, the end of `duration` or of the recording, or a sink that has enough. `origin`: the
    /// one that the sink has.
    ///
    /// # Errors
    /// The sink's; a recording that cannot be written to its end.
    pub async fn run(
        self,
        duration: Option<Duration>,
        origin: &Origin,
        sink: &mut impl Sink,
    ) -> anyhow::Result<Summary> {
        const UNWRITABLE: &str = "cannot write to standard output";
        match self {
            Self::Live(run) => {
                run.until_stopped(duration, std::future::pending(), sink).await.context(UNWRITABLE)
            }
            Self::Recorded(both, essential) => {
                let (run, tape) = *both;
                let mut recorder = Recorder::new(tape, &run.started().clone(), origin, essential, sink);
                let summary = run.until_stopped(duration, std::future::pending(), &mut recorder).await;
                let summary = summary.context(UNWRITABLE)?;
                recorder.into_tape().finish("the trace ended")?;
                Ok(summary)
            }
            Self::File(playback) => {
                let played = playback.play(duration, sink).context(UNWRITABLE)?;
                played.flaws.iter().for_each(|flaw| tell!("{flaw}"));
                Ok(played.summary)
            }
        }
    }
}

/// What a recording may take, all its files together, unless somebody says otherwise: in bytes.
pub const MOST_BYTES: u64 = 1 << 30;

/// A recording that is made beside what is shown.
///
/// # Errors
/// It cannot be written there.
pub fn beside(path: &Path, force: bool, sandbox: Sandbox) -> Result<FileTape, CreateError> {
    let limits = Limits { max_bytes: Some(MOST_BYTES), ..Limits::default() };
    FileTape::create(path, Options { limits, force, owner: owner(), sandbox, ..Options::default() })
}

/// Who typed `sudo`: the recording is theirs.
pub fn owner() -> Option<(u32, u32)> {
    let of = |name| env::var(name).ok()?.parse().ok();
    nix::unistd::geteuid().is_root().then(|| of("SUDO_UID").zip(of("SUDO_GID"))).flatten()
}
