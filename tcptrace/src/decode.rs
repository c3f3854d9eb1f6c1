//! Bytes to events. Total: any bytes give an event or an error, never a panic.

use crate::event::{
    Accept, Bits, Carrier, Destroy, Direction, Ends, Event, Head, Object, Reason, Reset, Retransmit, Segment,
    Step, TcpState, Transition,
};
use std::sync::Arc;
use tcptrace_common::event as abi;
use thiserror::Error;
use zerocopy::FromBytes;

/// Why bytes are no event. Counted, never fatal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Shorter than its kind's record, or empty.
    #[error("a record of {0} bytes is cut short")]
    Short(usize),
    /// A first byte that no kind has.
    #[error("record kind {0} is unknown")]
    Kind(u8),
    /// A state number that no state has.
    #[error("state number {0} is unknown")]
    State(u8),
}

/// Decodes records of one kernel.
#[derive(Debug, Default)]
pub struct Decoder {
    reasons: Vec<Option<Arc<str>>>,
}

impl Decoder {
    /// `reasons`: number and name of each reset reason of the kernel that wrote the records.
    pub fn new(reasons: &[(u32, String)]) -> Self {
        let mut table = Vec::new();
        // No kernel has more than a few dozen; a damaged table must not make us allocate gigabytes.
        for (number, name) in reasons.iter().filter(|(number, _)| *number < 4096) {
            let at = *number as usize;
            if table.len() <= at {
                table.resize(at + 1, None);
            }
            table[at] = Some(Arc::from(name.as_str()));
        }
        Self { reasons: table }
    }

    /// Decodes one record. `slept_ns`: how long the machine has slept since it was started, which is what boot time is
    /// ahead of the clock in the record.
    ///
    /// # Errors
    /// The bytes are no record.
    pub fn decode(&self, bytes: &[u8], slept_ns: u64) -> Result<Event, DecodeError> {
        let number = *bytes.first().ok_or(DecodeError::Short(0))?;
        // Events are large: each is made where it is returned, and not touched again.
        match abi::Kind::from_number(number).ok_or(DecodeError::Kind(number))? {
            abi::Kind::Transition => {
                transition(read::<abi::Transition>(bytes)?, slept_ns, || (None, None, None))
            }
            abi::Kind::OwnedTransition => {
                let record = read::<abi::OwnedTransition>(bytes)?;
                transition(&record.head, slept_ns, || (Some(record.task), None, None))
            }
            abi::Kind::Close => {
                let record = read::<abi::Close>(bytes)?;
                transition(&record.head, slept_ns, || (Some(record.task), Some(record.numbers), None))
            }
            abi::Kind::Established => {
                let record = read::<abi::Established>(bytes)?;
                transition(&record.head, slept_ns, || (None, None, handshake_ns(record)))
            }
            abi::Kind::Retransmit => Ok(retransmit(read(bytes)?, slept_ns, false)),
            abi::Kind::RetransmitCall => Ok(retransmit(read(bytes)?, slept_ns, true)),
            abi::Kind::SynAck => Ok(synack(read(bytes)?, slept_ns)),
            abi::Kind::Reset => Ok(self.reset(read(bytes)?, slept_ns)),
            abi::Kind::Destroy => {
                let record = read::<abi::Destroy>(bytes)?;
                Ok(Event::Destroy(Destroy { head: prefix(record, slept_ns, Ends::default()) }))
            }
            abi::Kind::Object => object(read(bytes)?, slept_ns),
            abi::Kind::Accept => {
                let record = read::<abi::Accept>(bytes)?;
                Ok(Event::Accept(Accept { head: head(&record.head, slept_ns), task: record.task }))
            }
        }
    }

    fn reset(&self, record: &abi::Reset, slept_ns: u64) -> Event {
        let reason = match record.reason {
            abi::REASON_UNKNOWN => None,
            number => self
                .reasons
                .get(number as usize)
                .cloned()
                .flatten()
                .or_else(|| Some(format!("{number}").into())),
        };
        Event::Reset(Reset {
            head: head(&record.head, slept_ns),
            direction: if record.direction == abi::SENT { Direction::Sent } else { Direction::Received },
            reason,
            carrier: Carrier::from_number(record.carrier),
            state: TcpState::from_number(record.head.pre.state),
            dead: bits(&record.head.tuple).map(|bits| bits.dead),
            answers: (record.tcp_flags != 0).then_some(record.tcp_flags),
        })
    }
}

fn read<T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable>(bytes: &[u8]) -> Result<&T, DecodeError> {
    T::ref_from_prefix(bytes).map(|(record, _)| record).map_err(|_| DecodeError::Short(bytes.len()))
}

fn state(number: u8) -> Result<TcpState, DecodeError> {
    TcpState::from_number(number).ok_or(DecodeError::State(number))
}

fn prefix(pre: &abi::Prefix, slept_ns: u64, ends: Ends) -> Head {
    Head {
        time_ns: pre.time_ns.saturating_add(slept_ns),
        sock: pre.sock,
        cookie: pre.cookie,
        netns: pre.netns,
        undecided: pre.flags & abi::UNDECIDED != 0,
        ends,
    }
}

fn head(record: &abi::Header, slept_ns: u64) -> Head {
    let tuple = &record.tuple;
    let ends = Ends {
        local: tuple.local.bytes(),
        remote: tuple.remote.bytes(),
        lport: tuple.lport,
        rport: tuple.rport,
    };
    prefix(&record.pre, slept_ns, ends)
}

fn bits(tuple: &abi::Tuple) -> Option<Bits> {
    let bit = |bit| tuple.bits & bit != 0;
    bit(abi::BITS_KNOWN).then(|| Bits {
        dead: bit(abi::DEAD),
        done: bit(abi::DONE),
        has_socket: bit(abi::HAS_SOCKET),
    })
}

/// `rest`: the task, the last numbers, and how long the handshake took. As arguments they would be copied once more: 80
/// instructions an event.
#[inline]
fn transition(
    record: &abi::Header,
    slept_ns: u64,
    rest: impl FnOnce() -> (Option<abi::Task>, Option<abi::LastNumbers>, Option<u64>),
) -> Result<Event, DecodeError> {
    let (old, new) = (state(record.pre.state)?, state(record.pre.to)?);
    let (task, numbers, handshake_ns) = rest();
    Ok(Event::Transition(Transition {
        head: head(record, slept_ns),
        old,
        new,
        bits: bits(&record.tuple),
        shutdown: record.tuple.shutdown,
        task,
        numbers,
        handshake_ns,
    }))
}

/// How long ago the first SYN-ACK was sent: its round trip, unless it was repeated. A whole number of milliseconds comes from
/// timestamps, which the kernel uses where it kept no request (SYN cookies, whose timestamps are up to 64 ms off): no
/// measure, and nothing is lost but one in a thousand.
fn handshake_ns(record: &abi::Established) -> Option<u64> {
    let measured = record.total_retrans == 0 && !record.srtt_us.is_multiple_of(1000);
    measured.then_some(u64::from(record.srtt_us) * 1000)
}

fn object(record: &abi::Object, slept_ns: u64) -> Result<Event, DecodeError> {
    Ok(Event::Object(Object {
        head: head(&record.head, slept_ns),
        state: state(record.head.pre.state)?,
        step: match record.step {
            abi::BEGINS => Step::Begins,
            abi::CHANGES => Step::Changes,
            _ => Step::Ends,
        },
        timeout_jiffies: record.timeout,
    }))
}

fn synack(record: &abi::SynAck, slept_ns: u64) -> Event {
    Event::Retransmit(Retransmit {
        head: head(&record.head, slept_ns),
        state: Some(TcpState::NewSynRecv),
        segment: Segment::SynAck,
        // By timer, or because the client repeated its SYN: the tracepoint does not say which.
        reason: Reason::Unknown,
        evidence: "request",
        tcp_flags: Some(SYN | ACK),
        sequence: None,
        segments: 1,
        err: None,
        stalled: if record.num_retrans == abi::UNKNOWN8 { 0 } else { record.num_retrans.saturating_add(1) },
        backoff: 0,
        handshake_ns: record
            .first_us
            .checked_mul(1000)
            .filter(|first_ns| *first_ns != 0)
            .and_then(|first_ns| record.head.pre.time_ns.checked_sub(first_ns)),
        from_call: false,
    })
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

fn retransmit(record: &abi::Retransmit, slept_ns: u64, from_call: bool) -> Event {
    let known = record.known & abi::SEGMENT_KNOWN != 0;
    let state = TcpState::from_number(record.head.pre.state);
    let (reason, evidence) = reason(record, state);
    Event::Retransmit(Retransmit {
        head: head(&record.head, slept_ns),
        state,
        segment: match state {
            _ if known => segment(record, state),
            Some(TcpState::SynSent) => Segment::Syn, // nothing else can be sent again there
            _ => Segment::Unknown,
        },
        reason,
        evidence,
        tcp_flags: known.then_some(record.tcp_flags),
        sequence: known.then_some((record.seq, record.end_seq)),
        segments: record.segments.max(1),
        err: (record.err != abi::ERR_UNKNOWN).then_some(record.err),
        stalled: record.retransmits,
        backoff: record.backoff,
        handshake_ns: None,
        from_call,
    })
}

fn segment(record: &abi::Retransmit, state: Option<TcpState>) -> Segment {
    let flag = |flag| record.tcp_flags & flag != 0;
    let length = record.end_seq.wrapping_sub(record.seq);
    let data = length > u32::from(flag(SYN)) + u32::from(flag(FIN));
    if flag(SYN) {
        if flag(ACK) || state == Some(TcpState::SynRecv) { Segment::SynAck } else { Segment::Syn }
    } else if flag(FIN) && !data {
        Segment::Fin
    } else {
        Segment::Data
    }
}

/// Why it was sent again, from what the kernel has just set. The RTO handler clears `icsk_pending` before it
/// sends (tcp_write_timer_handler), the loss probe does so after (tcp_send_loss_probe): read in 5.10 to 7.3.
fn reason(record: &abi::Retransmit, state: Option<TcpState>) -> (Reason, &'static str) {
    const RECOVERY: u8 = 3;
    const LOSS: u8 = 4;
    const LOSS_PROBE: u8 = 5;
    match (record.pending, record.ca_state) {
        (abi::UNKNOWN8, _) | (_, abi::UNKNOWN8) => (Reason::Unknown, "unread"),
        (0, LOSS) => (Reason::Rto, "timer"),
        (0, _) if state == Some(TcpState::SynSent) || state == Some(TcpState::SynRecv) => {
            (Reason::Rto, "timer")
        }
        (LOSS_PROBE, ca) if ca < RECOVERY => (Reason::Tlp, "loss-probe"),
        (_, RECOVERY) => (Reason::Fast, "recovery"),
        // Sent on an ACK while the loss that an RTO found is being repaired.
        (_, LOSS) => (Reason::Rto, "loss-recovery"),
        _ => (Reason::Unknown, "no-timer"),
    }
}

#[cfg(test)]
mod tests;
