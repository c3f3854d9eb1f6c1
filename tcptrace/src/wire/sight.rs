//! `sight`: a socket that was there before any event told of it. `flow`: one as the ledger believes it to be.

use crate::{flow::Seen, sight::Kind};
use serde::Serialize;

#[derive(Serialize)]
struct TimerJson {
    kind: &'static str,
    expires_ns: u64,
    retransmits: u8,
}

#[derive(Serialize)]
pub(super) struct SightBody {
    pub state: &'static str,
    pub socket: &'static str,
    pub in_state_ns: Option<u64>,
    pub exact: bool,
    bound: Option<&'static str>,
    uid: Option<u32>,
    inode: Option<u32>,
    timer: Option<TimerJson>,
    receive_queue: u32,
    send_queue: u32,
    cgroup: Option<String>,
    bytes_acked: Option<u64>,
    bytes_received: Option<u64>,
    bytes_unsent: Option<u32>,
    retransmits: Option<u32>,
    srtt_us: Option<u32>,
    min_rtt_us: Option<u32>,
    rto_us: Option<u32>,
}

#[derive(Serialize)]
pub(super) struct StateBody {
    pub state: &'static str,
    pub socket: &'static str,
    pub in_state_ns: Option<u64>,
    pub exact: bool,
    pub left_ns: Option<u64>,
}

/// What the kernel shows of it.
pub(super) fn body(seen: &Seen) -> SightBody {
    let Seen { sight, age, bound } = seen;
    SightBody {
        state: sight.state.name(),
        socket: sight.kind.name(),
        in_state_ns: age.map(|span| span.ns),
        exact: false,
        bound: age.map(|_| bound.name()),
        uid: (sight.kind == Kind::Full).then_some(sight.uid),
        inode: (sight.inode != 0).then_some(sight.inode),
        timer: sight.timer.map(|timer| TimerJson {
            kind: timer.kind.name(),
            expires_ns: u64::from(timer.expires_ms) * 1_000_000,
            retransmits: timer.retransmits,
        }),
        receive_queue: sight.receive_queue,
        send_queue: sight.send_queue,
        cgroup: sight.cgroup.map(|id| id.to_string()),
        bytes_acked: sight.info.map(|info| info.bytes_acked),
        bytes_received: sight.info.map(|info| info.bytes_received),
        bytes_unsent: sight.info.map(|info| info.notsent_bytes),
        retransmits: sight.info.map(|info| info.total_retrans),
        srtt_us: sight.info.map(|info| info.rtt_us).filter(|us| *us > 0),
        min_rtt_us: sight.info.map(|info| info.min_rtt_us).filter(|us| *us > 0),
        rto_us: sight.info.map(|info| info.rto_us),
    }
}
