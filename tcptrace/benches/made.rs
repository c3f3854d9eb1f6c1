//! Records as the kernel programs write them, of connections that do not exist: the same number always gives the same.

use tcptrace_common::{
    address::Address,
    event::{
        BITS_KNOWN, Close, DEAD, DONE, ERROR_KNOWN, HAS_SOCKET, Header, Kind, LastNumbers, NUMBERS_KNOWN,
        OwnedTransition, Prefix, Retransmit, SEGMENT_KNOWN, Task, Tuple,
    },
    state::TcpState,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// What opens a connection.
pub const OPENS: [(TcpState, TcpState); 2] =
    [(TcpState::Close, TcpState::SynSent), (TcpState::SynSent, TcpState::Established)];
/// What ends it.
pub const ENDS: [(TcpState, TcpState); 3] = [
    (TcpState::Established, TcpState::FinWait1),
    (TcpState::FinWait1, TcpState::FinWait2),
    (TcpState::FinWait2, TcpState::Close),
];
/// Programs that connect.
const PROGRAMS: u64 = 100;

/// Appends the record of a change; connections go to so many peers.
pub fn record(
    out: &mut Vec<u8>,
    connection: u64,
    peers: u64,
    time_ns: u64,
    (from, to): (TcpState, TcpState),
) {
    let header = |kind| header(connection, peers, time_ns, kind, (from, to));
    if from == TcpState::Close || to == TcpState::FinWait1 {
        let head = header(Kind::OwnedTransition);
        out.extend(OwnedTransition { head, task: task(connection) }.as_bytes());
    } else if to == TcpState::Close {
        let known = NUMBERS_KNOWN | ERROR_KNOWN;
        let numbers = LastNumbers { known, bytes_sent: 100, srtt_us: 900, ..LastNumbers::default() };
        out.extend(Close { head: header(Kind::Close), task: task(connection), numbers }.as_bytes());
    } else {
        out.extend(header(Kind::Transition).as_bytes());
    }
}

/// Appends the record of a segment that was sent again, by timer.
#[allow(dead_code, reason = "not everybody who makes records wants these")]
pub fn retransmit(out: &mut Vec<u8>, connection: u64, peers: u64, time_ns: u64) {
    let established = (TcpState::Established, TcpState::Established);
    let mut head = header(connection, peers, time_ns, Kind::Retransmit, established);
    head.pre.to = 0;
    let mut record = Retransmit::new_zeroed();
    (record.head, record.known, record.segments) = (head, SEGMENT_KNOWN, 1);
    (record.seq, record.end_seq, record.tcp_flags) = (1000, 2448, 24);
    (record.ca_state, record.retransmits, record.backoff) = (4, 1, 1);
    out.extend(record.as_bytes());
}

fn task(connection: u64) -> Task {
    let program = connection % PROGRAMS;
    let mut task = Task::new_zeroed();
    (task.pid, task.tid, task.cgroup) = (1000 + program as u32, 1000 + program as u32, 1 + program);
    task.comm.as_mut_bytes()[..7].copy_from_slice(b"program");
    task
}

fn header(connection: u64, peers: u64, time_ns: u64, kind: Kind, (from, to): (TcpState, TcpState)) -> Header {
    let mut remote = [0; 16];
    remote[10..12].copy_from_slice(&[0xff; 2]);
    let peer = (connection % peers) as u32;
    remote[12..].copy_from_slice(&(0x0a01_0000 + peer).to_be_bytes());
    let mut local = remote;
    local[12..].copy_from_slice(&[10, 0, 0, 1]);
    let closes = to == TcpState::Close;
    Header {
        pre: Prefix {
            kind: kind as u8,
            flags: 0,
            state: from.number(),
            to: to.number(),
            netns: 1,
            time_ns,
            sock: 0xffff_8880_0000_0000 + connection * 2432,
            cookie: connection + 1,
        },
        tuple: Tuple {
            local: Address::from_bytes(local),
            remote: Address::from_bytes(remote),
            // As many as there are for one peer, so that no two connections have the same ends.
            lport: (1024 + connection / peers % 64_000) as u16,
            rport: 443,
            family: 4,
            bits: BITS_KNOWN | if closes { DEAD | DONE } else { HAS_SOCKET },
            shutdown: if closes { 3 } else { 0 },
            spare: 0,
        },
    }
}
