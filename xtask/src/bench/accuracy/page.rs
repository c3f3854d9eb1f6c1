//! The section about accuracy: what each exporter says, as a share of what there was, and how far their times are apart.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    super::{
        figures::{Spread, size},
        load::TRANSITIONS,
        markdown::{row, table},
    },
    Accuracy, RESPONSES, STATE, Said, Stretch, TIMES, WATCHERS,
};

/// Adds it.
pub fn section(page: &mut String, accuracy: &Accuracy) -> Result<()> {
    let times = format!("times in {STATE}, of the load's");
    let header = [
        "response",
        "mode",
        "transitions, of the load's",
        &times,
        "their mean",
        "beside the events'",
        "in another bucket, at least",
        "lost",
        "without room",
    ];
    table(page, "Accuracy of `export`", &header);
    for response in RESPONSES {
        let stretches = || accuracy.stretches.iter().filter(move |stretch| stretch.response == response);
        for (index, mode) in WATCHERS.into_iter().enumerate() {
            let of = |figure: fn(&Said, u64) -> f64| {
                Spread::of(stretches().map(|stretch| figure(&stretch.said[index], stretch.connections)))
            };
            let transitions = of(|said, load| said.transitions_of(load) * 100.0)?.show(2, "%");
            let times = of(|said, load| said.times_of(load) * 100.0)?.show(2, "%");
            let mean = of(|said, _| said.times.mean_ns() / 1e3)?.show(2, "µs");
            let lost = of(|said, _| said.lost as f64)?.show(0, "");
            let untimed = stretches().filter_map(|stretch| stretch.said[index].untimed);
            let untimed = Spread::of(untimed.map(|count| count as f64));
            let untimed = untimed.map_or_else(|_| "needs none".to_owned(), |count| count.show(0, ""));
            let (apart, elsewhere) = if index == 0 { Default::default() } else { beside(stretches())? };
            let cells = [
                &size(response),
                mode.name(),
                &transitions,
                &times,
                &mean,
                &apart,
                &elsewhere,
                &lost,
                &untimed,
            ];
            row(page, &cells);
        }
    }
    let _ = write!(
        page,
        "\nBoth at once beside the same load: {TRANSITIONS} transitions of a connection, and {TIMES} times in {STATE}. If \
         a count differs, there is no page. Each takes its own clock, in a program of its own, one after the other. \
         Of events, times are known to within 1 %, which moves some to the next bucket; the kernel's are exact. \
         *Without room* are times whose beginning the kernel could not keep.\n"
    );
    Ok(())
}

/// How much longer the mean is than by events, and the times that are elsewhere.
fn beside<'a>(stretches: impl Iterator<Item = &'a Stretch> + Clone) -> Result<(String, String)> {
    let apart = Spread::of(stretches.clone().map(|stretch| stretch.apart() * 100.0))?.show(2, "%");
    let elsewhere =
        stretches.map(|Stretch { said: [events, sums], .. }| sums.times.elsewhere(&events.times) * 100.0);
    Ok((apart, Spread::of(elsewhere)?.show(2, "%")))
}
