//! Findings that say the same of many sockets, as one.

use super::{
    finding::{Deadline, Finding},
    history::Place,
};
use hashbrown::HashMap;

/// Findings of one kind, about one service, of one process.
#[derive(Clone, Debug)]
pub struct Group {
    /// All of them, the longest-lasting first.
    pub findings: Vec<Finding>,
    /// Sockets they stand for.
    pub count: u64,
    /// Deadlines from the soonest to the latest, in nanoseconds from the look; `None`: not all have one.
    pub deadline_ns: Option<(u64, u64)>,
}

impl Group {
    /// The one that has lasted longest.
    pub fn oldest(&self) -> Option<&Finding> {
        self.findings.first()
    }

    /// Of how many other addresses there are.
    pub fn peers(&self) -> usize {
        let mut peers: Vec<_> = self.findings.iter().map(|finding| finding.subject.ends.remote).collect();
        peers.sort_unstable();
        peers.dedup();
        peers.len()
    }
}

/// What makes findings alike.
#[derive(PartialEq, Eq, Hash)]
struct Alike {
    name: &'static str,
    state: u8,
    place: Place,
    /// With several, the direction is the place's.
    owner: Option<u32>,
    closed_by: Option<u32>,
    never: bool,
}

/// Puts findings together that are alike; in the order of their oldest, as `findings` are.
pub fn group(findings: Vec<Finding>) -> Vec<Group> {
    let mut places: HashMap<Alike, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for finding in findings {
        let subject = &finding.subject;
        let alike = Alike {
            name: finding.name,
            state: subject.state.number(),
            place: Place::of(subject.netns, &subject.ends, subject.role),
            owner: subject.owner.as_ref().map(|owner| owner.process.pid),
            closed_by: subject.closed_by.as_ref().map(|owner| owner.process.pid),
            never: matches!(finding.deadline, Deadline::Never(_)),
        };
        let index = *places.entry(alike).or_insert_with(|| {
            groups.push(Group { findings: Vec::new(), count: 0, deadline_ns: None });
            groups.len() - 1
        });
        let Some(group) = groups.get_mut(index) else { continue };
        group.count += finding.count;
        let first = group.findings.is_empty();
        group.deadline_ns = match (&finding.deadline, group.deadline_ns) {
            (Deadline::In { earliest_ns, latest_ns, .. }, None) if first => Some((*earliest_ns, *latest_ns)),
            (Deadline::In { earliest_ns, latest_ns, .. }, Some((soonest, last))) => {
                Some((soonest.min(*earliest_ns), last.max(*latest_ns)))
            }
            _ => None,
        };
        group.findings.push(finding);
    }
    groups
}
