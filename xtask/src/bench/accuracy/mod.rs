//! How far what the exporters count is from what the load did: the one that adds up events and the one that lets the
//! kernel add up, both at once beside the same load. Two stretches would not do: no two are alike.

pub mod page;
mod times;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{
    checks,
    figures::{number, size},
    load::{LARGER_RESPONSES, LEAST_RESPONSE, TRANSITIONS},
    loader::{Loader, Request, WARM_UP},
    modes::{Filter, Mode, Programs},
    tracer::{Outcome, Tracer},
};
use times::Times;

/// Who watches, in the order of the tables: the second is compared with the first.
const WATCHERS: [Mode; 2] = [Mode::Export, Mode::Sums];
/// Bytes of the responses: the most events, and connections about as long as the shortest bucket, so that they are in
/// several.
const RESPONSES: [u64; 2] = [LEAST_RESPONSE, LARGER_RESPONSES[0]];
/// Both ends of a connection are in this state, and all of their time carries something.
const STATE: &str = "ESTABLISHED";
/// Times in it, of one connection.
const TIMES: u64 = 2;

/// All rounds.
#[derive(Default)]
pub struct Accuracy {
    stretches: Vec<Stretch>,
    /// Counts that do not add up.
    pub wrong: Vec<String>,
}

/// What was said of one stretch of load, by each of [`WATCHERS`].
struct Stretch {
    response: u64,
    connections: u64,
    said: [Said; 2],
}

/// What one exporter says.
struct Said {
    transitions: u64,
    /// Events that were lost, or that the kernel skipped.
    lost: u64,
    /// Beginnings of states for which the kernel had no room; events need none.
    untimed: Option<u64>,
    times: Times,
}

impl Accuracy {
    /// One round: each response once.
    pub fn round(&mut self, programs: &Programs, loader: &mut Loader, timed: Duration) -> Result<()> {
        for response in RESPONSES {
            let filter = Filter::Netns(loader.netns);
            // Both trace before the first connection.
            let [events, sums] = WATCHERS.map(|mode| Tracer::start(programs, mode, filter));
            let tracers = [events?, sums?];
            let stretch = loader.run(Request { warm: WARM_UP, timed, response, pace: 0 })?;
            let [events, sums] = tracers.map(|tracer| tracer.finish(&[loader.port]));
            let outcomes = [events?, sums?];
            for (mode, outcome) in WATCHERS.into_iter().zip(&outcomes) {
                let wrong = checks::counts(mode, filter, stretch.connections, outcome);
                self.wrong.extend(wrong.into_iter().map(|what| format!("accuracy: {what}")));
            }
            let [events, sums] = outcomes.map(|outcome| Said::of(&outcome));
            let stretch = Stretch { response, connections: stretch.connections, said: [events?, sums?] };
            eprintln!("  responses of {}: {:.2} % apart", size(response), stretch.apart() * 100.0);
            self.wrong.extend(stretch.wrong());
            self.stretches.push(stretch);
        }
        Ok(())
    }
}

impl Stretch {
    /// How much longer the mean time in the state is by the kernel's sums, as a share.
    fn apart(&self) -> f64 {
        let [events, sums] = &self.said;
        sums.times.mean_ns() / events.times.mean_ns() - 1.0
    }

    /// Every time in the state must be there, unless it is told that some are not: `checks` looks at those.
    fn wrong(&self) -> Vec<String> {
        let expected = self.connections * TIMES;
        let complete = |said: &Said| said.lost == 0 && said.untimed.unwrap_or(0) == 0;
        let wrong = WATCHERS
            .iter()
            .zip(&self.said)
            .filter(|(_, said)| complete(said) && said.times.count != expected);
        wrong
            .map(|(mode, said)| {
                let [found, expected] = [said.times.count, expected].map(|count| number(count as f64, 0));
                format!("accuracy: {}: {found} times in {STATE}, there should be {expected}", mode.name())
            })
            .collect()
    }
}

impl Said {
    fn of(outcome: &Outcome) -> Result<Self> {
        let (summary, metrics) =
            outcome.summary.zip(outcome.metrics.as_ref()).context("an exporter ended without its metrics")?;
        let times = Times::of(metrics, STATE);
        ensure!(times.are_whole(), "the buckets of an exporter are not all of its {} times", times.count);
        Ok(Self { transitions: summary.transitions, lost: summary.lost, untimed: summary.untimed, times })
    }

    /// Of the transitions that there were, as a share.
    fn transitions_of(&self, connections: u64) -> f64 {
        self.transitions as f64 / (connections * TRANSITIONS) as f64
    }

    /// Of the times that there were, as a share.
    fn times_of(&self, connections: u64) -> f64 {
        self.times.count as f64 / (connections * TIMES) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(count: u64, untimed: u64) -> Said {
        Said { transitions: 100, lost: 0, untimed: Some(untimed), times: Times { count, ..Times::default() } }
    }

    #[test]
    fn a_time_too_few_is_told_unless_there_was_no_room() {
        let wrong = |sums| Stretch { response: 64, connections: 10, said: [said(20, 0), sums] }.wrong().len();
        assert_eq!(wrong(said(20, 0)), 0);
        assert_eq!((wrong(said(19, 0)), wrong(said(21, 0))), (1, 1));
        assert_eq!(wrong(said(19, 1)), 0);
    }

    #[test]
    fn shares_are_of_what_the_load_did() {
        let said = said(19, 1);
        assert_eq!((said.transitions_of(10), said.times_of(10)), (1.0, 0.95));
    }
}
