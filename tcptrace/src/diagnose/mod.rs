//! What does not move, why, and until when. Pure: a [`Scene`] goes in, findings come out; what a rule does not know it
//! says. One rule a file, below `rules/`.

mod case;
pub mod finding;
pub mod group;
pub mod history;
pub mod ladder;
pub mod limits;
mod look;
mod memory;
pub mod retries;
mod rules;
pub mod scene;

pub use case::Case;
pub use finding::{Confidence, Deadline, Evidence, Finding, From, Setting, Subject};
pub use history::History;
pub use look::Look;
pub use memory::Memory;
pub use rules::RULES;
pub use scene::{Around, Counted, Machine, Scene, Traced};

use crate::{event::TcpState, flow::Span, sight::Kind};
use limits::{Limit, Past, past};
use rules::half_open::Trouble;
use std::collections::BTreeMap;

/// A rule: what it is called, what it is about, how it judges.
pub struct Rule {
    /// Stable name.
    pub name: &'static str,
    /// The states it is about, as users read them.
    pub states: &'static [&'static str],
    /// What it says, in one line.
    pub says: &'static str,
    judge: Judge,
}

/// How a rule judges.
enum Judge {
    /// A socket past its limit; of all such rules the first that says something counts.
    Each(fn(&Case, &Scene) -> Option<Finding>),
    /// Everything together.
    All(fn(&Scene) -> Vec<Finding>),
}

/// What came of a look.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    /// The longest-lasting first; those of unknown age last.
    pub findings: Vec<Finding>,
    /// Sockets on their way, not past the limit of their state as far as anybody knows; most first.
    pub on_the_way: Vec<OnTheWay>,
    /// Sockets past the limit of which no rule says anything.
    pub unexplained: u64,
}

/// Sockets of one finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// The age of the oldest, in nanoseconds, or at least that; `None`: nothing tells.
    pub oldest_ns: Option<u64>,
}

impl Diagnosis {
    /// How many sockets each finding stands for.
    pub fn by_name(&self) -> BTreeMap<&'static str, Found> {
        let mut by_name: BTreeMap<_, Found> = BTreeMap::new();
        for finding in &self.findings {
            let found = by_name.entry(finding.name).or_default();
            found.count += finding.count;
            found.oldest_ns = found.oldest_ns.max(finding.age.map(|age| age.ns));
        }
        by_name
    }
}

/// Sockets of one state that are not stuck, or not known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnTheWay {
    /// Their state.
    pub state: TcpState,
    /// How many.
    pub count: u64,
    /// Those of them that may be past the limit: they are at least so old, or nothing tells.
    pub perhaps_older: u64,
    /// The longest time that one of them has been in the state.
    pub oldest: Option<Span>,
    /// From when on they count as stuck; `None`: never. Where namespaces differ, that of one of them.
    pub limit: Option<Limit>,
}

impl Diagnosis {
    fn goes_on(&mut self, case: &Case, past: Past) {
        let state = case.state();
        let known = self.on_the_way.iter().position(|way| way.state == state);
        let index = known.unwrap_or_else(|| {
            let limit = limits::limit(case);
            self.on_the_way.push(OnTheWay { state, count: 0, perhaps_older: 0, oldest: None, limit });
            self.on_the_way.len() - 1
        });
        let Some(way) = self.on_the_way.get_mut(index) else { return };
        way.count += 1;
        way.perhaps_older += u64::from(past == Past::Unknown);
        let age = limits::waiting(case);
        if age.map(|age| age.ns) > way.oldest.map(|age| age.ns) {
            way.oldest = age;
        }
    }
}

/// Judges everything.
pub fn diagnose(scene: &Scene) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    for case in &scene.cases {
        match past(case, scene.older_than_ns) {
            past @ (Past::NotYet | Past::Unknown) => diagnosis.goes_on(case, past),
            Past::Yes => {
                let found = RULES.iter().find_map(|rule| match rule.judge {
                    Judge::Each(judge) => judge(case, scene),
                    Judge::All(_) => None,
                });
                match found {
                    Some(finding) => diagnosis.findings.push(finding),
                    None if told_together(case, scene) => {}
                    None if waits_on_purpose(case) => diagnosis.goes_on(case, Past::NotYet),
                    None => diagnosis.unexplained += 1,
                }
            }
        }
    }
    diagnosis.on_the_way.sort_by_key(|way| std::cmp::Reverse(way.count));
    for rule in RULES {
        if let Judge::All(judge) = rule.judge {
            diagnosis.findings.extend(judge(scene));
        }
    }
    diagnosis.findings.iter_mut().for_each(note_assumed);
    let age = |finding: &Finding| finding.age.map_or(0, |age| age.ns);
    diagnosis.findings.sort_by(|one, other| age(other).cmp(&age(one)).then(one.name.cmp(other.name)));
    diagnosis
}

/// A half-open request whose listener is in trouble: that is said once, of the listener.
fn told_together(case: &Case, scene: &Scene) -> bool {
    case.sight.kind == Kind::Request
        && scene.trouble(case.sight.netns, case.sight.ends.lport) != Trouble::Unanswered
}

/// A program has shut down its side and goes on receiving, or the peer has the connection in a pool.
fn waits_on_purpose(case: &Case) -> bool {
    case.state() == TcpState::FinWait2
}

/// Where a namespace does not show a setting, the deadline is that of the kernel's own default.
fn note_assumed(finding: &mut Finding) {
    if !matches!(finding.deadline, Deadline::In { .. }) {
        return;
    }
    let unknown = finding.settings.iter().filter(|setting| setting.value.is_none());
    let unknown = unknown.map(|setting| format!("{}: the kernel's default is assumed", setting.name));
    finding.missing.extend(unknown);
}

#[cfg(test)]
mod tests;
