//! `export --aggregate kernel`: the kernel adds up, and once a second somebody looks.

use super::{
    export::{give_back, tell_where},
    push::Push,
    trace::AttachArgs,
};
use crate::{
    cli::Resync,
    export::{
        collect::{KernelCollector, Label, Own, Sums},
        serve::{Server, Stage},
    },
    run::{Heard, Signals, census::Census},
    sandbox::{Sandbox, Thread},
    sight::Sight,
    source::{
        aggregate::{Aggregate, Beginnings, MOST_PORTS},
        filter::FilterSpec,
        live::boot_time_ns,
        load::{HookChoice, LoadOptions, RetransmitChoice},
    },
    tell,
};
use anyhow::{Context, bail};
use hashbrown::HashMap;
use std::{cmp::Reverse, ops::RangeInclusive, time::Duration};
use tcptrace_common::state::{STATES, TcpState};
use tokio::time::{Instant, sleep_until};

/// How often the kernel's sums are read.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Who adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Aggregation {
    /// tcptrace, of the events that the kernel sends
    #[default]
    Events,
    /// The kernel, without sending events
    Kernel,
}

/// Refuses what the kernel's sums cannot give.
///
/// # Errors
/// What cannot go together, why, and what to type.
pub fn check(attach: &AttachArgs, labels: &[Label], most: usize) -> anyhow::Result<()> {
    let way = match attach.hooks {
        HookChoice::Auto | HookChoice::Btf => None,
        HookChoice::Raw => Some("raw"),
        HookChoice::Classic => Some("classic"),
    };
    if let Some(way) = way {
        bail!(
            "--aggregate kernel needs the hooks of --hooks btf: leave out --hooks {way}, or let events be sent by --aggregate events"
        );
    }
    if attach.btf.as_os_str() == "none" {
        bail!(
            "--aggregate kernel needs the kernel's type information: leave out --btf none, or let events be sent by --aggregate events"
        );
    }
    if attach.retransmit_hook == RetransmitChoice::Kprobe {
        bail!(
            "--aggregate kernel counts segments sent again at the tracepoint: leave out --retransmit-hook kprobe, or let events be sent by \
             --aggregate events"
        );
    }
    if let Some(label) = labels.iter().find(|label| **label != Label::Port) {
        bail!(
            "--aggregate kernel can group by --label port only, not by {}: leave it out, or let events be sent by --aggregate events",
            label.name()
        );
    }
    if !labels.is_empty() && most > MOST_PORTS {
        bail!("--label-top {most}: with --aggregate kernel at most {MOST_PORTS} ports are kept apart");
    }
    Ok(())
}

/// What is to be done.
pub struct Wanted {
    /// What to load.
    pub options: LoadOptions,
    /// So many ports are kept apart; `None`: none.
    pub most: Option<usize>,
    /// How often all sockets are counted.
    pub every: Resync,
    /// Who serves.
    pub server: Server,
    /// Who pushes.
    pub push: Push,
    /// How little it may do once it is attached.
    pub sandbox: Sandbox,
}

/// Serves until told to stop.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(wanted: Wanted) -> anyhow::Result<()> {
    super::block_on(async {
        let Wanted { options, most, every, server, mut push, sandbox } = wanted;
        let mut signals = Signals::listen()?;
        let filter = options.filter.clone();
        let named = named(&filter);
        // Also without a port of its own the kernel has the one class of all others.
        let aggregate = Aggregate::start(&options, most)?;
        for outcome in aggregate.outcomes.iter().filter(|outcome| outcome.way.is_none()) {
            tell!("no {}: not counted (see tcptrace doctor)", outcome.hook.tells);
        }
        match &aggregate.beginnings {
            Beginnings::Socket => tell!("the kernel adds up; since when a socket is in its state is kept in the socket"),
            Beginnings::Table(why) => tell!(
                "the kernel adds up; since when a socket is in its state is kept in a bounded table, because sockets cannot keep it here: {why}"
            ),
        }
        let own = Own::new(aggregate.ebpf(), &aggregate.outcomes);
        let began_ns = boot_time_ns();
        let (collector, snapshots) = KernelCollector::new(
            most.is_some(),
            aggregate.beginnings.name(),
            aggregate.tells(),
            own,
            push.dropped.clone(),
            began_ns,
        );
        let census = Census::new(filter.clone(), every);
        let mut exporter = Exporter { aggregate, collector, census, since: Vec::new(), sockets: None };
        named.iter().cloned().flatten().take(MOST_PORTS).for_each(|port| exporter.keep_apart(port, began_ns));
        server.enter(Stage::Publishing(snapshots.clone()));
        tell_where(&server);
        push.start(snapshots, sandbox)?;
        sandbox.enter(&Thread::tracer(&filter.netns, false));
        exporter.until_stopped(&mut signals, named.is_empty()).await;
        push.finish();
        anyhow::Ok(())
    })
    .context("export")
}

/// The ports of the filter's conditions.
fn named(filter: &FilterSpec) -> Vec<RangeInclusive<u16>> {
    [&filter.port, &filter.lport, &filter.rport].into_iter().flatten().cloned().collect()
}

struct Exporter {
    aggregate: Aggregate,
    collector: KernelCollector,
    census: Census,
    /// Ports that are kept apart, each with the time since when.
    since: Vec<(u16, u64)>,
    /// By class and state, of the last census.
    sockets: Option<Vec<[u64; STATES]>>,
}

impl Exporter {
    /// `by_listeners`: ports that somebody listens on are kept apart.
    async fn until_stopped(&mut self, signals: &mut Signals, by_listeners: bool) {
        let mut look = Instant::now();
        let mut trimmed = false;
        loop {
            let now_ns = boot_time_ns();
            if now_ns >= self.census.due_ns() {
                self.count_sockets(by_listeners);
            }
            self.publish();
            if !std::mem::replace(&mut trimmed, true) {
                give_back();
            }
            look = (look + READ_EVERY).max(Instant::now());
            let due = Duration::from_nanos(self.census.due_ns().saturating_sub(boot_time_ns()));
            let next = Instant::now().checked_add(due).map_or(look, |due| due.min(look));
            tokio::select! {
                biased;
                heard = signals.next() => match heard {
                    Heard::Stop => break,
                    Heard::Ask => self.census.ask(),
                },
                () = sleep_until(next) => {}
            }
        }
        // For whoever pushes: the last numbers.
        self.publish();
    }

    fn publish(&self) {
        let cells = self.aggregate.read();
        self.collector.publish(&Sums {
            now_ns: boot_time_ns(),
            cells: &cells,
            ports: &self.since,
            missed: self.aggregate.missed(),
            sockets: self.sockets.as_deref(),
        });
    }

    fn keep_apart(&mut self, port: u16, now_ns: u64) {
        let before = self.since.len();
        self.aggregate.keep_apart(port);
        if self.aggregate.ports().len() > before {
            self.since.push((port, now_ns));
        }
    }

    fn count_sockets(&mut self, by_listeners: bool) {
        let classes: HashMap<u16, usize> =
            self.since.iter().enumerate().map(|(index, (port, _))| (*port, index + 1)).collect();
        let mut sockets = vec![[0; STATES]; self.since.len() + 1];
        // Local ports, each with how many sockets have it and whether somebody listens there.
        let mut ports: HashMap<u16, (u64, bool)> = HashMap::new();
        let resync = self.census.take(|sight| {
            let port = ports.entry(sight.ends.lport).or_default();
            *port = (port.0 + 1, port.1 || sight.state == TcpState::Listen);
            let state = usize::from(sight.state.number());
            if let Some(count) =
                sockets.get_mut(class(&classes, sight)).and_then(|states| states.get_mut(state))
            {
                *count += 1;
            }
        });
        let now_ns = boot_time_ns();
        if by_listeners {
            let mut listened: Vec<_> = ports
                .into_iter()
                .filter(|(_, (_, listens))| *listens)
                .map(|(port, (count, _))| (Reverse(count), port))
                .collect();
            listened.sort_unstable();
            listened.into_iter().for_each(|(_, port)| self.keep_apart(port, now_ns));
        }
        self.sockets = Some(sockets);
        self.collector.looked(now_ns, &resync);
    }
}

/// The class of a socket: that of its local port, if it has one, else that of the remote one.
fn class(classes: &HashMap<u16, usize>, sight: &Sight) -> usize {
    let of = |port| classes.get(&port).copied();
    of(sight.ends.lport).or_else(|| of(sight.ends.rport)).unwrap_or(0)
}
