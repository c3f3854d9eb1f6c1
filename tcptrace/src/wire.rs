//! The stable serialised form: one JSON object a line. `docs/events.md` is its contract; fields may be added, never
//! renamed.

pub mod diff;
pub mod explain;
pub mod finding;
pub mod hist;
pub mod kill;
mod sight;
pub mod stat;
mod summary;

pub use summary::summary;

use crate::{
    enrich::{Place, Places},
    event::{Ends, TcpState, flag_names},
    flow::{
        Closed, DWELL_STATES, Entry, FlowId, Known, Reconciled, What, Who,
        owner::{Owner, Process},
    },
    run::report::Resync,
    summary::LostCounts,
    wall::Wall,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::net::IpAddr;
use tcptrace_common::event::STALL_KNOWN;

/// The version in every line's `v`.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct End {
    addr: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct OwnerJson<'a> {
    pid: u32,
    comm: &'a str,
    uid: u32,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
}

#[derive(Serialize)]
struct By<'a> {
    pid: u32,
    comm: &'a str,
    uid: u32,
}

/// The identity as text: 64 bits do not survive a JSON reader that makes floats of numbers.
struct FlowText(FlowId);

impl Serialize for FlowText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            FlowId::Cookie(cookie) => serializer.collect_str(&cookie),
            FlowId::Generation(number) => serializer.collect_str(&format_args!("g{number}")),
            FlowId::None => serializer.serialize_none(),
        }
    }
}

/// Nanoseconds by state, the ones that are not 0.
struct Dwell([u64; DWELL_STATES.len()]);

impl Serialize for Dwell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let spent = DWELL_STATES.iter().zip(self.0).filter(|(_, ns)| *ns > 0);
        serializer.collect_map(spent.map(|(state, ns)| (state.name(), ns)))
    }
}

/// What every line about a flow starts with.
#[derive(Serialize)]
struct Line<'a> {
    v: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    time: &'a str,
    mono_ns: u64,
    flow: FlowText,
    flow_id: &'static str,
    netns: Option<u32>,
    family: Option<u8>,
    local: Option<End>,
    remote: Option<End>,
    role: &'static str,
    owner: Option<OwnerJson<'a>>,
}

#[derive(Serialize)]
struct TransitionBody<'a> {
    old: &'static str,
    new: &'static str,
    in_state_ns: Option<u64>,
    exact: bool,
    inferred: bool,
    known: &'static str,
    by: Option<By<'a>>,
}

#[derive(Serialize)]
struct RetransmitBody {
    state: Option<&'static str>,
    segment: &'static str,
    reason: &'static str,
    evidence: &'static str,
    segments: u16,
    err: Option<i32>,
    flags: Option<String>,
    seq: Option<u32>,
    end_seq: Option<u32>,
    stall_retransmits: u8,
    backoff: u8,
    hook: &'static str,
}

#[derive(Serialize)]
struct ResetBody<'a> {
    direction: &'static str,
    reason: Option<&'a str>,
    state: Option<&'static str>,
    socket: &'static str,
    answers: Option<String>,
}

#[derive(Serialize)]
struct CloseBody<'a> {
    cause: &'static str,
    old: &'static str,
    continues_as: Option<&'static str>,
    errno: Option<u16>,
    duration_ns: Option<u64>,
    bytes_sent: Option<u64>,
    bytes_acked: Option<u64>,
    bytes_received: Option<u64>,
    bytes_retransmitted: Option<u64>,
    bytes_unread: Option<u32>,
    bytes_unsent: Option<u32>,
    retransmits: Option<u32>,
    srtt_us: Option<u32>,
    min_rtt_us: Option<u32>,
    dwell_ns: Dwell,
    closed_by: Option<OwnerJson<'a>>,
}

/// Writes an entry as one line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn entry(out: &mut Vec<u8>, wall: &mut Wall, places: &Places, entry: &Entry) -> serde_json::Result<()> {
    let place = entry.who.owner.as_ref().and_then(|owner| places.of_owner(&owner.process));
    let place = place.as_deref();
    match &entry.what {
        What::Transition { old, new, in_state, by, known } => {
            let body = TransitionBody {
                old: old.name(),
                new: new.name(),
                in_state_ns: in_state.map(|span| span.ns),
                exact: in_state.is_some_and(|span| span.exact),
                inferred: *known != Known::Event,
                known: known.name(),
                by: by.as_deref().map(by_json),
            };
            line(out, wall, "transition", entry, place, body)
        }
        What::Retransmit(event) => {
            let body = RetransmitBody {
                state: event.state.map(TcpState::name),
                segment: event.segment.name(),
                reason: event.reason.name(),
                evidence: event.evidence,
                segments: event.segments,
                err: event.err,
                flags: event.tcp_flags.map(flag_names),
                seq: event.sequence.map(|(seq, _)| seq),
                end_seq: event.sequence.map(|(_, end)| end),
                stall_retransmits: event.stalled,
                backoff: event.backoff,
                hook: if event.from_call { "kprobe" } else { "tracepoint" },
            };
            line(out, wall, "retransmit", entry, place, body)
        }
        What::Reset(event) => {
            let body = ResetBody {
                direction: event.direction.name(),
                reason: event.reason.as_deref(),
                state: event.state.map(TcpState::name),
                socket: crate::view::carrier(event.carrier),
                answers: event.answers.map(flag_names),
            };
            line(out, wall, "reset", entry, place, body)
        }
        What::Close(closed) => {
            let by = closed.closed_by.as_ref().and_then(|owner| places.of_owner(&owner.process));
            line(out, wall, "close", entry, place, close(closed, by.as_deref()))
        }
        What::Sight(seen) => line(out, wall, "sight", entry, place, sight::body(seen)),
        What::State { state, kind, in_state, left_ns } => {
            let body = sight::StateBody {
                state: state.name(),
                socket: kind.name(),
                in_state_ns: in_state.map(|span| span.ns),
                exact: in_state.is_some_and(|span| span.exact),
                left_ns: *left_ns,
            };
            line(out, wall, "flow", entry, place, body)
        }
    }
}

fn close<'a>(closed: &'a Closed, place: Option<&'a Place>) -> CloseBody<'a> {
    let numbers = closed.numbers.as_ref();
    let stall = numbers.filter(|numbers| numbers.known & STALL_KNOWN != 0);
    CloseBody {
        cause: closed.verdict.cause.name(),
        old: closed.old.name(),
        continues_as: closed.verdict.continues_as.map(TcpState::name),
        errno: closed.err,
        duration_ns: closed.duration_ns,
        bytes_sent: numbers.map(|n| n.bytes_sent),
        bytes_acked: numbers.map(|n| n.bytes_acked),
        bytes_received: numbers.map(|n| n.bytes_received),
        bytes_retransmitted: numbers.map(|n| n.bytes_retrans),
        bytes_unread: stall.map(|n| n.unread),
        bytes_unsent: stall.map(|n| n.unsent),
        retransmits: numbers.map(|n| n.total_retrans),
        srtt_us: numbers.map(|n| n.srtt_us).filter(|us| *us > 0),
        min_rtt_us: numbers.map(|n| n.min_rtt_us).filter(|us| *us != u32::MAX),
        dwell_ns: Dwell(closed.dwell_ns),
        closed_by: closed.closed_by.as_ref().map(|owner| owner_json(owner, place)),
    }
}

/// Two objects as one: serde's own way of doing that (`flatten`) takes twice the time of everything else together.
fn line(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    kind: &'static str,
    entry: &Entry,
    place: Option<&Place>,
    body: impl Serialize,
) -> serde_json::Result<()> {
    let ends = &entry.who.ends;
    let ends = (Some(ends.family()), Some(local(ends)), Some(remote(ends)));
    line_of(out, wall, kind, (entry.time_ns, &entry.who), ends, place, body)
}

/// The same where an end may be unknown, or may differ in what the line is about: family, local and remote end.
fn line_of(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    kind: &'static str,
    (time_ns, who): (u64, &Who),
    (family, local, remote): (Option<u8>, Option<End>, Option<End>),
    place: Option<&Place>,
    body: impl Serialize,
) -> serde_json::Result<()> {
    let Who { id, netns, role, owner, .. } = who;
    let flow_id = match id {
        FlowId::Cookie(_) => "cookie",
        FlowId::Generation(_) => "generation",
        FlowId::None => "none",
    };
    let line = Line {
        v: VERSION,
        kind,
        time: wall.rfc3339(time_ns),
        mono_ns: time_ns,
        flow: FlowText(*id),
        flow_id,
        netns: (*netns != 0).then_some(*netns),
        family,
        local,
        remote,
        role: role.name(),
        owner: owner.as_ref().map(|owner| owner_json(owner, place)),
    };
    serde_json::to_writer(&mut *out, &line)?;
    join(out, body)?;
    out.push(b'\n');
    Ok(())
}

/// Adds the fields of one more object to the one that `out` ends with.
fn join(out: &mut Vec<u8>, body: impl Serialize) -> serde_json::Result<()> {
    // Neither object is empty: the brace that ends the first becomes the comma, the one that begins the second goes.
    let begins = out.len() - 1;
    out.truncate(begins);
    serde_json::to_writer(&mut *out, &body)?;
    if let Some(brace) = out.get_mut(begins) {
        *brace = b',';
    }
    Ok(())
}

fn local(ends: &Ends) -> End {
    let end = ends.local();
    End { addr: end.ip(), port: end.port() }
}

fn remote(ends: &Ends) -> End {
    let end = ends.remote();
    End { addr: end.ip(), port: end.port() }
}

fn owner_json<'a>(owner: &'a Owner, place: Option<&'a Place>) -> OwnerJson<'a> {
    let Process { pid, comm, uid, .. } = &*owner.process;
    OwnerJson {
        pid: *pid,
        comm,
        uid: *uid,
        source: owner.source.name(),
        unit: place.and_then(|place| place.unit.as_deref()),
        container: place.and_then(|place| place.container.as_deref()),
        pod: place.and_then(|place| place.pod.as_deref()),
    }
}

fn by_json(process: &Process) -> By<'_> {
    By { pid: process.pid, comm: &process.comm, uid: process.uid }
}

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
