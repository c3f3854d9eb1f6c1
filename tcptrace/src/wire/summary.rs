//! `summary`: the last line.

use super::plain;
use crate::{
    event::{Direction, Reason, Segment, TcpState},
    summary::Summary,
    wall::Wall,
};
use serde_json::{Map, Value};
use tcptrace_common::state::STATES;

/// The last line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn summary(out: &mut Vec<u8>, wall: &mut Wall, now_ns: u64, summary: &Summary) -> serde_json::Result<()> {
    let totals = &summary.totals;
    let mut retransmits = Map::new();
    for (segment, row) in Segment::ALL.iter().zip(totals.retransmits) {
        for (reason, count) in Reason::ALL.iter().zip(row).filter(|(_, count)| *count > 0) {
            retransmits.insert(format!("{}/{}", segment.name(), reason.name()), count.into());
        }
    }
    let resets = |direction: Direction| {
        let of = totals.resets.iter().filter(|((way, _), _)| *way == direction.name());
        let named = of.map(|((_, reason), count)| {
            (if reason.is_empty() { "unknown".to_owned() } else { reason.clone() }, Value::from(*count))
        });
        Value::Object(named.collect())
    };
    let causes = totals.causes.iter().map(|(cause, count)| (cause.name().to_owned(), Value::from(*count)));
    let lost = summary.lost.each().map(|(kind, count)| (kind.to_owned(), Value::from(count)));
    let body = serde_json::json!({
        "duration_ns": summary.duration_ns,
        "matrix": matrix(&summary.matrix),
        "transitions": summary.matrix.iter().flatten().sum::<u64>(),
        "retransmits": retransmits,
        "failed_sends": totals.failed_sends,
        "retransmit_calls": summary.calls.map(|calls| serde_json::json!({
            "attempts": calls.attempts, "segments": calls.segments, "failed": calls.failed,
        })),
        "resets": { "sent": resets(Direction::Sent), "received": resets(Direction::Received) },
        "causes": Value::Object(causes.collect()),
        "lost": summary.lost.total(),
        "lost_by_kind": Value::Object(lost.collect()),
        "evicted": totals.evicted,
        "gaps": totals.gaps,
        "open_flows": summary.open_flows,
        "minisockets": summary.minisockets,
        "inferred": matrix(&totals.inferred),
        "sights": totals.sights,
        "corrected": totals.corrected,
        "vanished": totals.vanished,
        "minisockets_unmade": totals.unmade,
    });
    plain(out, wall, "summary", now_ns, body)
}

/// Counts by pair of states; the pairs that are not 0.
pub(super) fn matrix(counts: &[[u64; STATES]; STATES]) -> Value {
    let mut rows = Map::new();
    let states = || TcpState::ALL.into_iter();
    for old in states() {
        let row: Map<_, _> = states()
            .filter_map(|new| {
                let count = counts[old.number() as usize][new.number() as usize];
                (count > 0).then(|| (new.name().to_owned(), Value::from(count)))
            })
            .collect();
        if !row.is_empty() {
            rows.insert(old.name().to_owned(), Value::Object(row));
        }
    }
    Value::Object(rows)
}
