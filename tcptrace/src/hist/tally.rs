//! Counts and times of one group of flows.

use super::{Dwell, Spell, Time};
use crate::{event::TcpState, flow::totals::Matrix, stat::ORDER};

/// The state left and the state entered.
pub type Pair = (TcpState, TcpState);

/// Times, and those that are not known well enough to be among them.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// From beginning to end.
    pub exact: Dwell,
    /// How many began before anybody watched, or after something that nobody saw.
    pub at_least: u64,
    /// The longest of these, in nanoseconds; it was that long or longer.
    pub at_least_max_ns: u64,
    /// How many of which nothing is known.
    pub unknown: u64,
}

impl Times {
    /// Adds a time.
    pub fn add(&mut self, time: Time) {
        match time {
            Time::Exact(ns) => self.exact.record(ns),
            Time::AtLeast(ns) => {
                self.at_least += 1;
                self.at_least_max_ns = self.at_least_max_ns.max(ns);
            }
            Time::Unknown => self.unknown += 1,
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        self.exact.merge(&other.exact);
        self.at_least += other.at_least;
        self.at_least_max_ns = self.at_least_max_ns.max(other.at_least_max_ns);
        self.unknown += other.unknown;
    }

    /// How many, known or not.
    pub fn count(&self) -> u64 {
        self.exact.count() + self.at_least + self.unknown
    }
}

/// One pair of states.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Transitions that kernel events told.
    pub events: u64,
    /// Transitions that no event told, such as the beginning and the end of TIME_WAIT.
    pub inferred: u64,
    /// Time in the state that was left.
    pub times: Times,
}

/// Everything about one group.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By pair; few of all that could be.
    rows: Vec<(Pair, Row)>,
    /// Flows that go on, by state: how long so far.
    open: Vec<(TcpState, Times)>,
    /// Of the transitions, those whose owner is a guess.
    pub guesses: u64,
    /// Something of it may have been counted as one of the others: it was forgotten before, or came too late to be sure.
    pub may_lack: bool,
}

impl Tally {
    /// Nothing yet.
    pub fn begun(may_lack: bool) -> Self {
        Self { may_lack, ..Self::default() }
    }

    /// Counts transitions: those that events told, or the others.
    pub fn count(&mut self, pair: Pair, event: bool, times: u64) {
        let row = self.row(pair);
        if event { row.events += times } else { row.inferred += times }
    }

    /// A state was left.
    pub fn left(&mut self, spell: &Spell) {
        self.row((spell.state, spell.to)).times.add(spell.time);
    }

    /// A flow goes on in this state.
    pub fn goes_on(&mut self, state: TcpState, time: Time) {
        self.open_row(state).add(time);
    }

    /// The kernel's own count in place of ours.
    pub fn set_events(&mut self, matrix: &Matrix) {
        self.rows.iter_mut().for_each(|(_, row)| row.events = 0);
        for old in TcpState::ALL {
            for new in TcpState::ALL {
                let count = matrix[usize::from(old.number())][usize::from(new.number())];
                if count > 0 {
                    self.row((super::spell::shown(old), super::spell::shown(new))).events += count;
                }
            }
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        for (pair, row) in &other.rows {
            let mine = self.row(*pair);
            mine.events += row.events;
            mine.inferred += row.inferred;
            mine.times.merge(&row.times);
        }
        other.open.iter().for_each(|(state, times)| self.open_row(*state).merge(times));
        self.guesses += other.guesses;
    }

    /// The pairs, in the order of a connection's life.
    pub fn rows(&self) -> Vec<(Pair, &Row)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(pair, row)| (*pair, row)).collect();
        rows.sort_by_key(|((old, new), _)| (place(*old, TcpState::Close), place(*new, TcpState::Listen)));
        rows
    }

    /// Time in each state, wherever it led; of those that go on the time so far. In the order of a connection's life.
    pub fn states(&self) -> Vec<(TcpState, Times, Times)> {
        let of = |state: TcpState| {
            let mut times = Times::default();
            let rows = self.rows.iter().filter(|((old, _), _)| *old == state);
            rows.for_each(|(_, row)| times.merge(&row.times));
            let open = self.open.iter().find(|(open, _)| *open == state);
            (state, times, open.map(|(_, times)| times.clone()).unwrap_or_default())
        };
        ORDER.into_iter().map(of).filter(|(_, times, open)| times.count() + open.count() > 0).collect()
    }

    /// Counts by pair of states: those that events told, or the others.
    pub fn matrix(&self, events: bool) -> Matrix {
        let mut matrix = Matrix::default();
        for ((old, new), row) in &self.rows {
            let count = if events { row.events } else { row.inferred };
            matrix[usize::from(old.number())][usize::from(new.number())] = count;
        }
        matrix
    }

    /// Transitions that events told.
    pub fn events(&self) -> u64 {
        self.rows.iter().map(|(_, row)| row.events).sum()
    }

    /// Transitions that no event told.
    pub fn inferred(&self) -> u64 {
        self.rows.iter().map(|(_, row)| row.inferred).sum()
    }

    /// Flows that go on, listeners not counted.
    pub fn open(&self) -> u64 {
        let connections = self.open.iter().filter(|(state, _)| *state != TcpState::Listen);
        connections.map(|(_, times)| times.count()).sum()
    }

    /// What makes a group larger than another.
    pub fn weight(&self) -> u64 {
        self.events() + self.inferred() + self.open.iter().map(|(_, times)| times.count()).sum::<u64>()
    }

    /// Memory that it has beside itself, in bytes.
    pub fn bytes(&self) -> usize {
        let rows: usize = self.rows.iter().map(|(_, row)| row.times.exact.bytes()).sum();
        let open: usize = self.open.iter().map(|(_, times)| times.exact.bytes()).sum();
        rows + open
            + self.rows.capacity() * size_of::<(Pair, Row)>()
            + self.open.capacity() * size_of::<(TcpState, Times)>()
    }

    fn row(&mut self, pair: Pair) -> &mut Row {
        let at = self.rows.iter().position(|(known, _)| *known == pair).unwrap_or_else(|| {
            self.rows.push((pair, Row::default()));
            self.rows.len() - 1
        });
        &mut self.rows[at].1
    }

    fn open_row(&mut self, state: TcpState) -> &mut Times {
        let at = self.open.iter().position(|(known, _)| *known == state).unwrap_or_else(|| {
            self.open.push((state, Times::default()));
            self.open.len() - 1
        });
        &mut self.open[at].1
    }
}

/// A connection's life begins in CLOSE and ends there.
fn place(state: TcpState, first: TcpState) -> usize {
    if state == first {
        return 0;
    }
    ORDER.iter().position(|known| *known == state).map_or(usize::MAX, |at| at + 1)
}
