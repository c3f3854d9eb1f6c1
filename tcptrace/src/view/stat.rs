//! Sockets and their limits, for people: first what stands out, then the tables.

pub mod tick;

use super::Palette;
use crate::{
    event::TcpState,
    stat::{
        ORDER, Tally,
        limits::Use,
        rates::{ROWS, Row, Values},
        report::Report,
    },
};
use std::io::{self, Write};

/// Accept queues shown at most.
const QUEUES: usize = 5;
/// Of several namespaces the fullest are shown.
const SPACES: usize = 5;
/// The columns of limits and queues.
const FIRST: usize = 28;

/// A whole page.
///
/// # Errors
/// Those of `out`.
pub fn page(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    unusual(out, palette, report)?;
    states(out, palette, report)?;
    groups(out, palette, report)?;
    limits(out, palette, report)?;
    queues(out, palette, report)?;
    since_began(out, palette, report)?;
    notes(out, palette, report)
}

fn unusual(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    let unusual = report.unusual();
    let strong = palette.strong;
    if unusual.is_empty() {
        let seen = if report.notes.is_empty() { "" } else { " in what could be seen" };
        return writeln!(out, "{strong}nothing unusual{seen}{strong:#}");
    }
    unusual.iter().try_for_each(|unusual| {
        let style = if unusual.bad { palette.bad } else { palette.warn };
        writeln!(out, "{style}{}{style:#}", unusual.text)
    })
}

fn states(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    let strong = palette.strong;
    let all = &report.picture.all;
    writeln!(out, "\n{strong}{:<12} {:>9}{strong:#}", "STATE", "SOCKETS")?;
    for state in ORDER.into_iter().filter(|state| shown(all, *state)) {
        let line = format!("{:<12} {:>9}  {}", state.name(), all.count(state), details(all, state));
        writeln!(out, "{}", line.trim_end())?;
    }
    let orphans = match all.orphans() {
        0 => String::new(),
        orphans => format!("  orphans {orphans}: closed by their programs, not yet by TCP"),
    };
    writeln!(out, "{strong}{:<12} {:>9}{strong:#}{orphans}", "total", all.total())
}

/// Nothing is ever listed in CLOSE unless that was asked for.
fn shown(all: &Tally, state: TcpState) -> bool {
    state != TcpState::Close || all.count(state) > 0
}

/// What the sockets in a state are.
fn details(all: &Tally, state: TcpState) -> String {
    let fin_wait2 = all.fin_wait2();
    let counts: &[(u64, &str)] = match state {
        TcpState::SynRecv => &[(all.half_open(), "half-open requests")],
        TcpState::FinWait2 => &[
            (fin_wait2.held, "held by a program"),
            (fin_wait2.orphans, "orphans"),
            (fin_wait2.minisockets, "minisockets"),
        ],
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck => &[(all.orphans_in(state), "orphans")],
        _ => &[(all.unaccepted_in(state), "not accepted yet")],
    };
    let told = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what} {count}"));
    told.collect::<Vec<_>>().join(", ")
}

fn limits(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    let strong = palette.strong;
    let limits = &report.limits;
    let several = limits.timewait.len() > 1;
    let memory = limits.memory;
    let [_, pressure, high] = memory.marks.map_or([None; 3], |marks| marks.map(Some));
    let mut rows: Vec<_> = limits
        .timewait
        .iter()
        .take(SPACES)
        .map(|(netns, of)| {
            let place = if several { format!(" {}", report.space(*netns)) } else { String::new() };
            (format!("timewait buckets{place}"), *of, "TIME_WAIT and FIN_WAIT2 minisockets".to_owned())
        })
        .collect();
    let pages = pressure.map_or_else(String::new, |pages| format!("pages; under pressure from {pages} on"));
    rows.push(("orphans of the machine".to_owned(), limits.orphans, String::new()));
    rows.push(("TCP memory of the machine".to_owned(), Use { used: memory.pages, limit: high }, pages));
    if let Some(count) = limits.no_state {
        let of = "never bound or connected, or in a namespace without a process";
        rows.push((
            "in no state, of the machine".to_owned(),
            Use { used: Some(count), limit: None },
            of.to_owned(),
        ));
    }
    let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0).max(FIRST);
    writeln!(out, "\n{strong}{:<width$} {:>9} {:>9}{strong:#}", "LIMIT", "USED", "OF")?;
    let unknown =
        |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
    for (name, of, what) in rows {
        let percent = of.percent().map_or_else(String::new, |percent| format!("{percent} %"));
        let limit = if name.starts_with("in no state") { "-".to_owned() } else { unknown(of.limit) };
        let line = format!("{name:<width$} {:>9} {limit:>9} {percent:>6} {what}", unknown(of.used));
        writeln!(out, "{}", line.trim_end())?;
    }
    match limits.timewait.len().saturating_sub(SPACES) {
        0 => Ok(()),
        more => writeln!(out, "and {more} more namespaces, with a smaller share of their timewait buckets"),
    }
}

fn queues(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    let picture = &report.picture;
    let strong = palette.strong;
    let several = report.spaces.len() > 1;
    let busy = picture.queues.iter().filter(|queue| queue.waiting > 0 || queue.half_open > Some(0));
    let busy: Vec<_> = busy.take(QUEUES).collect();
    let blank = if busy.is_empty() { "\n" } else { "" };
    if !busy.is_empty() {
        writeln!(
            out,
            "\n{strong}{:<FIRST$} {:>9} {:>9} {:>9}{strong:#}",
            "ACCEPT QUEUE", "WAITING", "LIMIT", "HALF-OPEN"
        )?;
    }
    for queue in busy {
        let local = if several {
            format!("{} {}", queue.local, report.space(queue.netns))
        } else {
            queue.local.to_string()
        };
        let half_open = queue.half_open.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let (style, full) = if queue.is_full() { (palette.bad, " full") } else { (palette.dim, "") };
        writeln!(
            out,
            "{local:<FIRST$} {:>9} {:>9} {half_open:>9}{style}{full}{style:#}",
            queue.waiting, queue.limit
        )?;
    }
    let (listeners, full) = (picture.queues.len() as u64 + picture.queues_beyond, picture.full_queues());
    let idle = picture.queues.iter().all(|queue| queue.waiting == 0);
    let all = if listeners == 1 { "1 listener".to_owned() } else { format!("{listeners} listeners") };
    match (listeners, full) {
        (0, _) => Ok(()),
        (_, 0) if idle => writeln!(out, "{blank}{all}, nothing waits to be accepted"),
        _ => writeln!(out, "{blank}{all}, {full} with a full accept queue"),
    }
}

/// What does not happen on a healthy machine, if it has ever happened.
fn since_began(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    let strong = palette.strong;
    let rows: Vec<_> = ROWS
        .iter()
        .filter(|row| !row.always)
        .filter_map(|row| {
            Some((row, told(row, &report.counters, |count| (count > 0).then(|| count.to_string()))?))
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{strong}SINCE {} BEGAN{strong:#}",
        if report.spaces.len() > 1 { "THE NAMESPACES" } else { "THE NAMESPACE" }
    )?;
    rows.iter().try_for_each(|(row, told)| writeln!(out, "{:<12} {told}", row.title))
}

/// The counters of a row that `number` has words for; `None`: of none of them.
fn told(row: &Row, values: &Values, number: impl Fn(u64) -> Option<String>) -> Option<String> {
    let told: Vec<_> = row
        .counters
        .iter()
        .filter_map(|(name, word)| Some(format!("{word} {}", number(values.get(name)?)?)))
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn groups(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    let Some((by, top)) = &report.picture.groups else { return Ok(()) };
    let all = &report.picture.all;
    let columns: Vec<_> = ORDER.into_iter().filter(|state| all.count(*state) > 0).collect();
    let others = match top.more {
        Some(0) => None,
        Some(more) => Some(format!("({more} others)")),
        None => Some("(others)".to_owned()),
    };
    let rows: Vec<_> = top.groups.iter().map(|(key, tally)| (report.label(key), tally)).collect();
    let rows: Vec<_> = rows.into_iter().chain(others.map(|name| (name, &top.others))).collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).chain([by.name().len()]).max().unwrap_or(0);
    let strong = palette.strong;
    write!(out, "\n{strong}{:<width$} {:>9}", by.name().to_uppercase(), "SOCKETS")?;
    for state in &columns {
        write!(out, " {:>11}", state.name())?;
    }
    writeln!(out, "{strong:#}")?;
    for (name, tally) in rows {
        write!(out, "{name:<width$} {:>9}", tally.total())?;
        for state in &columns {
            match tally.count(*state) {
                0 => write!(out, " {:>11}", "-")?,
                count => write!(out, " {count:>11}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn notes(out: &mut impl Write, palette: &Palette, report: &Report) -> io::Result<()> {
    let dim = palette.dim;
    if !report.notes.is_empty() {
        writeln!(out)?;
    }
    report.notes.iter().try_for_each(|note| writeln!(out, "{dim}note: {note}{dim:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sight::{Kind, Sight},
        source::filter::FilterSpec,
        stat::{
            by::{By, Listeners, NoOwners},
            limits::Limits,
            picture::Count,
            tests::{of, sight},
        },
    };

    fn report(sights: &[Sight], by: Option<By>, top: usize) -> Report {
        let filter = FilterSpec::default();
        let listeners = Listeners::new();
        let mut count = Count::new(&filter, by.map(|by| (by, &listeners, &NoOwners as _)));
        sights.iter().for_each(|sight| count.add(sight));
        Report {
            spaces: vec![(7, "web".to_owned())],
            picture: count.finish(top),
            limits: Limits::default(),
            filtered: false,
            counters: Values::default(),
            interval: None,
            notes: Vec::new(),
        }
    }

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        page(&mut out, &Palette::default(), report).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_unknown_is_said() {
        let empty = text(&report(&[], None, 20));
        assert!(empty.starts_with("nothing unusual\n"), "{empty}");
        assert!(
            empty
                .lines()
                .any(|line| line.split_whitespace().eq("orphans of the machine unknown unknown".split(' ')))
        );
        assert!(!empty.contains("CLOSE \n") && !empty.contains("SINCE"), "{empty}");
        let noted = Report { notes: vec!["needs root: something".to_owned()], ..report(&[], None, 20) };
        let noted = text(&noted);
        assert!(noted.starts_with("nothing unusual in what could be seen\n"), "{noted}");
        assert!(noted.ends_with("\nnote: needs root: something\n"), "{noted}");
    }

    #[test]
    fn details_stand_beside_their_states() {
        let requests =
            Sight { kind: Kind::Request, ..sight(TcpState::NewSynRecv, "10.0.0.1:80", "10.0.0.9:1") };
        let page = text(&report(
            &[
                of(Kind::Full, TcpState::FinWait2, 5),
                of(Kind::Minisocket, TcpState::FinWait2, 0),
                of(Kind::Full, TcpState::LastAck, 0),
                requests,
            ],
            None,
            20,
        ));
        for (state, rest) in [
            ("FIN_WAIT2", "2  held by a program 1, minisockets 1"),
            ("LAST_ACK", "1  orphans 1"),
            ("SYN_RECV", "1  half-open requests 1"),
            ("total", "4  orphans 1: closed by their programs, not yet by TCP"),
        ] {
            let row = page.lines().find_map(|line| line.strip_prefix(state)).unwrap();
            assert_eq!(row.trim_start(), rest, "{page}");
        }
    }

    #[test]
    fn groups_have_the_names_people_know_and_a_row_for_the_others() {
        let elsewhere = Sight { netns: 8, ..of(Kind::Full, TcpState::Established, 5) };
        let sights =
            [of(Kind::Full, TcpState::Established, 5), of(Kind::Full, TcpState::Established, 5), elsewhere];
        let page = text(&report(&sights, Some(By::Netns), 1));
        let rows: Vec<Vec<_>> = page.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["NETNS", "SOCKETS", "ESTABLISHED"]), "{page}");
        assert!(
            rows.contains(&vec!["web", "2", "2"]) && rows.contains(&vec!["(1", "others)", "1", "1"]),
            "{page}"
        );
    }
}
