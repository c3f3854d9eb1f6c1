//! Entries and readings, made by hand.

use crate::{
    event::{
        Carrier, Direction, Ends, Event, Head, Reason, Reset, Retransmit, Segment, TcpState, Transition,
    },
    export::{
        collect::{Collector, Counting, Label, Own},
        model::{Family, Snapshot, Value},
    },
    flow::{
        Capabilities, Closed, DWELL_STATES, Entry, FlowId, Known, Ledger, Role, Span, What, Who,
        cause::{Cause, Verdict},
        owner::{Owner, Source},
    },
    process::Process,
    run::{Next, Reading, Sink},
    summary::LostCounts,
};
use std::{net::Ipv4Addr, rc::Rc, sync::Arc};
use tcptrace_common::counters::Counters;
use tokio::sync::watch;

pub const SECOND_NS: u64 = 1_000_000_000;

pub fn ends(peer: u32, rport: u16) -> Ends {
    Ends {
        local: Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets(),
        remote: Ipv4Addr::from(0x0a00_0000 + peer).to_ipv6_mapped().octets(),
        lport: 40_000,
        rport,
    }
}

/// A client's flow to this peer.
pub fn who(peer: u32, comm: &str) -> Who {
    let process = Rc::new(Process { pid: 1, uid: 0, cgroup: 0, comm: comm.into() });
    Who {
        id: FlowId::Cookie(u64::from(peer) + 1),
        netns: 7,
        ends: ends(peer, 443),
        role: Role::Active,
        owner: Some(Owner { process, source: Source::Connect }),
    }
}

pub fn moves(time_ns: u64, who: Who, old: TcpState, new: TcpState, ns: Option<u64>, known: Known) -> Entry {
    let in_state = ns.map(|ns| Span { ns, exact: true });
    Entry { time_ns, who, what: What::Transition { old, new, in_state, by: None, known } }
}

pub fn head(time_ns: u64, cookie: u64, ends: Ends) -> Head {
    Head { time_ns, sock: cookie, cookie, netns: 7, undecided: false, ends }
}

pub fn resend(time_ns: u64, who: Who, segment: Segment, reason: Reason, segments: u16, err: i32) -> Entry {
    let event = Retransmit {
        head: head(time_ns, 1, who.ends),
        state: Some(TcpState::Established),
        segment,
        reason,
        evidence: "test",
        tcp_flags: None,
        sequence: None,
        segments,
        err: Some(err),
        stalled: 0,
        backoff: 0,
        handshake_ns: None,
        from_call: false,
    };
    Entry { time_ns, who, what: What::Retransmit(Box::new(event)) }
}

pub fn reset(time_ns: u64, who: Who, direction: Direction, reason: Option<&str>) -> Entry {
    let event = Reset {
        head: head(time_ns, 1, who.ends),
        direction,
        reason: reason.map(Into::into),
        carrier: Carrier::Full,
        state: None,
        dead: None,
        answers: None,
    };
    Entry { time_ns, who, what: What::Reset(Box::new(event)) }
}

pub fn close(time_ns: u64, who: Who, old: TcpState, cause: Cause, continues_as: Option<TcpState>) -> Entry {
    let closed = Closed {
        verdict: Verdict { cause, continues_as },
        old,
        err: None,
        duration_ns: None,
        dwell_ns: [0; DWELL_STATES.len()],
        numbers: None,
        retransmits: Default::default(),
        closed_by: None,
    };
    Entry { time_ns, who, what: What::Close(Box::new(closed)) }
}

/// A ledger of all capabilities but probes.
pub fn ledger() -> Ledger {
    let capabilities =
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() };
    Ledger::new(capabilities, 1 << 20, 1)
}

/// A socket that begins to connect, and stays so.
pub fn connects(ledger: &mut Ledger, peer: u32) {
    begins(ledger, head(1, u64::from(peer) + 1, ends(peer, 443)));
}

/// The same.
pub fn begins(ledger: &mut Ledger, head: Head) {
    let (old, new) = (TcpState::Close, TcpState::SynSent);
    let event =
        Transition { head, old, new, bits: None, shutdown: 0, task: None, numbers: None, handshake_ns: None };
    ledger.fold(&Event::Transition(event), &mut Vec::new());
}

/// A collector and what it publishes.
pub struct Counted {
    pub collector: Collector,
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub ledger: Ledger,
    pub counters: Counters,
}

impl Counted {
    pub fn by(labels: &[Label], most_groups: usize) -> Self {
        let counting = Counting { labels: labels.to_vec(), most_groups, dropped: None };
        let (collector, snapshots) = Collector::new(counting, Own::default(), 1);
        Self { collector, snapshots, ledger: ledger(), counters: Counters::ZERO }
    }

    pub fn take(&mut self, entries: impl IntoIterator<Item = Entry>) -> &mut Self {
        for entry in entries {
            assert_eq!(self.collector.entry(&entry).unwrap(), Next::Continue);
        }
        self
    }

    /// What is published then, however long the one before took.
    pub fn at(&mut self, now_ns: u64) -> Arc<Snapshot> {
        let lost = LostCounts::new(&self.counters, 0, 0);
        let reading = Reading { now_ns, counters: &self.counters, lost, ledger: &self.ledger, last: true };
        self.collector.counted(&reading).unwrap();
        Arc::clone(&self.snapshots.borrow())
    }
}

/// Values of a family, each after its labels.
pub fn values(snapshot: &Snapshot, family: &'static Family) -> Vec<(String, f64)> {
    let found = snapshot.families.iter().find(|(of, _)| std::ptr::eq(*of, family));
    let samples = found.map(|(_, samples)| samples.as_slice()).unwrap_or_default();
    let number = |value: &Value| match value {
        Value::Count(count) => *count as f64,
        Value::Number(number) => *number,
        Value::Times(dwell) => dwell.count() as f64,
        Value::Classic(times) => times.count() as f64,
        Value::Info => 1.0,
    };
    let labels = |labels: &[(&str, std::borrow::Cow<'_, str>)]| {
        labels.iter().map(|(_, value)| value.as_ref()).collect::<Vec<_>>().join(" ")
    };
    samples.iter().map(|sample| (labels(&sample.labels), number(&sample.value))).collect()
}

/// Those that are not 0.
pub fn some(snapshot: &Snapshot, family: &'static Family) -> Vec<(String, f64)> {
    let mut values = values(snapshot, family);
    values.retain(|(_, value)| *value != 0.0);
    values
}

pub fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect()
}
