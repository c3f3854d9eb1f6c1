//! What is exported, whichever way: the families with their names, types and units, and the values at one moment.
//! Prometheus' text and OTLP are made of this, so that they cannot disagree; docs/metrics.md is, too.

use crate::hist::Dwell;
use std::{borrow::Cow, sync::Arc};
use tcptrace_common::aggregate::BOUNDS_NS;

/// How a value behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows; starts at 0 with the program.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution of times in seconds.
    Histogram,
    /// Always 1; the labels say it.
    Info,
}

/// The unit of a value, as OpenMetrics names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// Metrics of one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name, without the suffixes that belong to a unit or a type (`_seconds`, `_total`, `_info`).
    pub name: &'static str,
    /// What it is; one sentence without a full stop.
    pub help: &'static str,
    /// Its type.
    pub kind: Type,
    /// Its unit; `None`: a count of things.
    pub unit: Option<Unit>,
    /// Its labels, each with what it says.
    pub labels: &'static [(&'static str, &'static str)],
    /// The groups of `--label` are labels of it too.
    pub grouped: bool,
}

/// A value of a family.
#[derive(Clone, Debug)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a counter in seconds, or of a gauge.
    Number(f64),
    /// Of a histogram.
    Times(Arc<Dwell>),
    /// Of a histogram of which no more is known than these.
    Classic(Box<Classic>),
    /// Of an info.
    Info,
}

/// One time series at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// In the order of the family's labels, then those of the groups.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    /// Its value.
    pub value: Value,
    /// When it began to count, in nanoseconds since 1970; `None`: with [`Snapshot::began_unix_ns`].
    pub began_unix_ns: Option<u64>,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When counters began, in nanoseconds since 1970.
    pub began_unix_ns: u64,
    /// When this was, in nanoseconds since 1970.
    pub at_unix_ns: u64,
    /// The same, for whoever wants to know how old it is; `None`: there is nothing in it yet.
    pub made: Option<std::time::Instant>,
    /// In the order of [`FAMILIES`]; families without a value are left out.
    pub families: Vec<(&'static Family, Vec<Sample>)>,
}

impl Family {
    /// The name with the unit, as both text formats and protobuf have it.
    pub fn full_name(&self) -> String {
        match self.unit {
            None => self.name.to_owned(),
            Some(unit) => format!("{}_{}", self.name, unit.name()),
        }
    }

    /// The name of its samples in Prometheus' own formats: with the suffix of its type.
    pub fn sample_name(&self) -> String {
        let suffix = match self.kind {
            Type::Counter => "_total",
            Type::Info => "_info",
            Type::Gauge | Type::Histogram => "",
        };
        format!("{}{suffix}", self.full_name())
    }
}

impl Unit {
    /// As OpenMetrics names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

/// Upper limits of the classic buckets in nanoseconds; the kernel programs count in the same.
pub const BUCKETS_NS: [u64; 13] = BOUNDS_NS;

/// Times in the classic buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classic {
    /// Of each bucket how many are in it and in none before it; the last has no limit.
    pub counts: [u64; BUCKETS_NS.len() + 1],
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
}

impl Classic {
    /// How many.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many are not above each limit of [`BUCKETS_NS`].
    pub fn cumulative(&self) -> [u64; BUCKETS_NS.len()] {
        let mut sum = 0;
        let mut counts = self.counts.iter();
        BUCKETS_NS.map(|_| {
            sum += counts.next().copied().unwrap_or(0);
            sum
        })
    }
}

impl From<&Dwell> for Classic {
    fn from(dwell: &Dwell) -> Self {
        let (mut counts, mut below) = ([0; BUCKETS_NS.len() + 1], 0);
        let limits = BUCKETS_NS.iter().map(|ns| dwell.at_most(*ns)).chain([dwell.count()]);
        for (count, up_to) in counts.iter_mut().zip(limits) {
            *count = up_to.saturating_sub(below);
            below = up_to;
        }
        Self { counts, sum_ns: dwell.sum_ns() }
    }
}

/// Scale of the native buckets: the limits grow by a factor of 2^(1/8), which is 9 %.
pub const NATIVE_SCALE: i8 = 3;

const FROM_TO: &[(&str, &str)] =
    &[("from", "the state left, as `netstat` names it"), ("to", "the state entered")];
const STATE: &[(&str, &str)] = &[("state", "the state, as `netstat` names it")];
const FINDING: &[(&str, &str)] = &[("finding", "the name in docs/diagnoses.md")];

macro_rules! families {
    ($($(#[$doc:meta])* $id:ident = $name:literal, $kind:ident $(($unit:ident))?, $labels:expr, $grouped:literal, $help:literal;)*) => {
        $($(#[$doc])* #[doc = $help] pub static $id: Family = Family {
            name: $name,
            help: $help,
            kind: Type::$kind,
            unit: families!(@unit $($unit)?),
            labels: $labels,
            grouped: $grouped,
        };)*

        /// Every family, in the order of the output.
        pub static FAMILIES: &[&Family] = &[$(&$id),*];
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
}

families! {
    BUILD = "tcptrace_build", Info, &[("version", "of tcptrace"), ("kernel", "the running kernel's release")], false,
        "What is running";
    AGGREGATION = "tcptrace_aggregation", Info,
        &[("by", "`kernel`"), ("beginnings", "where it keeps since when a socket is in its state: `socket storage`, or a bounded `table`")], false,
        "The kernel adds up, and sends no events; only with --aggregate kernel";
    TRANSITIONS = "tcptrace_transitions", Counter, FROM_TO, false,
        "State changes by the kernel's own count: exact even where events were lost";
    INFERRED = "tcptrace_inferred_transitions", Counter, FROM_TO, false,
        "State changes that no event tells, such as the begin and end of TIME_WAIT";
    DWELL = "tcptrace_state_duration", Histogram(Seconds), STATE, true,
        "Time spent in the state, when it is left; only where its beginning was seen";
    UNTIMED = "tcptrace_untimed_states", Counter, &[], false,
        "Beginnings of a state for which the kernel had no room, so that their times are missing; only with --aggregate kernel";
    SOCKETS = "tcptrace_sockets", Gauge, STATE, true,
        "Sockets by their true state, half-open requests and minisockets included, as far as they are in the table";
    RETRANSMITS = "tcptrace_retransmitted_segments", Counter,
        &[("segment", "`syn`, `syn-ack`, `fin`, `data` or `unknown`"), ("reason", "`rto`, `fast`, `tlp` or `unknown`")], true,
        "Segments sent again";
    FAILED_SENDS = "tcptrace_failed_retransmits", Counter, &[], true,
        "Segments to be sent again that could not leave";
    RESETS = "tcptrace_resets", Counter,
        &[("direction", "`sent` or `received`"), ("reason", "the kernel's own name; `unknown` where it gives none")], true,
        "RST segments";
    CLOSES = "tcptrace_closes", Counter, &[("cause", "the cause in docs/events.md")], true,
        "Connections that ended, by cause";
    STUCK = "tcptrace_stuck_flows", Gauge, FINDING, false,
        "Sockets that do not move, by finding";
    STUCK_AGE = "tcptrace_stuck_oldest_age", Gauge(Seconds), FINDING, false,
        "Age of the oldest socket of the finding; at least so much where its beginning was not seen";
    UNEXPLAINED = "tcptrace_unexplained_flows", Gauge, &[], false,
        "Sockets past the limit of their state of which no finding says anything";
    RESYNCS = "tcptrace_resyncs", Counter, &[("why", "`start`, `timer`, `lost` or `asked`")], false,
        "Times that the kernel was asked for all its sockets";
    LAST_RESYNC = "tcptrace_last_resync_timestamp", Gauge(Seconds), &[], false,
        "When the kernel was last asked for all its sockets, since 1970";
    UNREAD = "tcptrace_unread_namespaces", Gauge, &[], false,
        "Processes and network namespaces that could not be looked into then: there may be more sockets";
    HOOKS = "tcptrace_hook_attached", Gauge,
        &[("hook", "the tracepoint or function, as `tcptrace doctor` names it")], false,
        "1 where the hook is attached, 0 where it is not: `tcptrace doctor` says what is missing then";
    LOST = "tcptrace_lost_events", Counter, &[("kind", "what was lost, as in docs/events.md")], false,
        "Events that found the ring full, or that the kernel skipped";
    EVICTED = "tcptrace_evicted_flows", Counter, &[], false,
        "Flows forgotten because there were more than --max-flows";
    FLOWS = "tcptrace_tracked_flows", Gauge, &[], false,
        "Flows in the table, minisockets included";
    GROUPS_OTHER = "tcptrace_label_overflow", Counter, &[], false,
        "Times that something was counted as `other` because its group is not among the --label-top";
    PUSHES_DROPPED = "tcptrace_otlp_dropped_exports", Counter, &[], false,
        "Snapshots that were not pushed because the receiver was slow or gone";
    CPU = "tcptrace_process_cpu", Counter(Seconds), &[], false,
        "Processor time that tcptrace used";
    MEMORY = "tcptrace_process_resident_memory", Gauge(Bytes), &[], false,
        "Memory that tcptrace has resident";
    PROGRAM_RUNS = "tcptrace_bpf_runs", Counter, &[("program", "the kernel program")], false,
        "Runs of a kernel program; only while kernel.bpf_stats_enabled is 1";
    PROGRAM_TIME = "tcptrace_bpf_run", Counter(Seconds), &[("program", "the kernel program")], false,
        "Time spent in a kernel program; only while kernel.bpf_stats_enabled is 1";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for family in FAMILIES {
            assert!(family.name.starts_with("tcptrace_"), "{}", family.name);
            for suffix in ["_total", "_seconds", "_bytes", "_info", "_count", "_sum", "_bucket"] {
                assert!(!family.name.ends_with(suffix), "{}: {suffix} is added by the format", family.name);
            }
            assert!(!family.help.ends_with('.'), "{}", family.name);
            assert!(family.kind != Type::Histogram || family.unit == Some(Unit::Seconds), "{}", family.name);
        }
    }

    #[test]
    fn no_name_is_there_twice() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
