//! The lines `hist`: one for all flows, one for each group, one for what is in none of them.

use super::plain;
use crate::{
    event::TcpState,
    hist::{Report, Row, Tally, Times, group::By},
    summary::Summary,
    wall::Wall,
};
use serde_json::{Map, Value, json};

/// Writes them.
///
/// # Errors
/// None: memory is all it writes to.
pub fn lines(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    states: &[TcpState],
    summary: &Summary,
    report: &Report,
) -> serde_json::Result<()> {
    let by = report.groups.as_ref().map(|(by, _)| by.name());
    let lost = summary.lost.each().map(|(kind, count)| (kind.to_owned(), Value::from(count)));
    let head = json!({
        "by": by,
        "duration_ns": summary.duration_ns,
        "lost": summary.lost.total(),
        "lost_by_kind": lost.collect::<Map<_, _>>(),
        "evicted": summary.totals.evicted,
    });
    let mut line = |group: &str, own: Value, tally: &Tally| {
        let mut body = head.clone();
        for part in [json!({ "group": group }), own, self::tally(states, tally)] {
            if let (Value::Object(body), Value::Object(part)) = (&mut body, part) {
                body.extend(part);
            }
        }
        plain(out, wall, "hist", summary.ended_ns, body)
    };
    let counted_by = if report.counted_by_kernel { "kernel" } else { "events" };
    let all = json!({ "key": null, "groups": null, "counted_by": counted_by, "guesses": null });
    line("all", all, &report.all)?;
    let Some((by, top)) = &report.groups else { return Ok(()) };
    for (key, tally) in &top.groups {
        let guesses = matches!(by, By::Process | By::Container).then_some(tally.guesses);
        let own = json!({
            "key": super::stat::group(key), "groups": null, "counted_by": "events", "guesses": guesses,
        });
        line("key", own, tally)?;
    }
    let others = json!({ "key": null, "groups": top.more, "counted_by": "events", "guesses": null });
    line("others", others, &top.others)
}

fn tally(states: &[TcpState], tally: &Tally) -> Value {
    let shows = |state: TcpState| states.is_empty() || states.contains(&state);
    let pairs = tally.rows().into_iter().filter(|((old, new), _)| shows(*old) || shows(*new));
    let rows = pairs.map(|((old, new), row)| pair(old, new, row));
    let rows: Vec<_> = rows.collect();
    let states = tally.states().into_iter().filter(|(state, ..)| shows(*state));
    let states = states.map(|(state, times, open)| {
        with(json!({ "state": state.name(), "open": self::times(&open) }), self::times(&times))
    });
    json!({
        "may_lack": tally.may_lack,
        "transitions": tally.events(),
        "matrix": super::summary::matrix(&tally.matrix(true)),
        "inferred": super::summary::matrix(&tally.matrix(false)),
        "open": tally.open(),
        "pairs": rows,
        "states": states.collect::<Vec<_>>(),
    })
}

fn pair(old: TcpState, new: TcpState, row: &Row) -> Value {
    let head = json!({
        "from": old.name(), "to": new.name(), "transitions": row.events, "inferred": row.inferred,
    });
    with(head, times(&row.times))
}

/// A distribution, and all that is needed to add another to it.
pub(super) fn times(times: &Times) -> Value {
    let exact = &times.exact;
    let quantile = |part| exact.quantile_ns(part);
    json!({
        "count": exact.count(),
        "sum_ns": exact.sum_ns(),
        "p50_ns": quantile(0.5),
        "p90_ns": quantile(0.9),
        "p99_ns": quantile(0.99),
        "max_ns": (exact.count() > 0).then(|| exact.max_ns()),
        "buckets": exact.buckets(),
        "at_least": times.at_least,
        "at_least_max_ns": (times.at_least > 0).then_some(times.at_least_max_ns),
        "unknown": times.unknown,
    })
}

pub(super) fn with(mut one: Value, two: Value) -> Value {
    if let (Value::Object(one), Value::Object(two)) = (&mut one, two) {
        one.extend(two);
    }
    one
}
