//! The page: verdict first, then the figures, then how they came about and what they do not say.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    super::{
        figures::{Spread, mebibytes, number},
        markdown::{Row, row, table, verdict},
        timed::Took,
    },
    Measured, Population,
    programs::{LOOKS_APART, MOST, PAIRS, PROGRAMS, Program, Said},
};

/// The population that the targets are for.
const TARGET_SOCKETS: u64 = 200_000;
/// Seconds to the last of them in the ledger.
const LEDGER_S: f64 = 0.25;
/// The same when the owner of each is known.
const OWNERS_S: f64 = 1.0;
/// Bytes of a flow.
const FLOW_BYTES: f64 = 256.0;

/// The whole page.
pub fn write(measured: &Measured) -> Result<String> {
    let mut page = head(measured);
    match measured.populations.iter().find(|population| population.sockets == TARGET_SOCKETS) {
        Some(population) => verdict(&mut page, &targets(population)?),
        None => {
            page.push_str("\nNo verdict: the targets are for 200,000 sockets, and those were not measured.\n")
        }
    }
    beside(&mut page, measured)?;
    whole(&mut page, measured)?;
    inside(&mut page, measured)?;
    method(&mut page, measured)?;
    Ok(page)
}

fn head(measured: &Measured) -> String {
    format!(
        "# How long it takes to know every socket\n\n\
         Written by `{}`. Run it again instead of editing this page.\n\n\
         - measured: {}, {}, on {}\n\
         - beside: {}{}\n\
         - machine: {}\n\n\
         Every figure is the median of {} rounds, with the smallest and the largest behind it; {}.\n",
        measured.command,
        measured.version,
        measured.commit,
        measured.date,
        measured.ss,
        if measured.absent.is_empty() {
            String::new()
        } else {
            format!("; not installed here, so not measured: {}", measured.absent.join(", "))
        },
        measured.machine,
        measured.rounds,
        once(measured),
    )
}

/// What was not run in every round.
fn once(measured: &Measured) -> String {
    let every = |population: &&Population| {
        (0..measured.rounds).all(|round| Program::SsOwners.runs(round, population.sockets))
    };
    let rare: Vec<_> = measured
        .populations
        .iter()
        .filter(|population| !every(population))
        .map(|population| number(population.sockets as f64, 0))
        .collect();
    let name = Program::SsOwners.name();
    match rare.is_empty() {
        true => format!("{name} too was run in each of them"),
        false => format!("{name} was run once only among {} sockets", rare.join(" and ")),
    }
}

fn targets(population: &Population) -> Result<Vec<Row>> {
    let total = |program| Spread::of(population.said(program).map(|said| said.total));
    let (ledger, owners, flow) = (total(Program::Ledger)?, total(Program::Owners)?, flow(population)?);
    let sockets = number(TARGET_SOCKETS as f64, 0);
    Ok(vec![
        Row {
            what: format!("{sockets} sockets into the ledger"),
            measured: ledger.show(2, "s"),
            target: format!("≤ {LEDGER_S} s"),
            reached: (ledger.median <= LEDGER_S).into(),
        },
        Row {
            what: "the same with the owner of each".to_owned(),
            measured: owners.show(2, "s"),
            target: format!("≤ {OWNERS_S} s"),
            reached: (owners.median <= OWNERS_S).into(),
        },
        Row {
            what: "memory of the ledger, a flow".to_owned(),
            measured: flow.show(0, "B"),
            target: format!("≤ {FLOW_BYTES} B"),
            reached: (flow.median <= FLOW_BYTES).into(),
        },
    ])
}

/// Without owners: with them some of the ledger lies in memory that the look for them has left behind.
fn flow(population: &Population) -> Result<Spread> {
    Spread::of(population.said(Program::Ledger).map(|said| said.ledger as f64 / said.flows as f64))
}

fn beside(page: &mut String, measured: &Measured) -> Result<()> {
    table(page, "Beside `ss` and `netstat`", &["sockets", "", "beside", "its time in theirs"]);
    for population in &measured.populations {
        for (ours, theirs) in PAIRS {
            if population.of(theirs).next().is_none() {
                continue; // not installed
            }
            let ratio = Spread::of(population.ratios(ours, theirs))?;
            let than = if population.of(theirs).any(|run| run.took.cut_off) { "less than " } else { "" };
            let ratio = format!("{than}{}", ratio.show(if ratio.median < 0.1 { 3 } else { 2 }, "×"));
            let sockets = number(population.sockets as f64, 0);
            row(page, &[&sockets, ours.name(), theirs.name(), &ratio]);
        }
    }
    let _ = write!(
        page,
        "\nWhole processes, from start to exit; each ratio is of two runs of the same round. {} shows addresses and states \
         and {} TCP's own numbers as well, which is what the ledger is given; {} shows processes, but not those \
         numbers. They print what they know, and tcptrace keeps it: each does its own work, not the other's. `stat` counts, sets beside \
         limits, and looks at the accept queues; `stuck` looks twice, {LOOKS_APART} apart, with the owner of each socket and what \
         sockets tell themselves, and judges: that pause is in its time.\n",
        Program::Ss.name(),
        Program::SsInfo.name(),
        Program::SsOwners.name(),
    );
    Ok(())
}

fn whole(page: &mut String, measured: &Measured) -> Result<()> {
    let header = ["sockets", "", "time", "CPU time", "memory at its peak", "runs"];
    table(page, "Whole processes", &header);
    for population in &measured.populations {
        for program in PROGRAMS {
            let took: Vec<&Took> = population.of(program).map(|run| &run.took).collect();
            if took.is_empty() {
                continue; // not installed
            }
            let time = milliseconds(took.iter().map(|took| took.wall.as_secs_f64()))?;
            let than = if took.iter().any(|took| took.cut_off) { "more than " } else { "" };
            let cpu = milliseconds(took.iter().map(|took| took.cpu.as_secs_f64()))?;
            let peak = Spread::of(took.iter().map(|took| mebibytes(took.peak)))?;
            row(
                page,
                &[
                    &number(population.sockets as f64, 0),
                    program.name(),
                    &format!("{than}{time}"),
                    &cpu,
                    &format!("{} MiB", number(peak.median, 1)),
                    &took.len().to_string(),
                ],
            );
        }
    }
    let waits = measured.populations.iter().flat_map(|population| population.of(Program::Ss));
    let waited = Spread::of(waits.map(|run| waited(&run.took) * 100.0))?.show(1, "%");
    let _ = write!(
        page,
        "\ntcptrace lists on one thread and folds on another, so its time may be less than its CPU time. How quiet the \
         machine was: {} never waits for anything, and was without a processor for {waited} of its time.\n",
        Program::Ss.name(),
    );
    Ok(())
}

fn inside(page: &mut String, measured: &Measured) -> Result<()> {
    let header = [
        "sockets",
        "",
        "in all",
        "iterator loaded",
        "owners read",
        "waited for the list",
        "ledger",
        "memory of a flow",
    ];
    table(page, "Inside tcptrace", &header);
    for population in &measured.populations {
        for program in [Program::Ledger, Program::Owners] {
            let time = |part: fn(&Said) -> f64| milliseconds(population.said(program).map(part));
            let owners = |part| if program == Program::Owners { time(part) } else { Ok(String::new()) };
            let bytes =
                if program == Program::Ledger { flow(population)?.show(0, "B") } else { String::new() };
            row(
                page,
                &[
                    &number(population.sockets as f64, 0),
                    program.name(),
                    &time(|said| said.total)?,
                    &owners(|said| said.load)?,
                    &owners(|said| said.holders)?,
                    &time(|said| said.wait)?,
                    &time(|said| said.fold)?,
                    &bytes,
                ],
            );
        }
    }
    let _ = write!(
        page,
        "\nFrom the first line of code to the last socket in the ledger. The iterator over open files is loaded once in a \
         program's life; nearly all of that is reading the kernel's types. *Waited for the list* is what is left of the \
         kernel's work when the ledger's is done beside it. Memory is what the process grew by while the ledger was \
         filled, for each flow.\n"
    );
    Ok(())
}

fn method(page: &mut String, measured: &Measured) -> Result<()> {
    let processes: Vec<_> = measured
        .populations
        .iter()
        .map(|population| {
            let plural = if population.processes == 1 { "" } else { "es" };
            let [sockets, processes] =
                [population.sockets, population.processes].map(|n| number(n as f64, 0));
            format!("{sockets} by {processes} process{plural}")
        })
        .collect();
    let _ = write!(
        page,
        "\n## How it is measured\n\n\
         The sockets are both ends of established connections on loopback, half of them IPv4 and half IPv6, in a network \
         namespace of its own, where nothing else is and nothing happens while they are looked at. They are held: {}. \
         Before the first round `ss -tanH` must show exactly as many.\n\n\
         In each round every program runs once inside that namespace, in an order that differs from round to round, with \
         its output thrown away; whoever takes longer than {} s is ended. CPU time and peak memory are the kernel's (wait4), of \
         a process and all its threads. tcptrace runs a hidden command, `snapshot`: what `watch` does at its start, without \
         attaching anything and without writing a line for each socket. It must come to exactly as many sockets, flows and \
         (if asked) owned sockets; if it does not, there is no page.\n\n\
         ## What is not measured\n\n\
         - sockets that come and go meanwhile: then the list may be begun again, and events are folded in between\n\
         - listeners, half-open requests, minisockets; sockets with data under way or timers running\n\
         - several namespaces: they share one table, which is walked for each of them\n\
         - what it takes to write a line for each socket, which `watch` does at its start\n\
         - machines with one processor, where list and ledger take turns; kernels other than this one\n",
        processes.join(", "),
        MOST.as_secs(),
    );
    Ok(())
}

/// The share of its time in which a program that never waits was without a processor.
pub fn waited(took: &Took) -> f64 {
    (1.0 - took.cpu.as_secs_f64() / took.wall.as_secs_f64()).max(0.0)
}

/// Of seconds.
fn milliseconds(seconds: impl IntoIterator<Item = f64>) -> Result<String> {
    let spread = Spread::of(seconds.into_iter().map(|seconds| seconds * 1e3))?;
    let decimals = if spread.median < 100.0 { 1 } else { 0 };
    Ok(if spread.min == spread.max {
        format!("{} ms", number(spread.median, decimals)) // one run
    } else {
        spread.show(decimals, "ms")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::Run, *};

    fn population(sockets: u64, rounds: u32, cut_off: bool) -> Population {
        let mut runs = Vec::new();
        for program in PROGRAMS {
            for round in (0..rounds).filter(|round| program.runs(*round, sockets)) {
                let wall = match program {
                    Program::SsOwners => Duration::from_secs(60),
                    Program::Ledger => Duration::from_millis(200),
                    _ => Duration::from_millis(400 + u64::from(round)),
                };
                let cut_off = cut_off && program == Program::SsOwners;
                let took = Took { wall, cpu: wall / 2, peak: 1 << 20, cut_off };
                let said = program.says().then_some(Said {
                    sockets,
                    flows: sockets,
                    owned: 0,
                    load: 0.05,
                    holders: 0.1,
                    wait: 0.1,
                    fold: 0.1,
                    total: 0.3,
                    ledger: 250 * sockets,
                });
                runs.push(Run { program, round, took, said });
            }
        }
        Population { sockets, processes: 12, runs, wrong: Vec::new() }
    }

    fn page(populations: Vec<Population>) -> String {
        let text = String::new;
        let (command, version, ss, commit) = (text(), text(), text(), text());
        let (date, machine) = (text(), text());
        let absent = vec!["`netstat -nat`"];
        write(&Measured { command, version, ss, commit, date, machine, rounds: 3, absent, populations })
            .unwrap()
    }

    #[test]
    fn targets_are_told_for_their_population_only() {
        assert!(page(vec![population(10_000, 3, false)]).contains("No verdict"));
        let page = page(vec![population(10_000, 3, false), population(200_000, 3, false)]);
        for line in [
            "| 200,000 sockets into the ledger | 0.30 s (0.30 to 0.30) | ≤ 0.25 s | **no** |",
            "| memory of the ledger, a flow | 250 B (250 to 250) | ≤ 256 B | yes |",
            "| 200,000 | tcptrace | `ss -tan` | 0.50 × (0.50 to 0.50) |",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
        assert!(page.contains("was run once only among 200,000 sockets"));
        assert!(page.contains("not installed here, so not measured: `netstat -nat`"));
    }

    #[test]
    fn who_was_ended_would_have_taken_longer() {
        let page = page(vec![population(200_000, 3, true)]);
        assert!(page.contains("| 200,000 | `ss -tanp` | more than 60,000 ms |"), "{page}");
        assert!(page.contains("| `ss -tanp` | less than 0.007 ×"), "{page}");
    }
}
