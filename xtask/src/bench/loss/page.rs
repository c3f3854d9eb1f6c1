//! The page: up to which rate nothing is lost, how much is lost at each, and what is said of it.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    super::{
        figures::{Spread, number},
        load::TRANSITIONS,
        markdown::{row, table},
        modes::Mode,
        rivals,
    },
    Measured, PACES, Step,
};

/// The load made what it was asked for, if it made this share of it.
const AS_ASKED: f64 = 0.95;

/// The whole page.
pub fn write(measured: &Measured) -> Result<String> {
    let Measured { command, version, commit, date, machine, rounds, .. } = measured;
    let mut page = format!(
        "# What is lost when there is too much\n\n\
         Written by `{command}`. Run it again instead of editing this page.\n\n\
         - measured: {version}, {commit}, on {date}\n\
         - machine: {machine}\n"
    );
    rivals::sources(&mut page, &measured.versions, &measured.skipped);
    let _ = write!(
        page,
        "\nAn event is a change of state; a connection has {TRANSITIONS}. Every figure is the median of {rounds} rounds, with the \
         smallest and the largest behind it.\n"
    );
    highest(&mut page, measured)?;
    for loads in 1..=measured.loads {
        shares(&mut page, measured, loads)?;
    }
    said(&mut page, measured)?;
    method(&mut page, measured);
    Ok(page)
}

fn highest(page: &mut String, measured: &Measured) -> Result<()> {
    let columns: Vec<_> = (1..=measured.loads).map(|loads| Step { loads, pace: 0 }.processors()).collect();
    table(
        page,
        "The highest rate at which nothing is lost",
        &[&["events/s, made on"], &columns[..]].concat(),
    );
    for mode in &measured.modes {
        let mut cells = vec![mode.name().to_owned()];
        for loads in 1..=measured.loads {
            cells.push(match measured.highest(*mode, loads) {
                None => "less than was tried".to_owned(),
                Some(step) => {
                    let rate = Spread::of(measured.of(*mode, step).map(|run| run.events))?.show(0, "");
                    if step.pace == 0 { format!("{rate}: all that is made beside it") } else { rate }
                }
            });
        }
        row(page, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    Ok(())
}

fn shares(page: &mut String, measured: &Measured, loads: usize) -> Result<()> {
    let step = |pace| Step { loads, pace };
    let rates = PACES.map(|pace| match pace {
        0 => "full speed".to_owned(),
        _ => number((pace * TRANSITIONS * loads as u64) as f64, 0),
    });
    let header: Vec<_> =
        ["asked for, events/s"].into_iter().chain(rates.iter().map(String::as_str)).collect();
    table(page, &format!("Lines missing, events on {}", step(0).processors()), &header);
    for mode in &measured.modes {
        let mut cells = vec![mode.name().to_owned()];
        for pace in PACES {
            let share = |run: &super::Run| run.missing as f64 * 100.0 / run.owed as f64;
            let spread = Spread::of(measured.of(*mode, step(pace)).map(share))?;
            let mut cell = if spread.max == 0.0 { "none".to_owned() } else { spread.show(2, "%") };
            let made = Spread::of(measured.of(*mode, step(pace)).map(|run| run.events))?.median;
            let asked = (pace * TRANSITIONS * loads as u64) as f64;
            if pace == 0 || made < asked * AS_ASKED {
                let _ = write!(cell, " of {}", number(made, 0));
            }
            cells.push(cell);
        }
        row(page, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let _ = write!(
        page,
        "\n*Of* so many events a second: the load could not make more beside this tool. Who slows down what it traces has less \
         to lose.\n"
    );
    Ok(())
}

fn said(page: &mut String, measured: &Measured) -> Result<()> {
    let header =
        ["at full speed", "on", "events/s made", "lines missing", "says it lost", "said, of what is missing"];
    table(page, "Beyond it", &header);
    for mode in &measured.modes {
        for loads in 1..=measured.loads {
            let step = Step { loads, pace: 0 };
            let runs = || measured.of(*mode, step);
            let show = |value: fn(&super::Run) -> f64| {
                Spread::of(runs().map(value)).map(|spread| spread.show(0, ""))
            };
            let lossy: Vec<_> = runs().filter(|run| run.missing > 0).collect();
            let share = Spread::of(lossy.iter().map(|run| run.said as f64 * 100.0 / run.missing as f64));
            let share = match share {
                Err(_) => "nothing is".to_owned(),
                Ok(share) if share.min == 100.0 && share.max == 100.0 => "all, to the event".to_owned(),
                Ok(share) => share.show(2, "%"),
            };
            let cells = [
                &show(|run| run.events)?,
                &show(|run| run.missing as f64)?,
                &show(|run| run.said as f64)?,
                &share,
            ];
            let cells: Vec<_> = [mode.name(), step.processors()]
                .into_iter()
                .chain(cells.into_iter().map(String::as_str))
                .collect();
            row(page, &cells);
        }
    }
    if measured.modes.contains(&Mode::SmallRing) {
        let _ = write!(
            page,
            "\ntcptrace counts in the kernel before it reserves room in the ring: so its counts of changes of state are exact whatever \
             is lost, and so is the number of the lost, by kind of event. A ring of 64 KiB is far too small, to show just that; the default is 8 MiB.\n"
        );
    }
    Ok(())
}

fn method(page: &mut String, measured: &Measured) {
    let _ = write!(
        page,
        "\n## How it is measured\n\n\
         The load is that of [cost.md](cost.md), held to so many connections a second, for {} s at each rate; each load has a \
         processor and a network namespace of its own. Tracers run where the scheduler puts them: where every processor makes events, \
         they have to share one. Who traces is given time to catch up before it is stopped. Output goes into a file.\n\n\
         The load knows how many connections it made, so it is known what should be there: of tcptrace and others but `tcplife` a line for \
         each change of state, of `tcplife` one for each end of a connection. Others see the whole \
         machine: what they say they lost may be somebody else's. Ours must say exactly how much is missing, and what it \
         counts must be what the load made: else there is no page.\n",
        measured.seconds
    );
}
