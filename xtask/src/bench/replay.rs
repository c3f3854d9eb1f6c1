//! `cargo xtask bench replay`: how fast recorded events become what people read, and what a flow takes in memory; writes
//! `docs/replay-cost.md`. The recordings are made up (`tcptrace/examples/crowd.rs`): no machine has to hold a million sockets.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    figures::{Spread, mebibytes, number},
    machine,
    markdown::{Reached, Row, row, table, verdict},
    output::Output,
    report::{self, Report, Subject},
    timed::{self, Took},
};
use crate::{artifacts, tools::output_of};

const PAGE: &str = "docs/replay-cost.md";
/// Different addresses that connections go to.
const PEERS: &str = "100000";
/// Events beyond those that open the connections: the oldest close, others open.
const MORE_EVENTS: u64 = 1_000_000;
/// Connections a second that open and close: so few that few are in TIME_WAIT beside those that are open.
const SLOW: u64 = 200;
/// Events of a connection: the changes of one of its ends.
const EACH: f64 = 5.0;
/// Open at once where they come fast.
const FAST_FLOWS: u64 = 100_000;
/// How long one replay may take.
const MOST: Duration = Duration::from_secs(300);
/// What is done with the events.
const VIEWS: [(&str, &[&str]); 6] = [
    ("read and decode only (`watch --summary --port 1`)", &["watch", "--summary", "--port", "1"]),
    ("and fold (`watch --summary`)", &["watch", "--summary"]),
    ("`watch`", &["watch"]),
    ("`watch --format json`", &["watch", "--format", "json"]),
    ("`hist`", &["hist"]),
    ("`hist --by peer`", &["hist", "--by", "peer"]),
];
/// Of them: nothing passes the filter;
const DECODE: usize = 0;
/// nothing is shown;
const FOLD: usize = 1;
/// a line for each event, as text
const TEXT: usize = 2;
/// and as JSON.
const JSON: usize = 3;
/// So much more may an event cost among many connections: caches are as large as they are.
const FLAT: f64 = 1.5;
/// Bytes of a flow (design).
const FLOW: f64 = 256.0;
/// Events a second on one core, text and JSON likewise.
const RATE: f64 = 1e6;
/// Events a second on one core, replayed or folded (design).
const FOLDED: f64 = 5e6;

/// Options of `cargo xtask bench replay`.
#[derive(Args)]
pub struct Options {
    /// Rounds; the page shows their median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many connections are open at once, several numbers with commas between them, smallest first
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=4_000_000))]
    flows: Vec<u64>,
    /// Connections a second that open and close, in a recording of its own: no machine has to make them
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=20_000_000))]
    rate: u64,
    #[command(flatten)]
    common: report::Common,
}

/// All rounds with one recording.
struct Crowd {
    flows: u64,
    /// Connections a second.
    rate: u64,
    events: u64,
    bytes: u64,
    /// That `watch --format json` writes.
    lines: u64,
    /// By view, in their order.
    runs: [Vec<Took>; VIEWS.len()],
    /// Of a recording that ends when all of them are open: folded.
    openings: Vec<Took>,
}

impl Crowd {
    /// Microseconds of CPU time for an event.
    fn cost(&self, view: usize) -> Result<Spread> {
        Spread::of(self.runs[view].iter().map(|took| took.cpu.as_secs_f64() * 1e6 / self.events as f64))
    }

    /// Likewise, to fold one.
    fn fold(&self) -> Result<Spread> {
        let both = self.runs[FOLD].iter().zip(&self.runs[DECODE]);
        Spread::of(both.map(|(fold, decode)| each(fold, decode, self.events)))
    }

    /// To read, decode and fold one that opens a connection.
    fn opening(&self) -> Result<Spread> {
        let events = 2.0 * self.flows as f64;
        Spread::of(self.openings.iter().map(|took| took.cpu.as_secs_f64() * 1e6 / events))
    }

    /// And one of those after, by round.
    fn later(&self) -> impl Iterator<Item = f64> {
        let events = self.events - 2 * self.flows;
        self.runs[FOLD].iter().zip(&self.openings).map(move |(all, first)| each(all, first, events))
    }

    /// What is wrong with it: a view that shows nothing costs nothing.
    fn wrong(&self) -> Option<String> {
        (self.lines < self.events)
            .then(|| format!("watch --format json wrote {} lines for {} events", self.lines, self.events))
    }

    fn peak(&self, view: usize) -> Result<Spread> {
        Spread::of(self.runs[view].iter().map(|took| took.peak as f64))
    }
}

/// Microseconds of each event that one took and the other did not.
fn each(more: &Took, less: &Took, events: u64) -> f64 {
    (more.cpu.as_secs_f64() - less.cpu.as_secs_f64()) * 1e6 / events as f64
}

/// Measures and writes.
pub fn run(options: &Options) -> Result<ExitCode> {
    let flows: Vec<_> = options.flows.iter().map(u64::to_string).collect();
    let (rounds, rate) = (options.rounds.to_string(), options.rate.to_string());
    let words = ["--flows", &flows.join(","), "--rate", &rate, "--rounds", &rounds];
    let report = Report {
        task: &["bench", "replay"],
        page: PAGE,
        why_root: None,
        arguments: words.map(str::to_owned).to_vec(),
    };
    report.run(&options.common, |subject| {
        let mut crowds = Vec::new();
        let generator = build(subject)?;
        for flows in &options.flows {
            crowds.push(measure(subject, &generator, *flows, SLOW, options.rounds)?);
        }
        let fast = measure(subject, &generator, FAST_FLOWS, options.rate, options.rounds)?;
        let wrong = crowds.iter().chain([&fast]).flat_map(Crowd::wrong).collect();
        Ok((page(subject, &report.command(), options.rounds, &crowds, &fast)?, wrong))
    })
}

fn build(subject: &Subject) -> Result<PathBuf> {
    let mut cargo = subject.tools.cargo();
    cargo.args(["build", "--release", "--package", "tcptrace", "--example", "crowd"]);
    artifacts::build_one(&mut cargo, "crowd")
}

/// A recording that is gone when nobody needs it.
struct Recording(PathBuf);

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn measure(subject: &Subject, generator: &Path, flows: u64, rate: u64, rounds: u32) -> Result<Crowd> {
    eprintln!("{} connections, {} a second", number(flows as f64, 0), number(rate as f64, 0));
    // Two events open one.
    let (opening, _) = record(subject, generator, flows, rate, flows * 2)?;
    let (recording, events) = record(subject, generator, flows, rate, flows * 2 + MORE_EVENTS)?;
    let bytes = fs::metadata(&recording.0)?.len();
    let lines = lines(subject, &recording.0)?;
    let (runs, openings) = Default::default();
    let mut crowd = Crowd { flows, rate, events, bytes, lines, runs, openings };
    for round in 0..rounds as usize {
        eprintln!("  round {} of {rounds}", round + 1);
        // Each round begins with another one, so that nobody always follows the same.
        for index in 0..VIEWS.len() {
            let view = (round + index) % VIEWS.len();
            crowd.runs[view].push(replay(subject, VIEWS[view].1, &recording.0, Stdio::null())?);
        }
        crowd.openings.push(replay(subject, VIEWS[FOLD].1, &opening.0, Stdio::null())?);
    }
    Ok(crowd)
}

fn record(
    subject: &Subject,
    generator: &Path,
    flows: u64,
    rate: u64,
    events: u64,
) -> Result<(Recording, u64)> {
    let name = format!("tcptrace-crowd-{}-{flows}-{rate}-{events}.tct", std::process::id());
    let recording = Recording(std::env::temp_dir().join(name));
    let mut command = subject.tools.command(generator);
    command.args([&flows.to_string(), &events.to_string(), PEERS, &rate.to_string()]).arg(&recording.0);
    let events = output_of(&mut command)?.trim().parse().context("the recording has no events")?;
    Ok((recording, events))
}

fn replay(subject: &Subject, view: &[&str], recording: &Path, to: impl Into<Stdio>) -> Result<Took> {
    let mut command = subject.tools.command(&subject.program);
    command.args(view).arg("--from").arg(recording);
    command.stdin(Stdio::null()).stdout(to).stderr(Stdio::null());
    timed::run(&mut command, None, MOST)
}

fn lines(subject: &Subject, recording: &Path) -> Result<u64> {
    let out = Output::new()?;
    replay(subject, VIEWS[JSON].1, recording, out.for_child()?)?;
    out.lines()
}

fn page(subject: &Subject, command: &str, rounds: u32, crowds: &[Crowd], fast: &Crowd) -> Result<String> {
    let mut page = format!(
        "# What an event costs user space\n\nWritten by `{command}`. Run it again instead of editing this page.\n\n\
        - measured: {}, {}, on {}\n- machine: {}\n\n\
        Every figure is the median of {rounds} rounds, with the smallest and the largest behind it. Recordings of made-up \
        connections to {} addresses: so many open at once, then {} more events in which the oldest close and others open. \
        Times are CPU time of the whole process, which runs in one thread: reading and unpacking the file, decoding, the \
        ledger, and writing what the view says.\n",
        machine::version(&subject.tools, &subject.program)?,
        subject.commit,
        machine::date(&subject.tools)?,
        machine::describe(),
        number(PEERS.parse()?, 0),
        number(MORE_EVENTS as f64, 0),
    );
    if let (Some(few), Some(many)) = (crowds.first(), crowds.last()) {
        verdict(&mut page, &rows(few, many)?);
    }
    let header =
        ["connections open", "events", "", "a million events", "events/s, one core", "memory at its peak"];
    table(&mut page, "Views", &header);
    for crowd in crowds {
        for (view, (name, _)) in VIEWS.iter().enumerate() {
            let cost = crowd.cost(view)?;
            row(
                &mut page,
                &[
                    &number(crowd.flows as f64, 0),
                    &number(crowd.events as f64, 0),
                    name,
                    &cost.show(2, "s"),
                    &format!("{} million", number(1.0 / cost.median, 2)),
                    &format!("{:.0} MiB", mebibytes(crowd.peak(view)?.median as u64)),
                ],
            );
        }
    }
    growth(&mut page, crowds)?;
    rates(&mut page, fast)?;
    for crowd in crowds {
        let each = crowd.bytes as f64 / crowd.events as f64;
        let _ = write!(
            page,
            "\nThe recording of {} connections takes {each:.1} bytes an event.",
            number(crowd.flows as f64, 0)
        );
    }
    page.push_str(
        "\n\n`stuck` and `stat` look at lists of sockets, which these recordings do not have: [snapshot.md](snapshot.md).\n",
    );
    Ok(page)
}

fn growth(page: &mut String, crowds: &[Crowd]) -> Result<()> {
    table(
        page,
        "As flows grow",
        &["connections open", "to open them, a million events", "later, a million events"],
    );
    for crowd in crowds {
        let (opening, later) = (crowd.opening()?, Spread::of(crowd.later())?);
        row(page, &[&number(crowd.flows as f64, 0), &opening.show(2, "s"), &later.show(2, "s")]);
    }
    page.push_str(
        "\nRead, decoded and folded. To open a connection takes memory that nobody has used before; later ones take the \
         place of those that end. The first figure has the start and the end of the process in it, which is much where \
         connections are few.\n",
    );
    Ok(())
}

fn rates(page: &mut String, fast: &Crowd) -> Result<()> {
    let rate = number(fast.rate as f64, 0);
    table(
        page,
        &format!("{rate} connections a second"),
        &["", "a million events", "processors for that rate", "connections/s, one core"],
    );
    for (view, (name, _)) in VIEWS.iter().enumerate() {
        let cost = fast.cost(view)?;
        let processors = cost.median / 1e6 * EACH * fast.rate as f64;
        let most = 1e6 / (cost.median * EACH);
        row(page, &[name, &cost.show(2, "s"), &number(processors, 2), &number(most, 0)]);
    }
    let _ = write!(
        page,
        "\nA recording in which {} connections are open, and {rate} a second end while others open: {} events in {} s, \
         {EACH:.0} of each connection (the changes of one of its ends). *Processors* is what a million events take, \
         times the events of a second: one thread does it all, so from 1 on it falls behind.\n",
        number(fast.flows as f64, 0),
        number(fast.events as f64, 0),
        number(fast.events as f64 / EACH / fast.rate as f64, 2),
    );
    Ok(())
}

fn rows(few: &Crowd, many: &Crowd) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let open = |crowd: &Crowd| format!("{} connections open", number(crowd.flows as f64, 0));
    let mut rate = |what: String, cost: f64, target: f64| {
        let measured = 1e6 / cost;
        rows.push(Row {
            what,
            measured: number(measured, 0),
            target: format!("≥ {}", number(target, 0)),
            reached: (measured >= target).into(),
        });
    };
    let fold = few.fold()?.median;
    rate(
        format!("events folded a second, without reading and decoding, one core, {}", open(few)),
        fold,
        FOLDED,
    );
    let more = (many.flows > few.flows).then_some(many);
    for crowd in [few].into_iter().chain(more) {
        let cost = crowd.cost(FOLD)?.median;
        rate(format!("events read, decoded and folded a second, one core, {}", open(crowd)), cost, FOLDED);
    }
    let slowest = f64::max(many.cost(TEXT)?.median, many.cost(JSON)?.median);
    rate(format!("events to lines a second, one core, {}", open(many)), slowest, RATE);
    if let Some(many) = more {
        let flow = (many.peak(FOLD)?.median - few.peak(FOLD)?.median) / (many.flows - few.flows) as f64;
        rows.push(Row {
            what: "memory of the ledger, a flow".to_owned(),
            measured: format!("{} B", number(flow, 0)),
            target: format!("≤ {} B", number(FLOW, 0)),
            reached: (flow <= FLOW).into(),
        });
        let ratio = Spread::of(many.later().zip(few.later()).map(|(many, few)| many / few))?;
        rows.push(Row {
            what: "a later event among the most connections, beside one among the fewest".to_owned(),
            measured: ratio.show(2, "×"),
            target: "flat".to_owned(),
            // Each is a difference of two times.
            reached: if ratio.min <= 0.0 || ratio.straddles(FLAT) {
                Reached::Unclear
            } else {
                (ratio.median <= FLAT).into()
            },
        });
    }
    Ok(rows)
}
