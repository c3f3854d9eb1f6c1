//! Whether tcptrace told the truth while it was measured: a fast answer that is wrong is worth nothing.

use super::{
    figures::number,
    load::{ENDS, EVENTS, TRANSITIONS},
    modes::{Filter, Mode},
    tracer::Outcome,
};

/// What is wrong with the counts of a run, in words. `connections`: what the load made while it ran.
pub fn counts(mode: Mode, filter: Filter, connections: u64, outcome: &Outcome) -> Vec<String> {
    let Some(summary) = outcome.summary else {
        // Without one, tcptrace still complains of every loss.
        let complaint = outcome.complaints.trim();
        return if complaint.is_empty() { Vec::new() } else { vec![format!("{}: {complaint}", mode.name())] };
    };
    // Otherwise whatever else the machine does is counted too; a port is not the load's alone either.
    let exact = matches!(filter, Filter::Netns(_) | Filter::Both(_));
    let untimed = summary.untimed.filter(|untimed| *untimed > 0);
    let mut wrong: Vec<_> = untimed
        .map(|untimed| format!("{} beginnings of states found no room", number(untimed as f64, 0)))
        .into_iter()
        .collect();
    let mut expect = |what: &str, exact: bool, each: u64, found: u64| {
        let expected = connections * each;
        if found < expected || (exact && found != expected) {
            let [expected, found, connections] = [expected, found, connections].map(|n| number(n as f64, 0));
            wrong.push(format!("{found} {what} for {connections} connections, there should be {expected}"));
        }
    };
    // The kernel counts these, whatever becomes of the events.
    expect("transitions", exact, TRANSITIONS, summary.transitions);
    if summary.lost > 0 {
        wrong.push(format!("{} events were lost", number(summary.lost as f64, 0)));
    } else {
        if let Some(closes) = summary.closes {
            expect("closes", exact, ENDS, closes);
        }
        if matches!(mode, Mode::Json | Mode::Text) {
            // Besides, there are a first line, a summary, and whatever was sent again.
            expect("lines", false, EVENTS, outcome.lines);
        }
    }
    wrong.into_iter().map(|what| format!("{}: {what}", mode.name())).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::{
        output::{Output, Summary},
        process::Memory,
    };

    fn outcome(transitions: u64, closes: u64, lines: u64, lost: u64) -> Outcome {
        Outcome {
            summary: Some(Summary {
                transitions,
                lost,
                closes: Some(closes),
                lost_transitions: None,
                untimed: None,
            }),
            metrics: None,
            said_lost: 0,
            out: Output::new().unwrap(),
            complaints: String::new(),
            lines,
            bytes: 0,
            cpu: Duration::ZERO,
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
    fn the_kernels_sums_have_no_closes_but_must_have_all_times() {
        let sums = |untimed| {
            let counted = Summary {
                transitions: 1000,
                lost: 0,
                closes: None,
                lost_transitions: None,
                untimed: Some(untimed),
            };
            Outcome { summary: Some(counted), ..outcome(0, 0, 0, 0) }
        };
        assert!(counts(Mode::Sums, Filter::Netns(1), 100, &sums(0)).is_empty());
        assert_eq!(counts(Mode::Sums, Filter::Netns(1), 100, &sums(3)).len(), 1);
    }

    #[test]
    fn a_loss_is_told_without_a_summary() {
        let mut silent = Outcome { summary: None, ..outcome(0, 0, 0, 0) };
        assert!(counts(Mode::Nowhere, Filter::Netns(1), 100, &silent).is_empty());
        silent.complaints = "tcptrace: lost 7 events\n".to_owned();
        assert_eq!(counts(Mode::Nowhere, Filter::Netns(1), 100, &silent).len(), 1);
    }

    #[test]
    fn every_difference_is_told() {
        let of = |filter, outcome| counts(Mode::Json, filter, 100, &outcome).len();
        assert_eq!(of(Filter::Netns(1), outcome(1001, 200, 1202, 0)), 1);
        assert_eq!(of(Filter::Everything, outcome(1001, 200, 1202, 0)), 0);
        assert_eq!(of(Filter::Everything, outcome(999, 199, 1199, 0)), 3);
        assert_eq!(of(Filter::Netns(1), outcome(1000, 190, 1195, 7)), 1, "a loss explains what is missing");
        assert_eq!(of(Filter::Netns(1), outcome(999, 200, 1202, 7)), 2, "but not in the kernel's own counts");
    }
}
