//! `tcptrace export`: a daemon that counts, for Prometheus and whoever reads its formats.

use super::{
    aggregate::{self, Aggregation},
    filter_args::ScopeArgs,
    observer::{Observer, Show},
    push::{Push, PushArgs},
    trace::AttachArgs,
};
use crate::{
    diagnose::{Diagnosis, Scene},
    export::{
        collect::{Collector, Counting, Label, Own},
        serve::{Server, Stage},
    },
    flow::Entry,
    run::{Looked, Next, Reading, Run, Signals, Sink, report::Resync},
    source::{filter::FilterSpec, live::boot_time_ns, surroundings::Surroundings},
    summary::LostCounts,
    tell,
};
use anyhow::{Context, bail};
use std::{io, net::SocketAddr};

/// Where it listens if nobody says otherwise: in the range of Prometheus' exporters, which are all taken by now.
const LISTEN: &str = "127.0.0.1:9947";
/// More groups than this make more time series than a Prometheus likes from one target.
const MOST_GROUPS: usize = 1000;

/// What `--resync` means for metrics.
const RESYNC: &str = "How often the kernel is asked for all its sockets: to correct what was missed, and to find what is stuck; \
                      `off`: never, and nothing is said of what is stuck";

/// Arguments of `export`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    mut_arg("state", |state| state.hide(true)),
    mut_arg("resync", |resync| resync.default_value("15s").help(RESYNC)),
    after_help = "Examples:\n  \
    tcptrace export                              then: curl -s localhost:9947/metrics\n  \
    tcptrace export --label port --label role    which service, and on which side\n  \
    tcptrace export --listen [::]:9947           for a Prometheus on another host\n  \
    tcptrace export --otlp http://127.0.0.1:4317 to a collector, too (docs/otlp.md)\n  \
    tcptrace export --aggregate kernel           where events are too many: transitions and times only\n\n\
    Pages: /metrics (docs/metrics.md), /healthz, /readyz. SIGTERM ends it."
)]
pub struct Args {
    /// Where to serve: ADDRESS:PORT
    #[arg(long, value_parser = listen, default_value = LISTEN, value_name = "ADDRESS:PORT", help_heading = "Export")]
    listen: SocketAddr,
    /// Group by this, too; may be given several times, or as a list
    #[arg(long, value_enum, value_name = "LABELS", value_delimiter = ',', help_heading = "Export")]
    label: Vec<Label>,
    /// Groups kept apart; what is in none of them is counted as `other`
    #[arg(long, value_parser = most_groups, default_value_t = 50, allow_hyphen_values = true, value_name = "N", requires = "label", help_heading = "Export")]
    label_top: usize,
    /// Who adds up; by `kernel` no event leaves it, and only what it adds up is exported: transitions, times in states, segments sent
    /// again, sockets; of groups only `--label port`. docs/metrics.md says what is missing
    #[arg(long, value_enum, default_value_t, value_name = "WHO", help_heading = "Export")]
    aggregate: Aggregation,
    #[command(flatten)]
    push: PushArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    attach: AttachArgs,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address and a port; valid are 127.0.0.1:9947, [::1]:9947, 0.0.0.0:9947")
    })
}

fn most_groups(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(groups) if (1..=MOST_GROUPS).contains(&groups) => Ok(groups),
        _ => Err(format!("{text:?} is not a number of groups; valid are 1 to {MOST_GROUPS}")),
    }
}

/// Serves until told to stop.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<()> {
    let filter = filter(&args)?;
    if args.aggregate == Aggregation::Kernel {
        aggregate::check(&args.attach, &args.label, args.label_top)?;
    }
    let options = args.attach.load_options(filter.clone());
    let mut push = Push::new(args.push)?;
    let sandbox = args.attach.sandbox.into();
    let server = Server::start(args.listen, sandbox).map_err(|error| cannot_listen(args.listen, &error))?;
    if !server.address.ip().is_loopback() {
        tell!(
            "warning: {} can be reached from other hosts: the metrics tell whoever asks which services there are; there \
             is no encryption and no password",
            server.address
        );
    }
    if args.aggregate == Aggregation::Kernel {
        let most = (!args.label.is_empty()).then_some(args.label_top);
        let every = args.attach.resync;
        return aggregate::run(aggregate::Wanted { options, most, every, server, push, sandbox });
    }
    super::block_on(async {
        let signals = Signals::listen()?;
        let ready = args.attach.start(&options, true)?;
        let live = &ready.live;
        let own = live.loaded().map(|loaded| Own::new(&loaded.ebpf, &loaded.outcomes)).unwrap_or_default();
        for hook in live.loaded().iter().flat_map(|loaded| &loaded.outcomes) {
            if hook.way.is_none() && !hook.hook.is_probe() {
                tell!("no {}: {} (see tcptrace doctor)", hook.hook.tells, hook.hook.without);
            }
        }
        let counting =
            Counting { labels: args.label, most_groups: args.label_top, dropped: push.dropped.clone() };
        let (collector, snapshots) = Collector::new(counting, own, boot_time_ns());
        server.enter(Stage::Publishing(snapshots.clone()));
        tell_where(&server);
        push.start(snapshots, sandbox)?;
        let run = Run::new(signals, ready, args.attach.wanted(filter.clone()));
        run.confine(sandbox);
        let observer = Observer::endless(&filter, run.started(), Found::default());
        let mut exporter = Exporter { observer, collector, trimmed: false };
        run.until_stopped(None, std::future::pending(), &mut exporter).await.context("export")?;
        push.finish();
        Ok(())
    })
}

/// Where the numbers are.
pub(super) fn tell_where(server: &Server) {
    tell!("serving http://{}/metrics; Ctrl-C or SIGTERM ends it", server.address);
}

fn filter(args: &Args) -> anyhow::Result<FilterSpec> {
    let filter = args.scope.spec(false)?;
    if !filter.states.is_empty() {
        bail!(
            "export counts every state: --state is not one of its options; choose by the label `state` instead"
        );
    }
    Ok(filter)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "--listen {address}: somebody listens there already; choose another port, e.g. --listen {}",
            SocketAddr::new(address.ip(), address.port().wrapping_add(1).max(1))
        ),
        io::ErrorKind::AddrNotAvailable => anyhow::anyhow!(
            "--listen {address}: this host has no such address; 127.0.0.1 and [::1] are for this host alone, 0.0.0.0 \
             and [::] for all"
        ),
        io::ErrorKind::PermissionDenied => {
            anyhow::anyhow!(
                "--listen {address}: ports below 1024 need root (CAP_NET_BIND_SERVICE); choose another, e.g. {LISTEN}"
            )
        }
        _ => anyhow::anyhow!("--listen {address}: {error}"),
    }
}

/// What the last look came to, until it is counted.
#[derive(Default)]
struct Found(Option<Diagnosis>);

impl Show for Found {
    fn show(&mut self, _scene: &Scene, diagnosis: Diagnosis, _notes: &[String]) -> io::Result<()> {
        self.0 = Some(diagnosis);
        Ok(())
    }
}

/// Looks as `stuck` does, and counts.
struct Exporter {
    observer: Observer<Found>,
    collector: Collector,
    trimmed: bool,
}

/// The kernel's types, which starting up reads whole, are needed no more: a daemon gives their memory back.
pub(super) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only looks for free pages of the allocator's own.
    unsafe {
        libc::malloc_trim(0);
    }
}

impl Sink for Exporter {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.observer.entry(entry)?;
        self.collector.entry(entry)
    }

    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.observer.lost(now_ns, lost)
    }

    fn counted(&mut self, reading: &Reading<'_>) -> io::Result<()> {
        self.collector.counted(reading)
    }

    fn looking(&mut self, surroundings: &mut dyn Surroundings) -> io::Result<()> {
        self.observer.looking(surroundings)
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        self.observer.looked_at(look);
        self.collector.looked_at(look);
    }

    fn resynced(
        &mut self,
        now_ns: u64,
        resync: &Resync,
        surroundings: &mut dyn Surroundings,
    ) -> io::Result<Next> {
        self.observer.resynced(now_ns, resync, surroundings)?;
        if !std::mem::replace(&mut self.trimmed, true) {
            give_back();
        }
        if let Some(diagnosis) = self.observer.show.0.take() {
            self.collector.diagnosed(&diagnosis);
        }
        self.collector.resynced(now_ns, resync, surroundings)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
