//! The line `diff`: two traces, and what is clearly not the same.

use super::{
    hist::{times, with},
    plain,
};
use crate::{
    diagnose::Found,
    diff::{Change, Diff, Side},
    event::TcpState,
    wall::Wall,
};
use serde_json::{Value, json};

/// Writes it; its time is the end of the second trace.
///
/// # Errors
/// None: memory is all it writes to.
pub fn line(out: &mut Vec<u8>, wall: &mut Wall, states: &[TcpState], diff: &Diff) -> serde_json::Result<()> {
    let shows = |state: TcpState| states.is_empty() || states.contains(&state);
    let [a, b] = &diff.sides;
    let pairs = diff.pairs().into_iter().filter(|((old, new), _)| shows(*old) || shows(*new));
    let pairs = pairs.map(|((old, new), [of_a, of_b])| {
        let row = |side: &Side, row: &crate::hist::Row| {
            let count = row.events + row.inferred;
            let head = json!({
                "transitions": row.events, "inferred": row.inferred, "per_second": side.per_second(count),
            });
            with(head, times(&row.times))
        };
        json!({ "from": old.name(), "to": new.name(), "a": row(a, &of_a), "b": row(b, &of_b) })
    });
    let of_states = diff.states().into_iter().filter(|(state, _)| shows(*state)).map(|(state, [a, b])| {
        let side = |(left, open): &(_, _)| with(json!({ "open": times(open) }), times(left));
        json!({ "state": state.name(), "a": side(&a), "b": side(&b) })
    });
    let findings = diff.findings().into_iter().map(|(name, [a, b])| {
        let found = |found: Option<Found>| {
            found.map(|found| json!({ "count": found.count, "oldest_ns": found.oldest_ns }))
        };
        json!({ "name": name, "a": found(a), "b": found(b) })
    });
    let settings: Vec<_> = diff
        .settings()
        .into_iter()
        .map(|(name, [was, is])| json!({ "name": name, "a": was, "b": is }))
        .collect();
    let body = json!({
        "a": side(a),
        "b": side(b),
        "changes": diff.changes.iter().map(change).collect::<Vec<_>>(),
        "pairs": pairs.collect::<Vec<_>>(),
        "states": of_states.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
        "settings": settings,
        "notes": diff.notes(),
    });
    plain(out, wall, "diff", b.ended_ns, body)
}

fn side(side: &Side) -> Value {
    let all = &side.report.all;
    json!({
        "name": side.name,
        "kernel": side.kernel,
        "duration_ns": side.duration_ns,
        "counted_by": if side.report.counted_by_kernel { "kernel" } else { "events" },
        "transitions": all.events(),
        "matrix": super::summary::matrix(&all.matrix(true)),
        "inferred": super::summary::matrix(&all.matrix(false)),
        "open": all.open(),
        "lost": side.lost,
    })
}

fn change(change: &Change) -> Value {
    let factor = change.factor();
    match change {
        Change::Rate { pair: (old, new), per_second: [a, b] } => json!({
            "what": "rate", "from": old.name(), "to": new.name(), "a_per_second": a, "b_per_second": b, "factor": factor,
        }),
        Change::Time { state, quantile, ns: [a, b] } => json!({
            "what": "time", "state": state.name(), "quantile": quantile, "a_ns": a, "b_ns": b, "factor": factor,
        }),
        Change::Finding { name, count: [a, b] } => {
            json!({ "what": "finding", "name": name, "a": a, "b": b, "factor": factor })
        }
    }
}
