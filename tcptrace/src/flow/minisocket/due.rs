//! What is to be looked at later, earliest first. Nearly all of it is due the same time after the event that asks for it, so it
//! comes in order, and a queue will do; the heap has the rest.

use super::{Minisocket, Subject};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// How long after what asks for it something is due: of each kind there is a queue.
#[derive(Clone, Copy, Debug)]
pub(in crate::flow) enum After {
    /// A state should have passed.
    Passing,
    /// A minisocket's whole life.
    Life,
    /// As it comes.
    Any,
}

#[derive(Debug, Default)]
pub(in crate::flow) struct Due {
    /// In order.
    queues: [VecDeque<(u64, Subject)>; 2],
    rest: BinaryHeap<Reverse<(u64, Subject)>>,
}

impl Due {
    pub fn push(&mut self, after: After, time_ns: u64, subject: Subject) {
        let item = (time_ns, subject);
        let queue = match after {
            After::Passing => Some(&mut self.queues[0]),
            After::Life => Some(&mut self.queues[1]),
            After::Any => None,
        };
        // Events of two CPUs may cross.
        match queue.filter(|queue| queue.back().is_none_or(|last| *last <= item)) {
            Some(queue) => queue.push_back(item),
            None => self.rest.push(Reverse(item)),
        }
    }

    /// A minisocket is to be asked for then, and not when it was planned before.
    pub fn plan(&mut self, after: After, number: u64, minisocket: &mut Minisocket, time_ns: u64) {
        if minisocket.ask_ns != time_ns {
            minisocket.ask_ns = time_ns;
            self.push(after, time_ns, Subject::Minisocket(number));
        }
    }

    /// When the first is due.
    pub fn first_ns(&self) -> Option<u64> {
        self.first().map(|((due_ns, _), _)| *due_ns)
    }

    /// Takes the first, if it is due by then.
    pub fn pop_by(&mut self, now_ns: u64) -> Option<(u64, Subject)> {
        let (_, place) = self.first().filter(|((due_ns, _), _)| *due_ns <= now_ns)?;
        match self.queues.get_mut(place) {
            Some(queue) => queue.pop_front(),
            None => self.rest.pop().map(|Reverse(item)| item),
        }
    }

    /// And in which queue it is.
    fn first(&self) -> Option<(&(u64, Subject), usize)> {
        let queued = self.queues.iter().map(VecDeque::front);
        let rest = self.rest.peek().map(|Reverse(item)| item);
        let mut first: Option<(&(u64, Subject), usize)> = None;
        for (place, item) in queued.chain([rest]).enumerate() {
            if let Some(item) = item
                && first.is_none_or(|(before, _)| item.0 < before.0 || (item.0 == before.0 && item < before))
            {
                first = Some((item, place));
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is pushed where: it comes out in order, and not before it is due.
        #[test]
        fn the_earliest_comes_first(pushes in proptest::collection::vec((0..3_u8, 0..50_u64, 0..5_u64), 0..60), by in 0..50_u64) {
            let mut due = Due::default();
            for (after, time_ns, key) in &pushes {
                let after = [After::Passing, After::Life, After::Any][usize::from(*after)];
                due.push(after, *time_ns, Subject::Flow(*key));
            }
            let mut expected: Vec<_> = pushes.iter().map(|(_, time_ns, key)| (*time_ns, Subject::Flow(*key))).collect();
            expected.sort();
            prop_assert_eq!(due.first_ns(), expected.first().map(|(time_ns, _)| *time_ns));
            let popped: Vec<_> = std::iter::from_fn(|| due.pop_by(by)).collect();
            expected.retain(|(time_ns, _)| *time_ns <= by);
            prop_assert_eq!(popped, expected);
        }
    }
}
