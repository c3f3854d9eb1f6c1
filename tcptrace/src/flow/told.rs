//! What the ledger knows of a socket that is being looked at: for whoever judges it.

use super::{Ledger, Role, Span, connection::Flow, least_age, owner::Owner, owner::Source};
use crate::{
    event::Segment,
    sight::{Kind, Sight, Taken},
};
use std::rc::Rc;

/// What is known of one socket beside what the kernel shows of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// Which side opened it.
    pub role: Role,
    /// Time in its state; `None`: nothing tells.
    pub age: Option<Span>,
    /// Whose it is.
    pub owner: Option<Owner>,
    /// Who closed it.
    pub closed_by: Option<Owner>,
    /// Segments sent again while we watched, by [`Segment`].
    pub retransmits: [u32; Segment::ALL.len()],
    /// Segments that could not be sent again.
    pub failed_sends: u32,
}

impl Ledger {
    /// What is known of this socket. What a sight alone tells is there even if the ledger does not know it.
    pub fn told(&self, sight: &Sight, taken: Taken) -> Told {
        let known = match sight.kind {
            Kind::Minisocket => {
                let known = self.minisockets.find(sight);
                // A close is judged later: until then the minisocket that follows it is not known, but whose it was is.
                let closing = || Some(Told { age: None, ..of_flow(self.flows.get(&sight.cookie)?, taken) });
                known.and_then(|number| self.told_of_minisocket(number, taken)).or_else(closing)
            }
            _ => self
                .flows
                .get(&sight.cookie)
                .filter(|flow| flow.state == sight.state)
                .map(|flow| of_flow(flow, taken)),
        };
        let mut told = known.unwrap_or_else(nothing);
        if told.owner.is_none() && told.role != Role::Active {
            let listener = self.listeners.get(&(sight.netns, sight.ends.lport));
            told.owner =
                listener.map(|process| Owner { process: Rc::clone(process), source: Source::Listener });
        }
        // Two bounds: the longer one holds.
        let (least_ns, _) = least_age(sight);
        if told.age.is_none_or(|age| !age.exact && age.ns < least_ns) && least_ns > 0 {
            told.age = Some(Span { ns: least_ns, exact: false });
        }
        told
    }

    fn told_of_minisocket(&self, number: u64, taken: Taken) -> Option<Told> {
        let minisocket = self.minisockets.known.get(&number)?;
        let who = minisocket.who();
        let ns = taken.from_ns.saturating_sub(minisocket.since_ns);
        let closed = minisocket.closed.as_ref();
        Some(Told {
            role: who.role,
            age: Some(Span { ns, exact: minisocket.exact }),
            owner: who.owner,
            closed_by: closed
                .map(|process| Owner { process: Rc::clone(process), source: minisocket.closed_source }),
            retransmits: Default::default(),
            failed_sends: 0,
        })
    }
}

fn nothing() -> Told {
    Told {
        role: Role::Unknown,
        age: None,
        owner: None,
        closed_by: None,
        retransmits: Default::default(),
        failed_sends: 0,
    }
}

fn of_flow(flow: &Flow, taken: Taken) -> Told {
    let rare = flow.rare.as_ref();
    Told {
        role: flow.role,
        age: flow.span(taken.from_ns),
        owner: flow.owner(),
        closed_by: flow.closer(),
        retransmits: rare.map(|rare| rare.retransmits).unwrap_or_default(),
        failed_sends: rare.map_or(0, |rare| rare.failed_sends),
    }
}
