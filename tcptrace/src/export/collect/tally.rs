//! What is counted of one group: the families that have the labels of `--label`.

use super::Shown;
use crate::{
    event::{Direction, Reason, Reset, Retransmit, Segment},
    export::model::{CLOSES, DWELL, FAILED_SENDS, RESETS, RETRANSMITS, SOCKETS, Value},
    flow::cause::Cause,
    hist::Dwell,
};
use std::{collections::BTreeMap, sync::Arc};
use tcptrace_common::state::{STATES, TcpState};

/// The reason of an RST that the kernel gives none for.
const UNKNOWN: &str = "unknown";
/// States that sockets can be in, as people see them: half-open requests are in SYN_RECV.
const SEEN: [TcpState; 10] = [
    TcpState::Listen,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::TimeWait,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Closing,
];

/// Counts of one group. Everything but `sockets` only grows.
#[derive(Debug, Default)]
pub struct Tally {
    retransmits: [[u64; Reason::ALL.len()]; Segment::ALL.len()],
    failed: u64,
    resets: BTreeMap<(&'static str, Option<Arc<str>>), u64>,
    closes: BTreeMap<Cause, u64>,
    dwell: [Option<Arc<Dwell>>; STATES],
    /// By state, as of the last census.
    pub sockets: [u64; STATES],
}

impl Tally {
    pub fn retransmit(&mut self, event: &Retransmit) {
        let segments = u64::from(event.segments);
        if event.err.is_some_and(|err| err != 0) {
            self.failed += segments;
            return;
        }
        let row = Segment::ALL.iter().position(|kind| *kind == event.segment);
        let column = Reason::ALL.iter().position(|kind| *kind == event.reason);
        if let (Some(row), Some(column)) = (row, column) {
            self.retransmits[row][column] += segments;
        }
    }

    pub fn reset(&mut self, event: &Reset) {
        let reason = event.reason.clone().filter(|reason| **reason != *UNKNOWN);
        *self.resets.entry((event.direction.name(), reason)).or_default() += 1;
    }

    pub fn close(&mut self, cause: Cause) {
        *self.closes.entry(cause).or_default() += 1;
    }

    pub fn dwell(&mut self, state: TcpState, ns: u64) {
        // A snapshot that somebody still reads keeps its own.
        Arc::make_mut(self.dwell[people(state)].get_or_insert_default()).record(ns);
    }

    pub fn socket(&mut self, state: TcpState) {
        self.sockets[people(state)] += 1;
    }

    /// Its time series. `whole`: those that nothing has happened to, too.
    pub fn show(&self, whole: bool, shown: &mut Shown<'_>) {
        for state in SEEN {
            let number = people(state);
            if let Some(dwell) = &self.dwell[number] {
                shown.add(&DWELL, [state.name().into()], Value::Times(Arc::clone(dwell)));
            }
            if whole || self.sockets[number] > 0 {
                shown.add(&SOCKETS, [state.name().into()], Value::Number(self.sockets[number] as f64));
            }
        }
        for (segment, row) in Segment::ALL.iter().zip(self.retransmits) {
            for (reason, count) in Reason::ALL.iter().zip(row).filter(|(_, count)| whole || *count > 0) {
                let labels = [segment.name().into(), reason.name().into()];
                shown.add(&RETRANSMITS, labels, Value::Count(count));
            }
        }
        if whole || self.failed > 0 {
            shown.add(&FAILED_SENDS, [], Value::Count(self.failed));
        }
        for direction in [Direction::Sent, Direction::Received].map(Direction::name) {
            // From the first scrape on, whatever comes later: a series that is gone again looks like a restart.
            if whole && !self.resets.contains_key(&(direction, None)) {
                shown.add(&RESETS, [direction.into(), UNKNOWN.into()], Value::Count(0));
            }
        }
        for ((direction, reason), count) in &self.resets {
            let reason = reason.as_deref().unwrap_or(UNKNOWN).to_owned();
            shown.add(&RESETS, [(*direction).into(), reason.into()], Value::Count(*count));
        }
        for cause in Cause::ALL {
            let count = self.closes.get(&cause).copied().unwrap_or(0);
            if whole || count > 0 {
                shown.add(&CLOSES, [cause.name().into()], Value::Count(count));
            }
        }
    }
}

/// Where a state is counted: to people both kinds of SYN_RECV are one.
fn people(state: TcpState) -> usize {
    let state = if state == TcpState::NewSynRecv { TcpState::SynRecv } else { state };
    usize::from(state.number()) % STATES
}
