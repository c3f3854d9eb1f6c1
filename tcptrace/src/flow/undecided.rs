//! Flows whose first event the kernel's filter could not decide: the local port of a SYN is picked after it. They show
//! only if a later, complete event of theirs passes.

use super::{Entry, Ledger, What, connection::Rare, who};
use crate::event::{Head, Transition};

/// How many flows wait for their filter to be decided.
pub(super) const MAX_UNDECIDED: usize = 4096;

impl Ledger {
    /// Remembers a flow whose filter is undecided. Most of them never match: a few thousand is all they get.
    pub(super) fn wait_for_decision(&mut self, key: u64) {
        self.undecided.push_back(key);
        if self.undecided.len() > MAX_UNDECIDED
            && let Some(oldest) = self.undecided.pop_front()
            && self.flows.get(&oldest).is_some_and(|flow| flow.is_undecided())
        {
            self.flows.remove(&oldest);
        }
    }

    /// The flow showed up again with a complete event: its first one, held back until now, belongs to the output.
    pub(super) fn confirm(&mut self, key: u64, head: &Head, out: &mut Vec<Entry>) {
        if head.undecided || self.undecided.is_empty() {
            return;
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let Some(first) = flow.rare.as_mut().and_then(|rare: &mut Box<Rare>| rare.first.take()) else {
            return;
        };
        flow.ends.complete(&head.ends);
        self.totals.matrix[first.old.number() as usize][first.new.number() as usize] += 1;
        let who = who(flow);
        let by = flow.opened.clone();
        self.count_late(&first);
        out.push(Entry {
            time_ns: first.head.time_ns,
            who,
            what: What::Transition {
                old: first.old,
                new: first.new,
                in_state: None,
                by,
                known: super::Known::Event,
            },
        });
        self.spare.firsts.take(first);
    }

    pub(super) fn count_late(&mut self, first: &Transition) {
        if first.head.undecided {
            self.totals.decided_late[first.old.number() as usize][first.new.number() as usize] += 1;
        }
    }
}
