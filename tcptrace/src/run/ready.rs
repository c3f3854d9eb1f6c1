//! A trace that has begun, and with it what could not be loaded later: whoever has given its capabilities up loads nothing.

use crate::{
    error::StartError,
    sandbox::Sandbox,
    source::{details::DetailSource, holders::HolderSource, live::Live, load::LoadOptions},
};
use std::thread;

/// What is going to be asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Questions {
    /// Who holds which socket.
    pub holders: bool,
    /// What sockets tell themselves.
    pub details: bool,
}

/// All that a run needs of the kernel.
pub struct Ready {
    /// The trace.
    pub live: Live,
    /// `None`: to be loaded when it is needed.
    pub holders: Option<HolderSource>,
    /// Likewise.
    pub details: Option<DetailSource>,
}

impl Ready {
    /// Loads and attaches. Needs a tokio runtime. Iterators are loaded at the same time, or without a sandbox when
    /// they are needed.
    ///
    /// # Errors
    /// As [`Live::start`].
    pub fn start(options: &LoadOptions, questions: Questions, sandbox: Sandbox) -> Result<Self, StartError> {
        if sandbox == Sandbox::Off {
            return Live::start(options).map(Self::from);
        }
        let (live, holders, details) = thread::scope(|scope| {
            let holders = questions.holders.then(|| scope.spawn(HolderSource::new));
            let details = questions.details.then(|| scope.spawn(DetailSource::new));
            let live = Live::start(options);
            // A thread that panicked has loaded nothing: it is tried again, and then told.
            let holders = holders.and_then(|thread| thread.join().ok());
            let details = details.and_then(|thread| thread.join().ok());
            (live, holders, details)
        });
        Ok(Self { live: live?, holders, details })
    }
}

impl From<Live> for Ready {
    fn from(live: Live) -> Self {
        Self { live, holders: None, details: None }
    }
}
