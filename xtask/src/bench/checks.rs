//! Whether tcptrace told the truth while it was measured: a fast answer that is wrong is worth nothing.

use super::{
    figures::number,
    load::{ENDS, EVENTS, TRANSITIONS},
    modes::{Filter, Mode},
    tracer::Outcome,
};

/// What is wrong with the counts of a run, in words. `connections`: what the load made while it ran.
pub fn counts(mode: Mode, filter: Filter, connections: u64, outcome: &Outcome) -> Vec<String> {
    let name = mode.name();
    let mut wrong = Vec::new();
    let mut expect = |what: &str, exact: bool, expected: u64, found: u64| {
        if found < expected || (exact && found != expected) {
            let [expected, found, connections] = [expected, found, connections].map(|n| number(n as f64, 0));
            wrong.push(format!(
                "{name}: {found} {what} for {connections} connections, there should be {expected}"
            ));
        }
    };
    // Without a filter, whatever else the machine does is counted too.
    let exact = filter != Filter::Everything;
    expect("transitions", exact, connections * TRANSITIONS, outcome.summary.transitions);
    if let Some(closes) = outcome.summary.closes {
        expect("closes", exact, connections * ENDS, closes);
    }
    if matches!(mode, Mode::Json | Mode::Text) {
        // Besides, there are a first line, a summary, and whatever was sent again.
        expect("lines", false, connections * EVENTS, outcome.lines);
    }
    if outcome.summary.lost > 0 {
        wrong.push(format!("{name}: {} events were lost", number(outcome.summary.lost as f64, 0)));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{
        output::Summary,
        process::{CpuTime, Memory},
    };

    fn outcome(transitions: u64, closes: u64, lines: u64, lost: u64) -> Outcome {
        Outcome {
            summary: Summary { transitions, lost, closes: Some(closes) },
            lines,
            bytes: 0,
            cpu: CpuTime::default(),
            memory: Memory { now: 0, peak: 0 },
        }
    }

    #[test]
    fn exact_counts_pass() {
        let good = outcome(1000, 200, 1202, 0);
        assert!(counts(Mode::Json, Filter::Netns(1), 100, &good).is_empty());
        assert!(counts(Mode::Summary, Filter::Netns(1), 100, &outcome(1000, 200, 2, 0)).is_empty());
    }

    #[test]
    fn every_difference_is_told() {
        let of = |filter, outcome| counts(Mode::Json, filter, 100, &outcome).len();
        assert_eq!(of(Filter::Netns(1), outcome(1001, 200, 1202, 0)), 1);
        assert_eq!(of(Filter::Everything, outcome(1001, 200, 1202, 0)), 0);
        assert_eq!(of(Filter::Everything, outcome(999, 199, 1199, 0)), 3);
        assert_eq!(of(Filter::Netns(1), outcome(1000, 200, 1202, 7)), 1);
    }
}
