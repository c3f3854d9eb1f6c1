//! The story of one connection, for people.

use super::{Bytes, Duration, Palette, finding};
use crate::{
    diagnose::{Case, Finding, Subject, retries::Retries},
    event::TcpState,
    flow::{Entry, Role, Span},
    sight::Kind,
    wall::Wall,
};
use hashbrown::HashMap;
use std::io::{self, Write};

/// How a page is written.
pub struct Page<'a> {
    /// Colours.
    pub palette: &'a Palette,
    /// When the sockets were looked at.
    pub taken_ns: u64,
    /// Since when we watch.
    pub began_ns: u64,
}

/// Retries beyond this are summed up.
const RUNGS: usize = 12;

impl Page<'_> {
    /// Who it is, and how it stands.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn head(&self, out: &mut impl Write, subject: &Subject, age: Option<Span>) -> io::Result<()> {
        let Palette { strong, dim, .. } = self.palette;
        let ends = if subject.role == Role::Listen || subject.state == TcpState::Listen {
            format!("{} (listening)", subject.ends.local())
        } else {
            format!("{} -> {}", subject.ends.local(), subject.ends.remote())
        };
        let age = finding::age(age).map(|age| format!(" for {age}")).unwrap_or_default();
        let whose =
            finding::whose(subject, &HashMap::new()).map(|whose| format!(", {whose}")).unwrap_or_default();
        let crate::flow::FlowId::Cookie(cookie) = subject.id else { return Ok(()) };
        writeln!(out, "{strong}{ends}  {}{age}{whose}{strong:#}", subject.state.name())?;
        writeln!(
            out,
            "{dim}flow {cookie} (ss -e: sk:{cookie:x}), net:[{}], {}{}{dim:#}",
            subject.netns,
            subject.kind.name(),
            if subject.role == Role::Unknown { String::new() } else { format!(", {}", subject.role.name()) }
        )
    }

    /// One that has ended while we watched.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn gone(&self, out: &mut impl Write, last: Option<&Entry>) -> io::Result<()> {
        let strong = self.palette.strong;
        let Some(entry) = last else { return Ok(()) };
        let ends = entry.who.ends;
        writeln!(out, "{strong}{} -> {}  ended while we watched{strong:#}", ends.local(), ends.remote())
    }

    /// The name of a part.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn section(&self, out: &mut impl Write, name: &str) -> io::Result<()> {
        let dim = self.palette.dim;
        writeln!(out, "{dim}{name}:{dim:#}")
    }

    /// What is concluded about the time before we watched, and of tries of which no event tells: when, and what.
    pub fn concluded(&self, case: &Case, retries: Option<&Retries>, entries: &[Entry]) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        let watched_ns = self.taken_ns.saturating_sub(self.began_ns);
        if let Some(age) = case.told.age.filter(|age| age.ns > watched_ns) {
            let since_ns = self.taken_ns.saturating_sub(age.ns);
            let bound = if age.exact { "since then" } else { "since then at least" };
            let before = Duration(age.ns - watched_ns);
            lines.push((
                since_ns,
                format!("in {}, {bound} ({before} before we watched)", case.state().name()),
            ));
        }
        let seen = entries.iter().any(|entry| matches!(entry.what, crate::flow::What::Retransmit(_)));
        for tried in retries.iter().flat_map(|retries| &retries.tried) {
            if tried.ago_ns > watched_ns || !seen {
                let what = retries.map(|retries| retries.what).unwrap_or_default();
                let at_ns = self.taken_ns.saturating_sub(tried.ago_ns);
                lines.push((
                    at_ns,
                    format!("{what} sent again, try {} (reckoned from the time-outs)", tried.number),
                ));
            }
        }
        lines
    }

    /// How it stood when it was looked at.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn now(&self, out: &mut impl Write, wall: &mut Wall, case: &Case) -> io::Result<()> {
        let sight = &case.sight;
        write!(out, "  {} seen in {}", wall.clock(self.taken_ns), case.state().name())?;
        if let Some(timer) = sight.timer {
            write!(
                out,
                ", {} timer in {}",
                timer.kind.name(),
                Duration(u64::from(timer.expires_ms) * 1_000_000)
            )?;
        }
        if sight.state == TcpState::Listen {
            write!(out, ", {} wait to be accepted, backlog {}", sight.receive_queue, sight.send_queue)?;
        } else if sight.kind == Kind::Full {
            write!(
                out,
                ", {} unread, {} not acknowledged",
                Bytes(u64::from(case.unread())),
                Bytes(u64::from(sight.send_queue))
            )?;
        }
        // Before the first answer the kernel's times mean nothing.
        let began = !matches!(sight.state, TcpState::Listen | TcpState::SynSent | TcpState::NewSynRecv);
        if let Some(info) = sight.info.filter(|_| began) {
            write!(
                out,
                ", {} sent, {} received, {} sent again in its life, rtt {}, last ACK {} ago",
                Bytes(info.bytes_acked),
                Bytes(info.bytes_received),
                info.total_retrans,
                Duration(u64::from(info.rtt_us) * 1000),
                Duration(u64::from(info.last_ack_recv_ms) * 1_000_000)
            )?;
        }
        writeln!(out)
    }

    /// A finding with all that belongs to it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finding(&self, out: &mut impl Write, finding: &Finding) -> io::Result<()> {
        let Palette { bad, dim, .. } = self.palette;
        writeln!(out, "  {bad}{}{bad:#} ({}): {}", finding.name, finding.confidence.name(), finding.verdict)?;
        for evidence in &finding.evidence {
            writeln!(out, "    {dim}{:<11}{dim:#} {}", evidence.from.name(), evidence.fact)?;
        }
        for missing in &finding.missing {
            writeln!(out, "    {dim}{:<11}{dim:#} {missing}", "unknown")?;
        }
        for setting in &finding.settings {
            writeln!(
                out,
                "    {dim}{:<11}{dim:#} {}",
                "rule",
                finding::setting_text(setting, finding.subject.netns)
            )?;
        }
        writeln!(out, "    {dim}{:<11}{dim:#} {}", "ends", finding::one_deadline(&finding.deadline))?;
        writeln!(out, "    {dim}{:<11}{dim:#} {}", "next", finding.next_step)
    }

    /// There is nothing to say against it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn in_order(&self, out: &mut impl Write, case: &Case) -> io::Result<()> {
        let what = match case.state() {
            TcpState::Established => "nothing is wrong: no timer has expired in vain",
            TcpState::TimeWait => "in order: the side that closed first waits 60 s, whatever is configured",
            TcpState::Listen => "it listens, and its accept queue has room",
            _ => "not stuck: not past the limit of its state (docs/diagnoses.md)",
        };
        writeln!(out, "  {what}")
    }

    /// Tries behind and ahead, and the end.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn ladder(&self, out: &mut impl Write, wall: &mut Wall, retries: &Retries) -> io::Result<()> {
        for tried in &retries.tried {
            let at = wall.clock(self.taken_ns.saturating_sub(tried.ago_ns)).to_owned();
            writeln!(out, "  {at}  {:>3}  {} {} ago", tried.number, retries.what, Duration(tried.ago_ns))?;
        }
        for rung in retries.ahead.rungs.iter().take(RUNGS) {
            let at = wall.clock(self.taken_ns.saturating_add(rung.in_ns)).to_owned();
            writeln!(out, "  {at}  {:>3}  {} in {}", rung.number, retries.what, Duration(rung.in_ns))?;
        }
        if let Some(more) = retries.ahead.rungs.len().checked_sub(RUNGS).filter(|more| *more > 0) {
            writeln!(out, "  … and {more} more")?;
        }
        match retries.ahead.end {
            Some(end) => {
                let at = wall.clock(self.taken_ns.saturating_add(end.in_ns)).to_owned();
                writeln!(
                    out,
                    "  {at}  end  the kernel gives up, in {} to {}",
                    Duration(end.in_ns),
                    Duration(end.latest_ns)
                )
            }
            None => writeln!(out, "  no end: the kernel goes on as long as the peer answers"),
        }
    }
}
