//! The line `stat`: sockets by state, limits, queues, counters.

use super::plain;
use crate::{
    event::{Reason, Segment, TcpState},
    stat::{
        ORDER, Tally,
        by::{Key, Top},
        limits::{Limits, Use},
        queues::Queue,
        rates::{Traced, Values},
        report::Report,
    },
    wall::Wall,
};
use serde_json::{Map, Value, json};

/// Listeners told of, the fullest first.
const QUEUES: usize = 20;

/// Writes a report as one line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn line(out: &mut Vec<u8>, wall: &mut Wall, report: &Report) -> serde_json::Result<()> {
    let picture = &report.picture;
    let interval = report.interval.as_ref();
    let traced = interval.map(|interval| interval.traced.as_ref());
    let spaces: Vec<_> =
        report.spaces.iter().map(|(number, name)| json!({ "netns": number, "name": name })).collect();
    let unusual: Vec<_> = report
        .unusual()
        .into_iter()
        .map(|unusual| json!({ "name": unusual.name, "bad": unusual.bad, "text": unusual.text }))
        .collect();
    let mut body = json!({
        "namespaces": spaces,
        "filtered": report.filtered,
        "unusual": unusual,
    });
    let rest = json!({
        "limits": limits(&report.limits),
        "accept_queues": {
            "listeners": picture.queues.len() as u64 + picture.queues_beyond,
            "full": picture.full_queues(),
            "fullest": picture.queues.iter().take(QUEUES).map(queue).collect::<Vec<_>>(),
        },
        "by": picture.groups.as_ref().map(|(by, _)| by.name()),
        "groups": picture.groups.as_ref().map(|(_, top)| groups(top)),
        "others": picture.groups.as_ref().map(|(_, top)| others(top)),
        "interval_ns": interval.map(|interval| interval.ns),
        "counters": counters(interval.map_or(&report.counters, |interval| &interval.added)),
        "traced": traced.and_then(Result::ok).map(self::traced),
        "not_traced": traced.and_then(Result::err),
        "notes": report.notes,
    });
    for part in [tally(&picture.all), rest] {
        if let (Value::Object(body), Value::Object(part)) = (&mut body, part) {
            body.extend(part);
        }
    }
    plain(out, wall, "stat", picture.taken.to_ns, body)
}

fn tally(tally: &Tally) -> Value {
    let states = ORDER.iter().map(|state| (state.name().to_owned(), Value::from(tally.count(*state))));
    let fin_wait2 = tally.fin_wait2();
    let orphans = [TcpState::FinWait1, TcpState::FinWait2, TcpState::Closing, TcpState::LastAck]
        .map(|state| (state.name().to_owned(), Value::from(tally.orphans_in(state))));
    json!({
        "sockets": tally.total(),
        "states": states.collect::<Map<_, _>>(),
        "half_open": tally.half_open(),
        "not_accepted": tally.unaccepted(),
        "fin_wait2": {
            "held": fin_wait2.held, "orphans": fin_wait2.orphans, "minisockets": fin_wait2.minisockets,
        },
        "orphans": Map::from_iter(orphans),
    })
}

fn limits(limits: &Limits) -> Value {
    let of = |of: Use| json!({ "used": of.used, "limit": of.limit });
    let timewait: Vec<_> = limits
        .timewait
        .iter()
        .map(|(netns, of)| json!({ "netns": netns, "used": of.used, "limit": of.limit }))
        .collect();
    let marks = limits.memory.marks.map(|marks| marks.map(Some)).unwrap_or_default();
    json!({
        "timewait": timewait,
        "orphans": of(limits.orphans),
        "memory_pages": {
            "used": limits.memory.pages, "low": marks[0], "pressure": marks[1], "high": marks[2],
        },
        "no_state": limits.no_state,
    })
}

fn queue(queue: &Queue) -> Value {
    json!({
        "netns": queue.netns,
        "local": { "addr": queue.local.ip(), "port": queue.local.port() },
        "waiting": queue.waiting,
        "limit": queue.limit,
        "half_open": queue.half_open,
        "full": queue.is_full(),
    })
}

fn groups(top: &Top<Tally>) -> Vec<Value> {
    top.groups.iter().map(|(key, of)| with(json!({ "key": group(key) }), tally(of))).collect()
}

/// What is in no group of its own; also where that is nothing, so that a reader can always add it.
fn others(top: &Top<Tally>) -> Value {
    with(json!({ "groups": top.more }), tally(&top.others))
}

fn with(mut one: Value, two: Value) -> Value {
    if let (Value::Object(one), Value::Object(two)) = (&mut one, two) {
        one.extend(two);
    }
    one
}

/// A group, in words that `stat` and `hist` share.
pub(super) fn group(key: &Key) -> Value {
    match key {
        Key::Local(port) => json!({ "side": "local", "port": port }),
        Key::Remote(port) => json!({ "side": "remote", "port": port }),
        Key::Peer(address) => json!({ "addr": address }),
        Key::Netns(number) => json!({ "netns": number }),
        Key::Process(process) => json!({ "pid": process.pid, "comm": process.comm, "uid": process.uid }),
        Key::Container(name) => json!({ "container": **name }),
        Key::Role(role) => json!({ "role": role.name() }),
        Key::None(why) => json!({ "none": why.name() }),
    }
}

fn counters(values: &Values) -> Value {
    Value::Object(values.each().map(|(name, value)| (name.to_owned(), Value::from(value))).collect())
}

fn traced(traced: &Traced) -> Value {
    let mut retransmits = Map::new();
    for (segment, row) in Segment::ALL.iter().zip(traced.retransmits) {
        for (reason, count) in Reason::ALL.iter().zip(row).filter(|(_, count)| *count > 0) {
            retransmits.insert(format!("{}/{}", segment.name(), reason.name()), count.into());
        }
    }
    json!({
        "matrix": super::summary::matrix(&traced.matrix),
        "transitions": traced.matrix.as_flattened().iter().sum::<u64>(),
        "retransmits": retransmits,
        "resets": { "sent": traced.resets[0], "received": traced.resets[1] },
        "lost": traced.lost,
    })
}
