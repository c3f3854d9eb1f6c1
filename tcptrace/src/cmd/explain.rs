//! `tcptrace explain`: the whole story of one connection, or of the few on a port or with an address.

mod what;

use super::{
    block_on,
    filter_args::present,
    observer::{Plan, Show, observe},
    sandbox_args::SandboxArgs,
    trace::Format,
};
use crate::{
    cli,
    diagnose::{
        Case, Diagnosis, Finding, Scene,
        retries::{Retries, retries},
    },
    enrich::Places,
    error::EXIT_OK,
    flow::{Entry, FlowId, What},
    run::{Origin, Started},
    view::{self, ColorChoice, Lines, Palette},
    wall::Wall,
    wire,
};
use anyhow::bail;
use hashbrown::HashMap;
use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};
use what::Subject;

/// Arguments of `explain`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tcptrace explain 10000                     the connections on that port, stuck ones first\n  \
    tcptrace explain 10.0.0.9                  those with that address\n  \
    tcptrace explain 10.0.0.1:52624            the one with that end\n  \
    tcptrace explain flow:4711 --for 1m        the one with that cookie (`ss -e` shows it: sk:1267), watched for a minute")]
pub struct Args {
    /// A port, an address or network, address:port ([address]:port for IPv6), or a flow: flow:4711, sk:1267
    #[arg(value_parser = what::parse)]
    what: Subject,
    /// How long to watch before telling; Ctrl-C tells at once
    #[arg(long = "for", value_parser = cli::interval, allow_hyphen_values = true, default_value = "2s", value_name = "TIME")]
    watch_for: Duration,
    /// Connections told of; the others are counted
    #[arg(long, default_value_t = 10, value_parser = |text: &str| cli::some::<usize>(text, "connections"), allow_hyphen_values = true, value_name = "N")]
    max: usize,
    /// Network namespace, instead of all: a name of `ip netns`, a pid, a file, or net:[number]
    #[arg(long, value_name = "NETNS")]
    netns: Vec<String>,
    /// Do not trace; only look at the sockets
    #[arg(long)]
    no_trace: bool,
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// As a recording (`tcptrace record`) tells it; `-`: standard input
    #[arg(long, value_name = "FILE", conflicts_with = "no_trace")]
    from: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: Format,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    color: ColorChoice,
}

/// Watches for a while, looks, and tells.
///
/// # Errors
/// What is wrong, why, and what to type; also if there is no such connection.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let mut filter = args.what.filter();
    filter.netns = present(&args.netns, args.from.is_some())?;
    let make = |origin: &Origin, started: &Started| Teller {
        what: args.what.clone(),
        max: args.max,
        format: args.format,
        palette: Palette::new(args.color),
        wall: origin.wall(),
        places: origin.places.clone(),
        owners: wire::Owners::new(origin.places.clone()),
        began_ns: started.began_ns,
        stories: HashMap::new(),
        line: Vec::new(),
        told: 0,
    };
    let plan = Plan {
        filter,
        older_than: None,
        every: args.watch_for,
        looks: Some(2),
        no_trace: args.no_trace,
        sandbox: args.sandbox.into(),
        from: args.from,
    };
    let recorded = plan.from.is_some();
    let teller = block_on(observe(plan, make))?;
    if teller.told == 0 && recorded {
        bail!(
            "the recording tells of no connection with {}; `tcptrace stat --from FILE --all-netns --by port` lists them",
            args.what
        );
    }
    if teller.told == 0 {
        bail!(
            "no connection with {} is there, and none ended while we watched; `tcptrace stat --by port` and `ss -tan` list them",
            args.what
        );
    }
    Ok(EXIT_OK)
}

/// Things that happened, remembered for each connection; what is beyond is counted.
const MAX_STORY: usize = 200;
/// Connections whose story is remembered.
const MAX_STORIES: usize = 10_000;

/// What happened to one connection while we watched.
#[derive(Default)]
struct Story {
    entries: Vec<Entry>,
    beyond: u64,
}

/// Collects what happens, and tells it at the end.
struct Teller {
    what: Subject,
    max: usize,
    format: Format,
    palette: Palette,
    wall: Wall,
    places: Places,
    owners: wire::Owners,
    began_ns: u64,
    stories: HashMap<FlowId, Story>,
    line: Vec<u8>,
    told: usize,
}

/// One connection, as it is told.
struct Telling<'a> {
    /// `None`: it has ended while we watched.
    case: Option<&'a Case>,
    entries: &'a [Entry],
    beyond: u64,
    findings: Vec<&'a Finding>,
    retries: Option<Retries>,
}

impl Show for Teller {
    fn entry(&mut self, entry: &Entry) {
        let full = self.stories.len() >= MAX_STORIES && !self.stories.contains_key(&entry.who.id);
        if full || !self.what.concerns_entry(entry) {
            return;
        }
        let story = self.stories.entry(entry.who.id).or_default();
        if story.entries.len() < MAX_STORY {
            story.entries.push(entry.clone());
        } else {
            story.beyond += 1;
        }
    }

    fn everything(&self) -> bool {
        true
    }

    fn show(&mut self, scene: &Scene, diagnosis: Diagnosis, notes: &[String]) -> io::Result<()> {
        let stories = std::mem::take(&mut self.stories);
        let nothing = Story::default();
        let cases = scene.cases.iter().chain(&scene.listeners).filter(|case| self.what.concerns(&case.sight));
        let mut tellings: Vec<Telling<'_>> = cases
            .map(|case| {
                let id = FlowId::Cookie(case.sight.cookie);
                let story = stories.get(&id).unwrap_or(&nothing);
                Telling {
                    case: Some(case),
                    entries: &story.entries,
                    beyond: story.beyond,
                    findings: diagnosis.findings.iter().filter(|finding| finding.subject.id == id).collect(),
                    retries: retries(case, scene),
                }
            })
            .collect();
        let there: Vec<FlowId> =
            tellings.iter().filter_map(|telling| Some(FlowId::Cookie(telling.case?.sight.cookie))).collect();
        let mut gone: Vec<_> = stories.iter().filter(|(id, _)| !there.contains(id)).collect();
        gone.sort_by_key(|(_, story)| {
            story.entries.first().map(|entry| (entry.time_ns, entry.who.ends.remote, entry.who.ends.rport))
        });
        tellings.extend(gone.into_iter().map(|(_, story)| Telling {
            case: None,
            entries: &story.entries,
            beyond: story.beyond,
            findings: Vec::new(),
            retries: None,
        }));
        // Stuck ones first, then those to which something happened, then the rest; in each the oldest first.
        let age = |telling: &Telling<'_>| telling.case.and_then(|case| case.told.age).map_or(0, |age| age.ns);
        tellings.sort_by_key(|telling| {
            let calm = u8::from(telling.entries.is_empty());
            (
                u8::from(telling.findings.is_empty()),
                u8::from(telling.case.is_none()),
                calm,
                std::cmp::Reverse(age(telling)),
            )
        });
        let about_many: Vec<_> =
            diagnosis.findings.iter().filter(|finding| finding.subject.id == FlowId::None).collect();
        self.told = tellings.len() + about_many.len();
        let shown = &tellings[..tellings.len().min(self.max)];
        let write = |this: &mut Self| match this.format {
            Format::Json => this.json(scene, shown, &about_many),
            Format::Text => this.text(scene, shown, &about_many, tellings.len(), notes),
        };
        write(self)?;
        let mut out = io::stdout().lock();
        let written = out.write_all(&self.line).and_then(|()| out.flush());
        self.line.clear();
        written
    }
}

impl Teller {
    fn text(
        &mut self,
        scene: &Scene,
        shown: &[Telling<'_>],
        about_many: &[&Finding],
        all: usize,
        notes: &[String],
    ) -> io::Result<()> {
        let palette = self.palette;
        let mut lines = Lines::new(palette);
        let page =
            view::explain::Page { palette: &palette, taken_ns: scene.taken.from_ns, began_ns: self.began_ns };
        for finding in about_many {
            page.finding(&mut self.line, finding)?;
            writeln!(self.line)?;
        }
        for telling in shown {
            match telling.case {
                Some(case) => page.head(&mut self.line, &case.subject(), case.told.age)?,
                None => page.gone(&mut self.line, telling.entries.last())?,
            }
            page.section(&mut self.line, "what happened")?;
            self.happened(&page, &mut lines, telling)?;
            if telling.beyond > 0 {
                writeln!(self.line, "  … and {} events more", telling.beyond)?;
            }
            if let Some(case) = telling.case {
                page.now(&mut self.line, &mut self.wall, case)?;
                page.section(&mut self.line, "what it means")?;
                match telling.findings.as_slice() {
                    [] => page.in_order(&mut self.line, case)?,
                    findings => {
                        findings.iter().try_for_each(|finding| page.finding(&mut self.line, finding))?
                    }
                }
                if let Some(retries) = &telling.retries {
                    page.section(&mut self.line, "what is tried")?;
                    page.ladder(&mut self.line, &mut self.wall, retries)?;
                }
            }
            writeln!(self.line)?;
        }
        if all > shown.len() {
            writeln!(self.line, "and {} connections more; --max {all} tells of all", all - shown.len())?;
        }
        notes.iter().try_for_each(|note| writeln!(self.line, "{note}"))
    }

    /// Events and conclusions, in the order of their times.
    fn happened(
        &mut self,
        page: &view::explain::Page<'_>,
        lines: &mut Lines,
        telling: &Telling<'_>,
    ) -> io::Result<()> {
        let concluded = telling
            .case
            .map(|case| page.concluded(case, telling.retries.as_ref(), telling.entries))
            .unwrap_or_default();
        let mut all: Vec<(u64, Vec<u8>)> = Vec::new();
        for (at_ns, text) in concluded {
            all.push((at_ns, format!("{} {text}\n", self.wall.clock(at_ns)).into_bytes()));
        }
        // How it was seen first is told by the conclusions, and by the last line.
        let events = telling.entries.iter().filter(|entry| !matches!(entry.what, What::Sight(_)));
        for entry in events {
            let mut line = Vec::new();
            lines.event(&mut line, &mut self.wall, entry)?;
            all.push((entry.time_ns, line));
        }
        all.sort_by_key(|(at_ns, _)| *at_ns);
        for (_, line) in all {
            self.line.extend_from_slice(b"  ");
            self.line.extend_from_slice(&line);
        }
        Ok(())
    }

    fn json(&mut self, scene: &Scene, shown: &[Telling<'_>], about_many: &[&Finding]) -> io::Result<()> {
        let taken_ns = scene.taken.from_ns;
        for finding in about_many {
            wire::finding::line(&mut self.line, &mut self.wall, &self.places, taken_ns, finding)?;
        }
        for telling in shown {
            for entry in telling.entries {
                wire::entry(&mut self.line, &mut self.wall, &mut self.owners, entry)?;
            }
            for finding in &telling.findings {
                wire::finding::line(&mut self.line, &mut self.wall, &self.places, taken_ns, finding)?;
            }
            if let Some(case) = telling.case {
                wire::explain::line(
                    &mut self.line,
                    &mut self.wall,
                    &self.places,
                    case,
                    telling.retries.as_ref(),
                )?;
            }
        }
        Ok(())
    }
}
