//! Pushing by OTLP, as `export` does it: its arguments, and the thread that comes of them. Without the feature `otlp` there is none.

use crate::{export::model::Snapshot, sandbox::Sandbox};
use std::sync::{Arc, atomic::AtomicU64};
use tokio::sync::watch;
#[cfg(feature = "otlp")]
use {
    crate::{
        export::otlp::{
            Pusher, Settings,
            settings::{Asked, Header, Protocol, Url, header, interval, url},
        },
        tell,
    },
    anyhow::Context,
    std::time::Duration,
};

/// Where to push, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct PushArgs {
    /// Push to an OpenTelemetry receiver, too: http://127.0.0.1:4317 (gRPC), http://127.0.0.1:4318 (HTTP)
    #[cfg(feature = "otlp")]
    #[arg(long, value_parser = url, value_name = "URL", help_heading = "OTLP")]
    otlp: Option<Url>,
    /// How; if nobody says it, by HTTP to port 4318 or to a URL with a path, else by gRPC
    #[cfg(feature = "otlp")]
    #[arg(long, value_enum, value_name = "PROTOCOL", help_heading = "OTLP")]
    otlp_protocol: Option<Protocol>,
    /// Time between two pushes: 10s unless somebody says otherwise
    #[cfg(feature = "otlp")]
    #[arg(long, value_parser = interval, allow_hyphen_values = true, value_name = "TIME", help_heading = "OTLP")]
    otlp_interval: Option<Duration>,
    /// Header of every push; may be given several times. Others can read it in `ps`: better in OTEL_EXPORTER_OTLP_HEADERS
    #[cfg(feature = "otlp")]
    #[arg(long, value_parser = header, value_name = "NAME=VALUE", help_heading = "OTLP")]
    otlp_header: Vec<Header>,
}

/// What is to be pushed to, if anything.
#[cfg_attr(not(feature = "otlp"), derive(Default))]
pub struct Push {
    #[cfg(feature = "otlp")]
    settings: Option<Settings>,
    #[cfg(feature = "otlp")]
    pusher: Option<Pusher>,
    /// Snapshots that were not pushed; `None`: nothing is.
    pub dropped: Option<Arc<AtomicU64>>,
}

#[cfg(feature = "otlp")]
impl Push {
    /// Reads the rest from the environment.
    ///
    /// # Errors
    /// What is wrong, where, what to write instead.
    pub fn new(args: PushArgs) -> anyhow::Result<Self> {
        let PushArgs { otlp, otlp_protocol, otlp_interval, otlp_header } = args;
        let asked =
            Asked { url: otlp, protocol: otlp_protocol, interval: otlp_interval, headers: otlp_header };
        let settings = Settings::new(asked, |name| std::env::var(name).ok()).map_err(anyhow::Error::msg)?;
        Ok(Self { dropped: settings.as_ref().map(|_| Arc::default()), settings, pusher: None })
    }

    /// Pushes what is published from now on.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(
        &mut self,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        sandbox: Sandbox,
    ) -> anyhow::Result<()> {
        let (Some(settings), Some(dropped)) = (self.settings.take(), &self.dropped) else { return Ok(()) };
        tell!("pushing to {} by {} every {:?}", settings.url, settings.protocol, settings.interval);
        self.pusher =
            Some(Pusher::start(settings, snapshots, Arc::clone(dropped), sandbox).context("--otlp")?);
        Ok(())
    }

    /// Pushes the last numbers, if that works within a few seconds.
    pub fn finish(self) {
        if let Some(pusher) = self.pusher {
            pusher.finish();
        }
    }
}

#[cfg(not(feature = "otlp"))]
impl Push {
    pub fn new(_args: PushArgs) -> anyhow::Result<Self> {
        Ok(Self::default())
    }

    pub fn start(
        &mut self,
        _snapshots: watch::Receiver<Arc<Snapshot>>,
        _sandbox: Sandbox,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    pub fn finish(self) {}
}
