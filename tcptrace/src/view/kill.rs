//! The lines of `kill` for people: what would be ended, what came of each, what was left alone.

use super::{Duration, Palette, errno};
use crate::{
    event::TcpState,
    kill::{LeftOut, Outcome, Tally, Target},
    sight::Kind,
};
use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// Room for two IPv4 addresses with ports.
const ENDS_WIDTH: usize = 43;
/// Room for the timer that is the usual one here.
const TIMER_WIDTH: usize = 28;
/// A long line is better than a table nobody can read.
const MAX_ENDS_WIDTH: usize = 96;

/// Columns that fit these targets.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    palette: Palette,
    /// Only where nothing is a dry run: what came of it.
    results: bool,
    ends: usize,
    owner: usize,
    /// More than one namespace is looked at.
    netns: bool,
}

impl Columns {
    /// For these.
    pub fn new(palette: Palette, results: bool, netns: bool, targets: &[Target]) -> Self {
        let widest = |width: fn(&Target) -> usize| targets.iter().map(width).max().unwrap_or(0);
        Self {
            palette,
            results,
            ends: widest(|target| ends(target).len()).clamp(ENDS_WIDTH, MAX_ENDS_WIDTH),
            owner: widest(|target| owner(target).len()).max("OWNER".len()),
            netns,
        }
    }

    /// Their names.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn header(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { palette, ends, owner, .. } = self;
        let strong = palette.strong;
        let netns = if self.netns { format!("{:<11} ", "NETNS") } else { String::new() };
        let timer = if self.results { format!("{:<TIMER_WIDTH$} RESULT", "TIMER") } else { "TIMER".into() };
        writeln!(
            out,
            "{strong}{:<11} {:<17} {netns}{:<ends$} {:<owner$} {:<20} {timer}{strong:#}",
            "STATE", "AGE", "LOCAL -> REMOTE", "OWNER", "FLOW"
        )
    }

    /// One socket.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn row(&self, out: &mut impl Write, target: &Target, outcome: &Outcome) -> io::Result<()> {
        let Self { palette, ends: ends_width, owner: owner_width, .. } = self;
        let sight = &target.seen.sight;
        let netns = if self.netns { format!("{:<11} ", sight.netns) } else { String::new() };
        let mut line = format!(
            "{:<11} {:<17} {netns}{:<ends_width$} {:<owner_width$} {:<20} {:<TIMER_WIDTH$}",
            sight.state.name(),
            age(target),
            ends(target),
            owner(target),
            sight.cookie,
            timer(target),
        );
        if self.results {
            let style = match outcome {
                Outcome::Killed => palette.good,
                bad if bad.is_failure() => palette.bad,
                _ => palette.dim,
            };
            let _ = write!(line, " {style}{}{style:#}", told(outcome, target));
        }
        writeln!(out, "{}", line.trim_end())
    }
}

/// What came of a socket, in words.
pub fn told(outcome: &Outcome, target: &Target) -> String {
    match outcome {
        Outcome::Would => "would be killed".to_owned(),
        Outcome::Killed => "killed".to_owned(),
        Outcome::Gone => "gone already".to_owned(),
        Outcome::Changed(state, kind) => {
            let kind = match kind {
                Kind::Full => "",
                Kind::Request => " (half-open)",
                Kind::Minisocket => " (minisocket)",
            };
            format!("left alone: it is in {}{kind} now", state.name())
        }
        Outcome::Younger(Some(ns)) => {
            format!("left alone: now only {} in its state are proved", Duration(*ns))
        }
        Outcome::Younger(None) => "left alone: nothing tells its age any more".to_owned(),
        Outcome::Refused(number) => format!("refused: {}", refusal(*number, target.seen.sight.kind)),
        Outcome::Stayed(state) if target.seen.sight.is_orphan() => format!(
            "the kernel says it is done, but it is still there in {}: before Linux 6.11 orphans are not ended by this, \
             and lose the timer that would have ended them",
            state.name()
        ),
        Outcome::Stayed(state) => {
            format!("the kernel says it is done, but it is still there in {}", state.name())
        }
        Outcome::Spared => "left alone: this kernel did not end the orphan before it".to_owned(),
        Outcome::Failed(why) => why.clone(),
    }
}

/// An errno of SOCK_DESTROY.
fn refusal(number: i32, kind: Kind) -> String {
    let why = match (number, kind) {
        (libc::EPERM, _) => "it needs CAP_NET_ADMIN in the user namespace that owns this network namespace",
        (libc::EOPNOTSUPP, Kind::Minisocket) => {
            "this kernel cannot end minisockets (Linux 6.0 and later can), or was built without \
             CONFIG_INET_DIAG_DESTROY"
        }
        (libc::EOPNOTSUPP, _) => {
            "this kernel cannot end sockets: it was built without CONFIG_INET_DIAG_DESTROY"
        }
        (libc::EINVAL, _) => "this kernel does not know SOCK_DESTROY, which came with Linux 4.5",
        _ => "",
    };
    let name = errno(u16::try_from(number).unwrap_or_default());
    if why.is_empty() {
        format!("{name}: {}", io::Error::from_raw_os_error(number))
    } else {
        format!("{name}: {why}")
    }
}

/// The lines after the last socket: what was left alone, and why.
///
/// # Errors
/// Those of `out`.
pub fn left_out(out: &mut impl Write, left: &LeftOut) -> io::Result<()> {
    for (count, why) in [
        (left.no_age, "left out: nothing tells how long it is in its state (--older-than wants that proved)"),
        (left.younger, "left out: not proved to be older than --older-than"),
        (left.listeners, "left out: a listener is only killed with --state listen"),
        (left.nobodys, "left out: nothing tells its user or cgroup (half-open, minisocket, orphan)"),
    ] {
        if count > 0 {
            writeln!(out, "{} {why}", sockets(count))?;
        }
    }
    Ok(())
}

/// The sum of what was done.
pub fn sum(tally: &Tally) -> String {
    let mut text = format!("killed {}", sockets(tally.killed));
    for (count, what) in [
        (tally.gone, "gone already"),
        (tally.changed, "changed and left alone"),
        (tally.failed, "not killed"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {what}");
        }
    }
    text
}

/// A number of them.
pub fn sockets(count: u64) -> String {
    format!("{count} socket{}", if count == 1 { "" } else { "s" })
}

fn age(target: &Target) -> String {
    match target.seen.age {
        Some(span) => format!("at least {}", Duration(span.ns)),
        None => "unknown".to_owned(),
    }
}

fn ends(target: &Target) -> String {
    let sight = &target.seen.sight;
    match sight.state {
        TcpState::Listen => format!("{} (listening)", sight.ends.local()),
        _ => format!("{} -> {}", sight.ends.local(), sight.ends.remote()),
    }
}

fn owner(target: &Target) -> String {
    match (&target.held, target.nobody()) {
        (Some(held), _) => {
            let more = match held.processes {
                0 | 1 => String::new(),
                more => format!(" (and {} more)", more - 1),
            };
            format!("{}/{} fd {}{more}", held.process.comm, held.process.pid, held.fd)
        }
        (None, Some(why)) => format!("- ({why})"),
        (None, None) => "unknown".to_owned(),
    }
}

fn timer(target: &Target) -> String {
    let Some(timer) = target.seen.sight.timer else { return "-".to_owned() };
    let mut text = format!("{} in {}", timer.kind.name(), Duration(u64::from(timer.expires_ms) * 1_000_000));
    if timer.retransmits > 0 {
        let _ = write!(text, ", try {}", timer.retransmits);
    }
    text
}
