//! From an entry to a row: the same words and numbers as in the JSON (`wire`).

use super::schema::Row;
use crate::{
    enrich::{Place, Places},
    event::{Flags, Reset, Retransmit, TcpState},
    flow::{
        Closed, DWELL_STATES, Entry, FlowId, Known, Seen, Span, What, Who,
        owner::{Owner, Process},
    },
    run::report::Resync,
    sight::Kind,
    view::carrier,
};
use std::sync::Arc;
use tcptrace_common::event::STALL_KNOWN;

/// What a row borrows beside its entry.
#[derive(Default)]
pub struct Beside {
    place: Option<Arc<Place>>,
    closed_by: Option<Arc<Place>>,
    flags: Option<String>,
}

impl Beside {
    /// Looks up the places of those whom the entry names.
    pub fn of(entry: &Entry, places: &Places) -> Self {
        let place = |owner: Option<&Owner>| owner.and_then(|owner| places.of_owner(&owner.process));
        let (closed_by, flags) = match &entry.what {
            What::Close(closed) => (place(closed.closed_by.as_ref()), None),
            What::Retransmit(event) => (None, event.tcp_flags),
            What::Reset(event) => (None, event.answers),
            _ => (None, None),
        };
        Self {
            place: place(entry.who.owner.as_ref()),
            closed_by,
            flags: flags.map(|flags| Flags(flags).to_string()),
        }
    }
}

/// The row of an entry. `time_us`: when it happened, in microseconds since 1970.
pub fn of<'a>(entry: &'a Entry, time_us: i64, beside: &'a Beside) -> Row<'a> {
    let row = who(at(time_us, entry.time_ns), &entry.who, beside.place.as_deref());
    match &entry.what {
        What::Transition { old, new, in_state, by, known } => Row {
            r#type: Some("transition"),
            old: Some(old.name()),
            new: Some(new.name()),
            inferred: Some(*known != Known::Event),
            known: Some(known.name()),
            by_pid: by.as_ref().map(|by| by.pid.into()),
            by_comm: by.as_ref().map(|by| &*by.comm),
            by_uid: by.as_ref().map(|by| by.uid.into()),
            ..span(row, *in_state)
        },
        What::Retransmit(event) => retransmit(row, event, beside),
        What::Reset(event) => reset(row, event, beside),
        What::Close(closed) => close(row, closed, beside.closed_by.as_deref()),
        What::Sight(seen) => sight(row, seen),
        What::State { state, kind, in_state, left_ns } => Row {
            r#type: Some("flow"),
            state: Some(state.name()),
            socket: Some(kind.name()),
            left_ns: *left_ns,
            ..span(row, *in_state)
        },
    }
}

/// The row of a look at all sockets.
pub fn resync(resync: &Resync, time_us: i64, mono_ns: u64) -> Row<'_> {
    Row {
        r#type: Some("resync"),
        why: Some(resync.why.name()),
        duration_ns: Some(resync.duration_ns),
        namespaces: Some(resync.namespaces),
        namespaces_unread: Some(resync.unread),
        restarts: Some(resync.broken.restarts),
        unreadable: Some(resync.broken.unreadable),
        sockets: Some(resync.reconciled.sockets),
        found: Some(resync.reconciled.found),
        corrected: Some(resync.reconciled.corrected),
        vanished: Some(resync.reconciled.vanished),
        ..at(time_us, mono_ns)
    }
}

/// The row of events that were lost.
pub fn lost(kind: &str, count: u64, time_us: i64, mono_ns: u64) -> Row<'_> {
    Row { r#type: Some("lost"), kind: Some(kind), count: Some(count), ..at(time_us, mono_ns) }
}

fn at<'a>(time_us: i64, mono_ns: u64) -> Row<'a> {
    Row { time: Some(time_us), mono_ns: Some(mono_ns), ..Row::default() }
}

fn who<'a>(row: Row<'a>, who: &'a Who, place: Option<&'a Place>) -> Row<'a> {
    let (flow, flow_id) = match who.id {
        FlowId::Cookie(cookie) => (Some(cookie), "cookie"),
        FlowId::Generation(number) => (Some(number), "generation"),
        FlowId::None => (None, "none"),
    };
    let process = who.owner.as_ref().map(|owner| &*owner.process);
    Row {
        flow,
        flow_id: Some(flow_id),
        netns: (who.netns != 0).then_some(who.netns.into()),
        family: Some(who.ends.family().into()),
        local_addr: Some(who.ends.local),
        local_port: Some(who.ends.lport.into()),
        remote_addr: Some(who.ends.remote),
        remote_port: Some(who.ends.rport.into()),
        role: Some(who.role.name()),
        owner_pid: process.map(|process| process.pid.into()),
        owner_comm: process.map(|process| &*process.comm),
        owner_uid: process.map(|process| process.uid.into()),
        owner_source: who.owner.as_ref().map(|owner| owner.source.name()),
        owner_unit: place.and_then(|place| place.unit.as_deref()),
        owner_container: place.and_then(|place| place.container.as_deref()),
        owner_pod: place.and_then(|place| place.pod.as_deref()),
        owner_cgroup: process.map(|process| process.cgroup).filter(|cgroup| *cgroup != 0),
        ..row
    }
}

fn span(row: Row<'_>, span: Option<Span>) -> Row<'_> {
    Row { in_state_ns: span.map(|span| span.ns), exact: Some(span.is_some_and(|span| span.exact)), ..row }
}

fn retransmit<'a>(row: Row<'a>, event: &'a Retransmit, beside: &'a Beside) -> Row<'a> {
    Row {
        r#type: Some("retransmit"),
        state: event.state.map(TcpState::name),
        segment: Some(event.segment.name()),
        reason: Some(event.reason.name()),
        evidence: Some(event.evidence),
        segments: Some(event.segments.into()),
        err: event.err,
        flags: beside.flags.as_deref(),
        seq: event.sequence.map(|(seq, _)| seq.into()),
        end_seq: event.sequence.map(|(_, end)| end.into()),
        stall_retransmits: Some(event.stalled.into()),
        backoff: Some(event.backoff.into()),
        hook: Some(if event.from_call { "kprobe" } else { "tracepoint" }),
        ..row
    }
}

fn reset<'a>(row: Row<'a>, event: &'a Reset, beside: &'a Beside) -> Row<'a> {
    Row {
        r#type: Some("reset"),
        direction: Some(event.direction.name()),
        reason: event.reason.as_deref(),
        state: event.state.map(TcpState::name),
        socket: Some(carrier(event.carrier)),
        answers: beside.flags.as_deref(),
        ..row
    }
}

fn close<'a>(row: Row<'a>, closed: &'a Closed, place: Option<&'a Place>) -> Row<'a> {
    let numbers = closed.numbers.as_ref();
    let stall = numbers.filter(|numbers| numbers.known & STALL_KNOWN != 0);
    let dwell = |state: TcpState| {
        let spent = DWELL_STATES.iter().zip(closed.dwell_ns).find(|(of, _)| **of == state);
        spent.map(|(_, ns)| ns).filter(|ns| *ns > 0)
    };
    let by = closed.closed_by.as_ref();
    let process: Option<&Process> = by.map(|owner| &*owner.process);
    Row {
        r#type: Some("close"),
        cause: Some(closed.verdict.cause.name()),
        old: Some(closed.old.name()),
        continues_as: closed.verdict.continues_as.map(TcpState::name),
        errno: closed.err.map(i32::from),
        duration_ns: closed.duration_ns,
        bytes_sent: numbers.map(|n| n.bytes_sent),
        bytes_acked: numbers.map(|n| n.bytes_acked),
        bytes_received: numbers.map(|n| n.bytes_received),
        bytes_retransmitted: numbers.map(|n| n.bytes_retrans),
        bytes_unread: stall.map(|n| n.unread.into()),
        bytes_unsent: stall.map(|n| n.unsent.into()),
        retransmits: numbers.map(|n| n.total_retrans.into()),
        srtt_us: numbers.map(|n| n.srtt_us).filter(|us| *us > 0).map(Into::into),
        min_rtt_us: numbers.map(|n| n.min_rtt_us).filter(|us| *us != u32::MAX).map(Into::into),
        dwell_syn_sent_ns: dwell(TcpState::SynSent),
        dwell_syn_recv_ns: dwell(TcpState::SynRecv),
        dwell_established_ns: dwell(TcpState::Established),
        dwell_fin_wait1_ns: dwell(TcpState::FinWait1),
        dwell_fin_wait2_ns: dwell(TcpState::FinWait2),
        dwell_close_wait_ns: dwell(TcpState::CloseWait),
        dwell_closing_ns: dwell(TcpState::Closing),
        dwell_last_ack_ns: dwell(TcpState::LastAck),
        dwell_listen_ns: dwell(TcpState::Listen),
        closed_by_pid: process.map(|process| process.pid.into()),
        closed_by_comm: process.map(|process| &*process.comm),
        closed_by_uid: process.map(|process| process.uid.into()),
        closed_by_source: by.map(|owner| owner.source.name()),
        closed_by_unit: place.and_then(|place| place.unit.as_deref()),
        closed_by_container: place.and_then(|place| place.container.as_deref()),
        closed_by_pod: place.and_then(|place| place.pod.as_deref()),
        ..row
    }
}

fn sight<'a>(row: Row<'a>, seen: &'a Seen) -> Row<'a> {
    let Seen { sight, age, bound } = seen;
    let (timer, info) = (sight.timer.as_ref(), sight.info.as_ref());
    Row {
        r#type: Some("sight"),
        state: Some(sight.state.name()),
        socket: Some(sight.kind.name()),
        in_state_ns: age.map(|span| span.ns),
        exact: Some(false),
        bound: age.map(|_| bound.name()),
        uid: (sight.kind == Kind::Full).then_some(sight.uid.into()),
        inode: (sight.inode != 0).then_some(sight.inode.into()),
        cgroup: sight.cgroup,
        timer_kind: timer.map(|timer| timer.kind.name()),
        timer_expires_ns: timer.map(|timer| u64::from(timer.expires_ms) * 1_000_000),
        timer_retransmits: timer.map(|timer| timer.retransmits.into()),
        receive_queue: Some(sight.receive_queue.into()),
        send_queue: Some(sight.send_queue.into()),
        bytes_acked: info.map(|info| info.bytes_acked),
        bytes_received: info.map(|info| info.bytes_received),
        bytes_unsent: info.map(|info| info.notsent_bytes.into()),
        retransmits: info.map(|info| info.total_retrans.into()),
        srtt_us: info.map(|info| info.rtt_us).filter(|us| *us > 0).map(Into::into),
        min_rtt_us: info.map(|info| info.min_rtt_us).filter(|us| *us > 0).map(Into::into),
        rto_us: info.map(|info| info.rto_us.into()),
        ..row
    }
}
