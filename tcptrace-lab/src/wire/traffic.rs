//! What the wire has seen, for waiting on and for checking afterwards.

use std::collections::{HashSet, VecDeque};

use crate::{Segment, Side};

/// How many segments are remembered one by one; older ones are forgotten, the totals go on counting.
const SIGHTINGS_KEPT: usize = 65_536;

/// Which way a segment goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

impl Direction {
    /// The way of the segments that this side sends.
    pub fn from_side(sender: Side) -> Self {
        match sender {
            Side::Client => Self::ToServer,
            Side::Server => Self::ToClient,
        }
    }
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was handed to the receiver.
    Forwarded,
    /// It was lost.
    Dropped,
}

/// One segment that has passed, or failed to pass, the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Which way it went.
    pub direction: Direction,
    /// Its header.
    pub segment: Segment,
    /// What became of it.
    pub fate: Fate,
}

/// A packet that waits to be released.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) direction: Direction,
    pub(super) segment: Segment,
    pub(super) packet: Vec<u8>,
}

/// All TCP segments that the wire has seen so far.
#[derive(Debug, Default)]
pub struct Traffic {
    sightings: VecDeque<Sighting>,
    held: VecDeque<Held>,
    forwarded: [u64; 2],
    dropped: [u64; 2],
}

impl Traffic {
    /// Segments handed to the receiver in that direction.
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.forwarded[direction as usize]
    }

    /// Segments lost in that direction.
    pub fn dropped(&self, direction: Direction) -> u64 {
        self.dropped[direction as usize]
    }

    /// Whether nothing has come by at all.
    pub fn is_empty(&self) -> bool {
        self.sightings.is_empty() && self.held.is_empty()
    }

    /// The segments with a decided fate, oldest first; the latest 65,536 of them.
    pub fn sightings(&self) -> impl DoubleEndedIterator<Item = &Sighting> {
        self.sightings.iter()
    }

    /// The segments that are held, oldest first.
    pub fn held(&self) -> impl ExactSizeIterator<Item = (Direction, &Segment)> {
        self.held.iter().map(|held| (held.direction, &held.segment))
    }

    /// How many segments in that direction with that fate match.
    pub fn count(&self, direction: Direction, fate: Fate, matches: impl Fn(&Segment) -> bool) -> usize {
        let counts =
            |seen: &&Sighting| seen.direction == direction && seen.fate == fate && matches(&seen.segment);
        self.sightings.iter().filter(counts).count()
    }

    /// How many held segments in that direction match.
    pub fn count_held(&self, direction: Direction, matches: impl Fn(&Segment) -> bool) -> usize {
        self.held().filter(|&(way, segment)| way == direction && matches(segment)).count()
    }

    /// How many matching segments in that direction were sent again, whatever became of them: each beyond the first
    /// with its sequence number.
    pub fn resent(&self, direction: Direction, matches: impl Fn(&Segment) -> bool) -> usize {
        let mut first = HashSet::new();
        let decided = self.sightings.iter().map(|seen| (seen.direction, &seen.segment));
        decided
            .chain(self.held())
            .filter(|&(way, segment)| way == direction && segment.space() > 0 && matches(segment))
            .filter(|(_, segment)| !first.insert(segment.seq))
            .count()
    }

    pub(super) fn record(&mut self, direction: Direction, segment: Segment, fate: Fate) {
        let total = match fate {
            Fate::Forwarded => &mut self.forwarded,
            Fate::Dropped => &mut self.dropped,
        };
        total[direction as usize] += 1;
        if self.sightings.len() == SIGHTINGS_KEPT {
            self.sightings.pop_front();
        }
        self.sightings.push_back(Sighting { direction, segment, fate });
    }

    pub(super) fn hold(&mut self, held: Held) {
        self.held.push_back(held);
    }

    pub(super) fn next_held(&mut self) -> Option<Held> {
        self.held.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Segment = Segment {
        source_port: 40000,
        destination_port: 10000,
        seq: 1,
        ack_number: 1,
        syn: false,
        ack: true,
        fin: false,
        rst: false,
        window: 100,
        payload: 10,
    };

    #[test]
    fn a_segment_counts_as_sent_again_from_its_second_time_on() {
        let mut traffic = Traffic::default();
        assert!(traffic.is_empty());
        let pure_ack = Segment { payload: 0, ..DATA };
        for segment in [DATA, pure_ack, pure_ack, Segment { seq: 11, ..DATA }] {
            traffic.record(Direction::ToServer, segment, Fate::Dropped);
        }
        assert_eq!(traffic.resent(Direction::ToServer, |_| true), 0);
        traffic.record(Direction::ToServer, DATA, Fate::Forwarded);
        traffic.hold(Held { direction: Direction::ToServer, segment: DATA, packet: vec![] });
        assert_eq!(traffic.resent(Direction::ToServer, |_| true), 2);
        assert_eq!(traffic.resent(Direction::ToClient, |_| true), 0);
        assert_eq!(traffic.count(Direction::ToServer, Fate::Dropped, |segment| segment.payload > 0), 2);
        assert_eq!(traffic.forwarded(Direction::ToServer), 1);
        assert_eq!(traffic.dropped(Direction::ToServer), 4);
    }

    #[test]
    fn memory_is_bounded_and_totals_are_not() {
        let mut traffic = Traffic::default();
        for _ in 0..SIGHTINGS_KEPT + 5 {
            traffic.record(Direction::ToClient, DATA, Fate::Forwarded);
        }
        assert_eq!(traffic.sightings().count(), SIGHTINGS_KEPT);
        assert_eq!(traffic.forwarded(Direction::ToClient), SIGHTINGS_KEPT as u64 + 5);
    }
}
