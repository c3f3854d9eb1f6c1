//! Findings for people: the answer first, then the evidence, then the next step.

use super::{Duration, Palette};
use crate::{
    diagnose::{
        Deadline, Diagnosis, Finding, OnTheWay, Scene, Setting, Subject, group::Group, history::Place,
        limits::Limit,
    },
    event::TcpState,
    flow::{
        Role, Span,
        owner::{Owner, Source},
    },
    sight::Kind,
};
use hashbrown::HashMap;
use std::io::{self, Write};

/// How a page is written.
pub struct Page<'a> {
    /// Colours.
    pub palette: &'a Palette,
    /// Each finding with its evidence, not only groups.
    pub verbose: bool,
    /// What counts as stuck, where the user said so.
    pub older_than: Option<std::time::Duration>,
    /// The time of day, where one page follows another.
    pub time: Option<String>,
    /// Names of the units or containers that sockets without an owner were made in, by cgroup.
    pub made_in: HashMap<u64, String>,
}

/// What a look came to, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    sockets: u64,
    namespaces: usize,
    on_the_way: Vec<OnTheWay>,
    unexplained: u64,
}

impl Counts {
    /// Of this look.
    pub fn new(scene: &Scene, diagnosis: &Diagnosis) -> Self {
        Self {
            sockets: scene.sockets,
            namespaces: scene.settings.len(),
            on_the_way: diagnosis.on_the_way.clone(),
            unexplained: diagnosis.unexplained,
        }
    }
}

impl<'a> Page<'a> {
    /// Groups only, one by one.
    pub fn plain(palette: &'a Palette) -> Self {
        Self { palette, verbose: false, older_than: None, time: None, made_in: HashMap::new() }
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(
        &self,
        out: &mut impl Write,
        counts: &Counts,
        groups: &[Group],
        notes: &[String],
    ) -> io::Result<()> {
        let Palette { strong, dim, .. } = self.palette;
        if let Some(time) = &self.time {
            write!(out, "{dim}{time}{dim:#} ")?;
        }
        let looked = format!(
            "{} in {}",
            plural(counts.sockets, "socket"),
            plural(counts.namespaces as u64, "namespace")
        );
        if groups.is_empty() {
            writeln!(out, "{strong}nothing is stuck{strong:#} ({looked} looked at)")?;
        } else {
            let stuck: u64 = groups.iter().map(|group| group.count).sum();
            writeln!(
                out,
                "{strong}{}, {}{strong:#} ({looked} looked at)",
                plural(groups.len() as u64, "finding"),
                plural(stuck, "connection")
            )?;
        }
        for group in groups {
            writeln!(out)?;
            self.group(out, group)?;
        }
        self.rest(out, counts, notes)
    }

    fn rest(&self, out: &mut impl Write, counts: &Counts, notes: &[String]) -> io::Result<()> {
        let dim = self.palette.dim;
        let mut lines: Vec<_> = counts.on_the_way.iter().map(|way| self.on_the_way(way)).collect();
        if counts.on_the_way.iter().any(|way| way.perhaps_older > 0) {
            lines.push("what is older than us may be older than it shows: --for 20s, or --watch".to_owned());
        }
        if counts.unexplained > 0 {
            let fit = if counts.unexplained == 1 { "fits" } else { "fit" };
            let connections = plural(counts.unexplained, "connection");
            lines.push(format!("{connections} past the limit {fit} no rule"));
        }
        lines.extend(notes.iter().cloned());
        if !lines.is_empty() {
            writeln!(out)?;
        }
        lines.iter().try_for_each(|line| writeln!(out, "{dim}{line}{dim:#}"))
    }

    /// `not stuck: 7 in CLOSE_WAIT, oldest at least 6.50 s, limit 15.0 s`
    fn on_the_way(&self, way: &OnTheWay) -> String {
        let oldest = age(way.oldest).map(|age| format!(", oldest {age}")).unwrap_or_default();
        let limit = match (self.older_than, way.limit) {
            (Some(_), _) | (None, None) => String::new(),
            (None, Some(Limit::Age(ns))) => format!(", limit {}", Duration(ns)),
            (None, Some(Limit::Tries(tries))) => format!(", limit {}", plural(tries, "unanswered retry")),
        };
        format!("not stuck: {} in {}{oldest}{limit}", way.count, way.state.name())
    }

    /// Findings that are alike, as one.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn group(&self, out: &mut impl Write, group: &Group) -> io::Result<()> {
        let Palette { strong, bad, dim, .. } = self.palette;
        let Some(oldest) = group.oldest() else { return Ok(()) };
        writeln!(
            out,
            "{bad}{}{bad:#}  {strong}{}{strong:#}",
            oldest.name,
            title(group, oldest, &self.made_in)
        )?;
        writeln!(out, "  {}", oldest.verdict)?;
        writeln!(out, "  {dim}ends:{dim:#} {}", deadline(group, oldest))?;
        for setting in &oldest.settings {
            writeln!(out, "  {dim}rule:{dim:#} {}", setting_text(setting, oldest.subject.netns))?;
        }
        writeln!(out, "  {dim}next:{dim:#} {}", oldest.next_step)?;
        if self.verbose {
            return group.findings.iter().try_for_each(|finding| self.each(out, finding));
        }
        Ok(())
    }

    fn each(&self, out: &mut impl Write, finding: &Finding) -> io::Result<()> {
        let Palette { strong, dim, .. } = self.palette;
        let subject = &finding.subject;
        writeln!(
            out,
            "    {strong}{}{strong:#} {}{}{}",
            ends(subject),
            subject.state.name(),
            age(finding.age).map(|age| format!(" for {age} ({})", finding.age_from)).unwrap_or_default(),
            whose(subject, &self.made_in).map(|whose| format!(", {whose}")).unwrap_or_default()
        )?;
        writeln!(out, "      {}: {}", finding.confidence.name(), finding.verdict)?;
        for evidence in &finding.evidence {
            writeln!(out, "      {dim}{:<11}{dim:#} {}", evidence.from.name(), evidence.fact)?;
        }
        for missing in &finding.missing {
            writeln!(out, "      {dim}{:<11}{dim:#} {missing}", "unknown")?;
        }
        writeln!(out, "      {dim}{:<11}{dim:#} {}", "ends", one_deadline(&finding.deadline))
    }
}

fn plural(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

/// `412 × FIN_WAIT1 to 10.0.0.9:10000, oldest 93 s, closed by nginx/4242`
fn title(group: &Group, oldest: &Finding, made_in: &HashMap<u64, String>) -> String {
    let subject = &oldest.subject;
    let listens = subject.state == TcpState::Listen;
    let single = listens || (group.findings.len() == 1 && group.count == 1);
    let mut text = if listens {
        format!("LISTEN {}, {} wait", ends(subject), plural(group.count, "connection"))
    } else if single {
        format!("{} {}", subject.state.name(), ends(subject))
    } else {
        format!("{} × {} {}", group.count, subject.state.name(), place(group, subject))
    };
    if let Some(age) = age(oldest.age) {
        text += &if single { format!(", for {age}") } else { format!(", oldest {age}") };
    }
    if let Some(whose) = whose(subject, made_in) {
        text += &format!(", {whose}");
    }
    text
}

/// Where the group's connections go to, or come in.
fn place(group: &Group, subject: &Subject) -> String {
    let place = Place::of(subject.netns, &subject.ends, subject.role);
    let ends = place.ends();
    if ends == Default::default() {
        return format!("in namespace {}", subject.netns);
    }
    if !place.incoming {
        return format!("to {}", ends.remote());
    }
    let peers = group.peers();
    let from = if peers > 1 { format!(" from {peers} addresses") } else { String::new() };
    format!("on {}{from}", ends.local())
}

fn ends(subject: &Subject) -> String {
    if subject.role == Role::Listen || (subject.ends.rport == 0 && subject.ends.lport != 0) {
        return subject.ends.local().to_string();
    }
    if subject.ends == Default::default() {
        return format!("in namespace {}", subject.netns);
    }
    if subject.ends.lport == 0 {
        return format!("to {}", subject.ends.remote());
    }
    format!("{} -> {}", subject.ends.local(), subject.ends.remote())
}

/// `at least 93 s`
pub fn age(age: Option<Span>) -> Option<String> {
    let age = age?;
    Some(if age.exact { Duration(age.ns).to_string() } else { format!("at least {}", Duration(age.ns)) })
}

/// `closed by nginx/4242`, `of nginx/4242, descriptor 7`
pub fn whose(subject: &Subject, made_in: &HashMap<u64, String>) -> Option<String> {
    let name = |owner: &Owner| {
        let guess = if owner.source == Source::Listener { "?" } else { "" };
        format!("{}/{}{guess}", owner.process.comm, owner.process.pid)
    };
    let orphan = subject.fd.is_none() && subject.kind != Kind::Request;
    match (&subject.closed_by, &subject.owner) {
        (Some(closer), _) if orphan => Some(format!("closed by {}", name(closer))),
        (_, Some(owner)) => {
            let fd = subject.fd.map(|fd| format!(", descriptor {fd}")).unwrap_or_default();
            Some(format!("of {}{fd}", name(owner)))
        }
        (Some(closer), None) => Some(format!("closed by {}", name(closer))),
        (None, None) => made_in.get(&subject.cgroup?).map(|place| format!("made in {place}")),
    }
}

fn deadline(group: &Group, oldest: &Finding) -> String {
    match group.deadline_ns {
        Some((soonest, latest)) if group.findings.len() > 1 => {
            let Deadline::In { then, .. } = oldest.deadline else { return one_deadline(&oldest.deadline) };
            format!(
                "by themselves, the first in {}, the last within {}: {then}",
                Duration(soonest),
                Duration(latest)
            )
        }
        _ => one_deadline(&oldest.deadline),
    }
}

/// Nearer than this a time has no beginning for people.
const SOON_NS: u64 = 10_000_000;

/// When the kernel acts, in words.
pub fn one_deadline(deadline: &Deadline) -> String {
    match deadline {
        Deadline::Never(what) => format!("never by itself: {what}"),
        Deadline::Unknown(why) => format!("unknown: {why}"),
        Deadline::In { earliest_ns, latest_ns, then, retries_left } => {
            let retries = match retries_left {
                0 => String::new(),
                1 => ", after 1 more try".to_owned(),
                more => format!(", after {more} more tries"),
            };
            if *earliest_ns < SOON_NS {
                return format!("within {}{retries}: {then}", Duration(*latest_ns));
            }
            format!("in {} to {}{retries}: {then}", Duration(*earliest_ns), Duration(*latest_ns))
        }
    }
}

/// `net.ipv4.tcp_orphan_retries = 0 (0 means 8)`
pub fn setting_text(setting: &Setting, netns: u32) -> String {
    let value = setting.value.as_deref().unwrap_or("unknown");
    let meaning = setting.meaning.map(|meaning| format!(" ({meaning})")).unwrap_or_default();
    let place = if setting.name.starts_with("net.") { format!(" in net:[{netns}]") } else { String::new() };
    format!("{} = {value}{place}{meaning}", setting.name)
}
