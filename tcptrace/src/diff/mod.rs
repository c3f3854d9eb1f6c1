//! Two traces beside each other: how often, how long, what was stuck. Counts are compared by the second, because no two traces
//! are equally long. Pure.

use crate::{
    diagnose::Found,
    event::TcpState,
    hist::{Report, Row, Tally, Times, tally::Pair},
    stat::ORDER,
};
use std::collections::{BTreeMap, BTreeSet};

/// A difference below this factor is none to be told of.
const LEAST_FACTOR: f64 = 1.25;
/// Nor is a difference of rates that chance makes: below so many standard deviations, if what is counted comes by chance
/// (Poisson).
const LEAST_SIGMAS: f64 = 3.0;
/// Quantiles that are compared, and how many times each side must have for that: below, single ones decide.
pub const QUANTILES: [(f64, &str, u64); 3] = [(0.5, "p50", 20), (0.9, "p90", 50), (0.99, "p99", 500)];

/// One trace.
#[derive(Clone, Debug)]
pub struct Side {
    /// What it is called.
    pub name: String,
    /// When it ended, on the boot-time clock of its machine.
    pub ended_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Release of its kernel.
    pub kernel: String,
    /// The filter that it was recorded with, where there was one.
    pub filter: Option<String>,
    /// Counts and times.
    pub report: Report,
    /// The values of each setting (sysctl), over all namespaces with sockets; empty: unknown.
    pub settings: BTreeMap<&'static str, BTreeSet<String>>,
    /// Events that were lost.
    pub lost: u64,
    /// What did not move at its end, by finding.
    pub findings: Result<BTreeMap<&'static str, Found>, String>,
    /// What is wrong with it, for people.
    pub flaws: Vec<String>,
}

/// Something that is clearly not the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Transitions a second.
    Rate {
        /// Which.
        pair: Pair,
        /// On either side.
        per_second: [f64; 2],
    },
    /// Time in a state.
    Time {
        /// Which.
        state: TcpState,
        /// Which quantile: its name in [`QUANTILES`].
        quantile: &'static str,
        /// On either side, in nanoseconds.
        ns: [u64; 2],
    },
    /// Sockets that do not move.
    Finding {
        /// Which.
        name: &'static str,
        /// On either side.
        count: [u64; 2],
    },
}

/// Both.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The two traces.
    pub sides: [Side; 2],
    /// What is clearly not the same: findings, then the largest factor first.
    pub changes: Vec<Change>,
}

impl Side {
    /// Of something that was counted.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / (self.duration_ns.max(1) as f64 / 1e9)
    }

    fn tally(&self) -> &Tally {
        &self.report.all
    }
}

impl Change {
    /// How many times as much the second side has; `None`: one of them has nothing.
    pub fn factor(&self) -> Option<f64> {
        let [a, b] = match self {
            Self::Rate { per_second, .. } => *per_second,
            Self::Time { ns, .. } => ns.map(|ns| ns as f64),
            Self::Finding { count, .. } => count.map(|count| count as f64),
        };
        (a > 0.0 && b > 0.0).then(|| b / a)
    }

    /// What is new or gone weighs most.
    fn weight(&self) -> f64 {
        let finding = matches!(self, Self::Finding { .. });
        let factor = self.factor().map_or(f64::MAX, |factor| factor.max(1.0 / factor));
        if finding { f64::INFINITY } else { factor }
    }
}

impl Diff {
    /// Compares.
    pub fn new(sides: [Side; 2]) -> Self {
        let mut diff = Self { sides, changes: Vec::new() };
        let mut changes = diff.findings_changed();
        changes.extend(diff.rates_changed());
        changes.extend(diff.times_changed());
        changes.sort_by(|one, two| two.weight().total_cmp(&one.weight()));
        diff.changes = changes;
        diff
    }

    /// Every pair that either side has, with what each has of it; in the order of a connection's life.
    pub fn pairs(&self) -> Vec<(Pair, [Row; 2])> {
        let [a, b] = self.sides.each_ref().map(|side| side.tally().rows());
        // Of a merged tally the order is the one of both.
        let mut both = Tally::default();
        self.sides.iter().for_each(|side| both.merge(side.tally()));
        let of = |rows: &[(Pair, &Row)], pair: Pair| {
            rows.iter().find(|(known, _)| *known == pair).map(|(_, row)| (*row).clone()).unwrap_or_default()
        };
        both.rows().into_iter().map(|(pair, _)| (pair, [of(&a, pair), of(&b, pair)])).collect()
    }

    /// Every state that either side has: time in it, and so far of those that are in it still.
    pub fn states(&self) -> Vec<(TcpState, [(Times, Times); 2])> {
        let sides = self.sides.each_ref().map(|side| side.tally().states());
        let of = |state: TcpState| {
            sides.each_ref().map(|states| {
                let known = states.iter().find(|(known, ..)| *known == state);
                known.map(|(_, times, open)| (times.clone(), open.clone())).unwrap_or_default()
            })
        };
        let any =
            |sides: &[(Times, Times); 2]| sides.iter().any(|(times, open)| times.count() + open.count() > 0);
        ORDER.into_iter().map(|state| (state, of(state))).filter(|(_, sides)| any(sides)).collect()
    }

    /// Every finding that either side has; `None`: it is not known what did not move.
    pub fn findings(&self) -> Vec<(&'static str, [Option<Found>; 2])> {
        let sides = self.sides.each_ref().map(|side| side.findings.as_ref().ok());
        let names: BTreeSet<_> = sides.iter().flatten().flat_map(|found| found.keys().copied()).collect();
        let of = |name| sides.map(|found| found.map(|found| found.get(name).copied().unwrap_or_default()));
        names.into_iter().map(|name| (name, of(name))).collect()
    }

    /// Every setting that differs, with its values on either side. One that a side does not know is none.
    pub fn settings(&self) -> Vec<(&'static str, [String; 2])> {
        let [a, b] = &self.sides;
        let say = |values: &BTreeSet<String>| values.iter().cloned().collect::<Vec<_>>().join(" or ");
        let both = a.settings.iter().filter_map(|(name, was)| Some((*name, was, b.settings.get(name)?)));
        let differing = both.filter(|(_, was, is)| was != is);
        differing.map(|(name, was, is)| (name, [say(was), say(is)])).collect()
    }

    /// Sentences: why the two may differ for another reason than what is compared, and what is missing.
    pub fn notes(&self) -> Vec<String> {
        let [a, b] = &self.sides;
        let mut notes = Vec::new();
        if a.kernel != b.kernel {
            notes.push(format!("the kernels differ: {} and {}", a.kernel, b.kernel));
        }
        for (name, [was, is]) in self.settings() {
            notes.push(format!("{name} was {was} and is {is}"));
        }
        if a.filter != b.filter {
            let say = |side: &Side| side.filter.clone().unwrap_or_else(|| "none".to_owned());
            notes.push(format!("they were recorded with different filters: {} and {}", say(a), say(b)));
        }
        for side in &self.sides {
            let name = &side.name;
            if side.lost > 0 {
                notes.push(format!("{name}: {} events were lost; their times are missing", side.lost));
            }
            if let Err(why) = &side.findings {
                notes.push(format!("{name}: what did not move is unknown: {why}"));
            }
            notes.extend(side.flaws.iter().map(|flaw| format!("{name}: {flaw}")));
        }
        notes
    }

    fn rates_changed(&self) -> Vec<Change> {
        let [a, b] = &self.sides;
        let seconds = [a, b].map(|side| side.duration_ns.max(1) as f64 / 1e9);
        let clear = |(pair, rows): (Pair, [Row; 2])| {
            let counts = rows.map(|row| row.events + row.inferred);
            let per_second = [a.per_second(counts[0]), b.per_second(counts[1])];
            let variance: f64 =
                counts.iter().zip(seconds).map(|(count, seconds)| *count as f64 / (seconds * seconds)).sum();
            let change = Change::Rate { pair, per_second };
            let chance = (per_second[0] - per_second[1]).abs() < LEAST_SIGMAS * variance.sqrt();
            (variance > 0.0 && !chance && change.weight() >= LEAST_FACTOR).then_some(change)
        };
        self.pairs().into_iter().filter_map(clear).collect()
    }

    fn times_changed(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (state, [(a, _), (b, _)]) in self.states() {
            for (part, quantile, least) in QUANTILES {
                if a.exact.count().min(b.exact.count()) < least {
                    continue;
                }
                let (Some(a), Some(b)) = (a.exact.quantile_ns(part), b.exact.quantile_ns(part)) else {
                    continue;
                };
                let change = Change::Time { state, quantile, ns: [a, b] };
                changes.extend((a != b && change.weight() >= LEAST_FACTOR).then_some(change));
            }
        }
        changes
    }

    fn findings_changed(&self) -> Vec<Change> {
        let clear = |(name, found): (&'static str, [Option<Found>; 2])| {
            let [Some(a), Some(b)] = found else { return None };
            (a.count != b.count).then_some(Change::Finding { name, count: [a.count, b.count] })
        };
        self.findings().into_iter().filter_map(clear).collect()
    }
}

#[cfg(test)]
mod tests;
