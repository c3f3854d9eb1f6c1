//! An entry of the ledger as a line: what there are millions of.

use super::{
    json::{Value, Word, fields},
    line::{begin_of, both, end, end_with},
    owners::{MaybeBy, MaybeOwner, Owners},
    sight,
};
use crate::{
    event::{Flags, Reset, Retransmit, TcpState},
    flow::{Closed, DWELL_STATES, Entry, Known, Span, What},
    view::carrier,
    wall::Wall,
};
use tcptrace_common::event::STALL_KNOWN;

/// Nanoseconds by state, the ones that are not 0.
struct Dwell([u64; DWELL_STATES.len()]);

impl Value for Dwell {
    fn write(self, out: &mut Vec<u8>) {
        let mut before = b'{';
        for (state, ns) in DWELL_STATES.iter().zip(self.0).filter(|(_, ns)| *ns > 0) {
            out.push(std::mem::replace(&mut before, b','));
            Word(state.name()).write(out);
            out.push(b':');
            ns.write(out);
        }
        if before == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

impl Value for Flags {
    fn write(self, out: &mut Vec<u8>) {
        out.push(b'"');
        for (number, name) in self.names().enumerate() {
            if number > 0 {
                out.push(b'|');
            }
            out.extend_from_slice(name.as_bytes());
        }
        out.push(b'"');
    }
}

/// Writes an entry as one line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn entry(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    owners: &mut Owners,
    entry: &Entry,
) -> serde_json::Result<()> {
    let who = (entry.time_ns, &entry.who);
    let owner = MaybeOwner(entry.who.owner.as_ref(), owners);
    let begin = |kind| begin_of(out, wall, kind, who, both(&entry.who.ends), owner);
    match &entry.what {
        What::Transition { old, new, in_state, by, known } => {
            begin("transition");
            transition(out, *old, *new, *in_state, MaybeBy(by.as_ref(), owners), *known);
        }
        What::Retransmit(event) => {
            begin("retransmit");
            retransmit(out, event);
        }
        What::Reset(event) => {
            begin("reset");
            reset(out, event);
        }
        What::Close(closed) => {
            begin("close");
            close(out, closed, MaybeOwner(closed.closed_by.as_ref(), owners));
        }
        What::Sight(seen) => {
            begin("sight");
            return end_with(out, sight::body(seen));
        }
        What::State { state, kind, in_state, left_ns } => {
            begin("flow");
            let body = sight::StateBody {
                state: state.name(),
                socket: kind.name(),
                in_state_ns: in_state.map(|span| span.ns),
                exact: in_state.is_some_and(|span| span.exact),
                left_ns: *left_ns,
            };
            return end_with(out, body);
        }
    }
    end(out);
    Ok(())
}

fn transition(
    out: &mut Vec<u8>,
    old: TcpState,
    new: TcpState,
    in_state: Option<Span>,
    by: MaybeBy<'_>,
    known: Known,
) {
    fields!(
        out,
        "old": Word(old.name()),
        "new": Word(new.name()),
        "in_state_ns": in_state.map(|span| span.ns),
        "exact": in_state.is_some_and(|span| span.exact),
        "inferred": known != Known::Event,
        "known": Word(known.name()),
        "by": by,
    );
}

fn retransmit(out: &mut Vec<u8>, event: &Retransmit) {
    fields!(
        out,
        "state": event.state.map(|state| Word(state.name())),
        "segment": Word(event.segment.name()),
        "reason": Word(event.reason.name()),
        "evidence": Word(event.evidence),
        "segments": event.segments,
        "err": event.err,
        "flags": event.tcp_flags.map(Flags),
        "seq": event.sequence.map(|(seq, _)| seq),
        "end_seq": event.sequence.map(|(_, end)| end),
        "stall_retransmits": event.stalled,
        "backoff": event.backoff,
        "hook": Word(if event.from_call { "kprobe" } else { "tracepoint" }),
    );
}

fn reset(out: &mut Vec<u8>, event: &Reset) {
    fields!(
        out,
        "direction": Word(event.direction.name()),
        "reason": event.reason.as_deref(),
        "state": event.state.map(|state| Word(state.name())),
        "socket": Word(carrier(event.carrier)),
        "answers": event.answers.map(Flags),
    );
}

fn close(out: &mut Vec<u8>, closed: &Closed, by: MaybeOwner<'_>) {
    let numbers = closed.numbers.as_ref();
    let stall = numbers.filter(|numbers| numbers.known & STALL_KNOWN != 0);
    fields!(
        out,
        "cause": Word(closed.verdict.cause.name()),
        "old": Word(closed.old.name()),
        "continues_as": closed.verdict.continues_as.map(|state| Word(state.name())),
        "errno": closed.err,
        "duration_ns": closed.duration_ns,
        "bytes_sent": numbers.map(|n| n.bytes_sent),
        "bytes_acked": numbers.map(|n| n.bytes_acked),
        "bytes_received": numbers.map(|n| n.bytes_received),
        "bytes_retransmitted": numbers.map(|n| n.bytes_retrans),
        "bytes_unread": stall.map(|n| n.unread),
        "bytes_unsent": stall.map(|n| n.unsent),
        "retransmits": numbers.map(|n| n.total_retrans),
        "srtt_us": numbers.map(|n| n.srtt_us).filter(|us| *us > 0),
        "min_rtt_us": numbers.map(|n| n.min_rtt_us).filter(|us| *us != u32::MAX),
        "dwell_ns": Dwell(closed.dwell_ns),
        "closed_by": by,
    );
}
