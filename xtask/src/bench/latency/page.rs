//! The page: from the event to the line, few connections first, then full load, then how it is measured.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    super::{
        cores::Apart,
        figures::{Spread, number},
        load::TRANSITIONS,
        markdown::{row, table},
        rivals,
    },
    FULL, Measured, Printer, Run, SLOW, Way,
};

/// The whole page.
pub fn write(measured: &Measured) -> Result<String> {
    let Measured { command, version, commit, date, machine, rounds, .. } = measured;
    let cores = measured.cores;
    let on = match cores.apart {
        Apart::Cores => "two cores",
        Apart::Threads => "two threads of one core, which slow each other down",
        Apart::Same => "the only one, which all of them share",
    };
    let mut page = format!(
        "# How soon a line is there\n\n\
         Written by `{command}`. Run it again instead of editing this page.\n\n\
         - measured: {version}, {commit}, on {date}\n\
         - machine: {machine}\n\
         - load on processor {}, tracer and reader on processor {}: {on}\n",
        cores.load, cores.tracer
    );
    rivals::sources(&mut page, &measured.versions, &measured.skipped);
    let _ = write!(
        page,
        "\nFrom a change of state in the kernel to when the other end of a pipe, or of a terminal, has its whole line. Every \
         figure is the median of {rounds} rounds, with the smallest and the largest behind it.\n"
    );
    few(&mut page, measured)?;
    full(&mut page, measured)?;
    method(&mut page, measured)?;
    Ok(page)
}

fn few(page: &mut String, measured: &Measured) -> Result<()> {
    let title = format!("{} connections a second", number(measured.pace as f64, 0));
    table(page, &title, &["", "through", "half of them within", "99 % within", "all within"]);
    for (printer, way) in SLOW {
        let runs = of(measured, printer, way, false);
        if !runs.is_empty() {
            let [p50, p99, max] = times(&runs, 2)?;
            row(page, &[printer.name(), way.name(), &p50, &p99, &max]);
        }
    }
    let _ = write!(
        page,
        "\ntcptrace is not woken for an event, which is what makes it cheap: it looks every 20 ms. Others are woken for each; into a \
         pipe `tcpstates` and `tcplife` write when 4 KiB are full, or when they end. A line of `tcplife` comes when \
         the connection is closed.\n"
    );
    Ok(())
}

fn full(page: &mut String, measured: &Measured) -> Result<()> {
    let header = [
        "",
        "through",
        "connections/s",
        "half of them within",
        "99 % within",
        "all within",
        "lines, of those owed",
    ];
    table(page, "Full load", &header);
    for (printer, way) in FULL {
        let runs = of(measured, printer, way, true);
        if !runs.is_empty() {
            let rate = Spread::of(runs.iter().map(|run| run.rate))?.show(0, "");
            let [p50, p99, max] = times(&runs, 1)?;
            let lines = Spread::of(runs.iter().map(|run| run.printed * 100.0))?.show(2, "%");
            row(page, &[printer.name(), way.name(), &rate, &p50, &p99, &max, &lines]);
        }
    }
    let _ = write!(
        page,
        "\n{TRANSITIONS} lines for each connection, as many connections as one processor can make; ours prints the end of each \
         socket, too. The times are those of the lines that came. `tcpstates` and `tcplife` do not print when an event was: \
         where one is lost, nobody can tell which line is whose.\n"
    );
    Ok(())
}

fn method(page: &mut String, measured: &Measured) -> Result<()> {
    let full = measured.runs.iter().filter(|run| run.case.full);
    let waited = Spread::of(full.map(|run| run.waited * 100.0))?.show(1, "%");
    let _ = write!(
        page,
        "\n## How it is measured\n\n\
         The load is that of [cost.md](cost.md), in a network namespace of its own; where connections are few, the time between two of \
         them varies by half, so that no timer is in step with it. Each stretch takes {} s. The reader reads as much as there is, \
         takes the time, and looks at the lines: a line is there when its last byte is. How quiet the machine was: at full load, \
         the load waited {waited} of its time for its processor.\n\n\
         `watch --format json` and bpftrace print when an event was, to the nanosecond; `watch` prints milliseconds, which is \
         enough at full load, where up to 1 ms of what is shown is that. Otherwise it is the time from before the call of `connect()` to the \
         line about SYN_SENT (of `tcplife`: to both lines of the connection, which lasts some 0.1 ms). Lines about the end of a socket \
         wait 20 ms for what explains it ([events.md](events.md)), and are not counted, nor is what no event told (`inferred`).\n",
        measured.seconds
    );
    Ok(())
}

fn of(measured: &Measured, printer: Printer, way: Way, full: bool) -> Vec<&Run> {
    let is_it = |run: &&Run| run.case == super::Case { printer, way, full };
    measured.runs.iter().filter(is_it).collect()
}

fn times(runs: &[&Run], decimals: usize) -> Result<[String; 3]> {
    let show = |value: fn(&Run) -> f64| {
        Spread::of(runs.iter().map(|run| value(run))).map(|spread| spread.show(decimals, "ms"))
    };
    Ok([show(|run| run.p50)?, show(|run| run.p99)?, show(|run| run.max)?])
}
