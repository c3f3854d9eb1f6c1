//! The stable serialised form: one JSON object a line. `docs/events.md` is its contract; fields may be added, never
//! renamed.

pub mod diff;
mod entry;
pub mod explain;
pub mod finding;
pub mod hist;
mod json;
pub mod kill;
mod line;
mod owners;
mod sight;
pub mod stat;
mod summary;

pub use entry::entry;
pub use owners::Owners;
pub use summary::summary;

use crate::{flow::Reconciled, run::report::Resync, summary::LostCounts, wall::Wall};
use serde_json::{Map, Value};

/// The version in every line's `v`.
pub const VERSION: u32 = 1;

/// A line that belongs to no flow.
fn plain(out: &mut Vec<u8>, wall: &mut Wall, kind: &str, now_ns: u64, body: Value) -> serde_json::Result<()> {
    let mut object = Map::new();
    object.insert("v".into(), VERSION.into());
    object.insert("type".into(), kind.into());
    object.insert("time".into(), wall.rfc3339(now_ns).into());
    object.insert("mono_ns".into(), now_ns.into());
    if let Value::Object(body) = body {
        object.extend(body);
    }
    serde_json::to_writer(&mut *out, &object)?;
    out.push(b'\n');
    Ok(())
}

/// The first line: what is traced, and how.
///
/// # Errors
/// None: memory is all it writes to.
pub fn start(out: &mut Vec<u8>, wall: &mut Wall, now_ns: u64, body: Value) -> serde_json::Result<()> {
    plain(out, wall, "start", now_ns, body)
}

/// A remark between events: `details` are fields beside its `text`.
///
/// # Errors
/// None: memory is all it writes to.
pub fn remark(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    time_ns: u64,
    kind: &str,
    text: &str,
    details: Value,
) -> serde_json::Result<()> {
    let mut body = Map::from_iter([("text".to_owned(), text.into())]);
    if let Value::Object(details) = details {
        body.extend(details);
    }
    plain(out, wall, kind, time_ns, Value::Object(body))
}

/// Events that were lost since the last such line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn lost(out: &mut Vec<u8>, wall: &mut Wall, now_ns: u64, lost: &LostCounts) -> serde_json::Result<()> {
    for (kind, count) in lost.each().filter(|(_, count)| *count > 0) {
        plain(out, wall, "lost", now_ns, serde_json::json!({ "kind": kind, "count": count }))?;
    }
    Ok(())
}

/// A dump, and what it came to.
///
/// # Errors
/// None: memory is all it writes to.
pub fn resync(out: &mut Vec<u8>, wall: &mut Wall, now_ns: u64, resync: &Resync) -> serde_json::Result<()> {
    let Reconciled { sockets, found, corrected, vanished } = resync.reconciled;
    let body = serde_json::json!({
        "why": resync.why.name(),
        "duration_ns": resync.duration_ns,
        "namespaces": resync.namespaces,
        "namespaces_unread": resync.unread,
        "restarts": resync.broken.restarts,
        "unreadable": resync.broken.unreadable,
        "sockets": sockets,
        "found": found,
        "corrected": corrected,
        "vanished": vanished,
    });
    plain(out, wall, "resync", now_ns, body)
}
