use super::{
    super::query::{Detail, Family, Query},
    *,
};
use proptest::prelude::*;

const SEQUENCE: u32 = 5;

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let request = Request::new(kind, flags, SEQUENCE, &[]);
    let mut bytes = request.bytes().to_vec();
    bytes.extend(body);
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `inet_diag_msg` of a socket between 10.0.0.1:1000 and 10.0.0.9:80, with this state and timer.
fn fixed(state: u8, timer: u8) -> Vec<u8> {
    let mut bytes = vec![libc::AF_INET as u8, state, timer, 3];
    bytes.extend(1000u16.to_be_bytes());
    bytes.extend(80u16.to_be_bytes());
    for last in [1, 9] {
        bytes.extend([10, 0, 0, last]);
        bytes.extend([0; 12]);
    }
    for word in [0u32, 42, 1, 700, 11, 12, 13, 14] {
        bytes.extend(word.to_ne_bytes());
    }
    assert_eq!(bytes.len(), 72);
    bytes
}

fn read(datagram: &[u8]) -> (Vec<Sight>, Reply) {
    let mut sights = Vec::new();
    let mut reader = Reader { sequence: SEQUENCE, states: States::ALL, netns: 7, bound_to: &mut |_| {} };
    let reply = reader.read(datagram, &mut sights);
    (sights, reply)
}

fn one(body: &[u8]) -> Sight {
    let (sights, reply) = read(&message(BY_FAMILY, 2, body));
    assert_eq!(reply, Reply::default());
    assert_eq!(sights.len(), 1);
    sights[0]
}

#[test]
fn every_field_has_its_place() {
    let words: Vec<u8> = (1u32..=9).flat_map(u32::to_ne_bytes).collect();
    let info: Vec<u8> = (0..=255).collect();
    let body = [
        fixed(1, 4),
        attribute(ATTRIBUTE_SHUTDOWN, &[2]),
        attribute(ATTRIBUTE_MEMORY, &words),
        attribute(99, b"unknown"),
        attribute(ATTRIBUTE_CGROUP, &77u64.to_ne_bytes()),
        attribute(ATTRIBUTE_INFO, &info),
    ]
    .concat();
    let sight = one(&body);
    assert_eq!((sight.cookie, sight.netns), (1 << 32 | 42, 7));
    assert_eq!((sight.kind, sight.state), (Kind::Full, TcpState::Established));
    assert_eq!(sight.ends.local().to_string(), "10.0.0.1:1000");
    assert_eq!(sight.ends.remote().to_string(), "10.0.0.9:80");
    let timer = Timer { kind: TimerKind::Probe, expires_ms: 700, retransmits: 3 };
    assert_eq!(sight.timer, Some(timer));
    assert_eq!((sight.receive_queue, sight.send_queue, sight.uid, sight.inode), (11, 12, 13, 14));
    assert_eq!((sight.shutdown, sight.cgroup), (Some(2), Some(77)));
    let memory = sight.memory.unwrap();
    assert_eq!((memory.receive, memory.queued, memory.drops), (1, 6, 9));
    let info = sight.info.unwrap();
    let word = |at: u8| u32::from_ne_bytes([at, at + 1, at + 2, at + 3]);
    assert_eq!((info.retransmits, info.probes, info.backoff), (2, 3, 4));
    assert_eq!((info.rto_us, info.unacked, info.lost), (word(8), word(24), word(32)));
    assert_eq!((info.last_data_sent_ms, info.last_data_recv_ms), (word(44), word(52)));
    assert_eq!((info.last_ack_recv_ms, info.rtt_us, info.min_rtt_us), (word(56), word(68), word(148)));
    assert_eq!((info.total_retrans, info.notsent_bytes, info.snd_wnd), (word(100), word(144), word(228)));
    assert_eq!(info.bytes_acked.to_ne_bytes()[0], 120);
    assert_eq!(info.bytes_received.to_ne_bytes()[0], 128);
    assert_eq!(info.bytes_sent.to_ne_bytes()[0], 200);
}

#[test]
fn kinds_are_told_apart_without_details() {
    let shutdown = attribute(ATTRIBUTE_SHUTDOWN, &[0]);
    for (state, timer, more, expected) in [
        (3, 1, &[][..], (Kind::Request, TcpState::NewSynRecv)),
        (3, 1, &shutdown, (Kind::Full, TcpState::SynRecv)),
        (5, 3, &[], (Kind::Minisocket, TcpState::FinWait2)),
        (6, 3, &[], (Kind::Minisocket, TcpState::TimeWait)),
        (5, 2, &shutdown, (Kind::Full, TcpState::FinWait2)),
        (10, 0, &shutdown, (Kind::Full, TcpState::Listen)),
    ] {
        let sight = one(&[&fixed(state, timer), more].concat());
        assert_eq!((sight.kind, sight.state), expected);
    }
}

#[test]
fn a_shorter_tcp_info_leaves_zeros() {
    let info = |value: &[u8]| one(&[fixed(1, 0), attribute(ATTRIBUTE_INFO, value)].concat()).info.unwrap();
    let full = info(&[0x11; 280]);
    assert_eq!(full.snd_wnd, 0x1111_1111);
    let old = info(&[0x11; 104]);
    assert_eq!((old.total_retrans, old.bytes_acked, old.snd_wnd), (0x1111_1111, 0, 0));
    assert_eq!(info(&[]), TcpInfo::default());
    assert_eq!(info(&[0xff; 232]).min_rtt_us, 0, "never measured");
}

#[test]
fn a_due_timer_is_due_now() {
    let mut body = fixed(1, 1);
    body[52..56].copy_from_slice(&(-4i32).to_ne_bytes());
    assert_eq!(one(&body).timer.unwrap().expires_ms, 0);
    assert_eq!(one(&fixed(1, 5)).timer, None, "a delayed ACK");
}

#[test]
fn ends_and_interruptions_are_heard() {
    let end = |kind, code: i32| read(&message(kind, 0, &code.to_ne_bytes())).1.end;
    assert_eq!(end(DONE, 0), Some(End::Complete));
    assert_eq!(end(DONE, -libc::ENOENT), Some(End::Failed(libc::ENOENT)));
    assert_eq!(end(ERROR, -libc::EBUSY), Some(End::Failed(libc::EBUSY)));
    assert_eq!(end(ERROR, i32::MIN), Some(End::Failed(i32::MAX)));
    assert_eq!(read(&message(DONE, 0, &[])).1.end, Some(End::Complete));
    // A socket and the end in one datagram.
    let both = [message(BY_FAMILY, 2 | NLM_F_DUMP_INTR, &fixed(1, 0)), message(DONE, 2, &[0; 4])].concat();
    let (sights, reply) = read(&both);
    assert_eq!((sights.len(), reply.end, reply.interrupted), (1, Some(End::Complete), true));
    assert!(read(&message(OVERRUN, 0, &[])).1.interrupted);
}

#[test]
fn what_makes_no_sense_is_counted() {
    let unreadable = |bytes: &[u8]| {
        let (sights, reply) = read(bytes);
        assert!(sights.is_empty());
        reply.unreadable
    };
    let mut no_cookie = fixed(1, 0);
    no_cookie[44..52].fill(0);
    let mut no_family = fixed(1, 0);
    no_family[0] = 1;
    let broken_attribute = [fixed(1, 0), vec![3, 0, 8, 0]].concat();
    for body in
        [no_cookie, no_family, broken_attribute, fixed(0, 0), fixed(13, 0), fixed(1, 0)[..71].to_vec()]
    {
        assert_eq!(unreadable(&message(BY_FAMILY, 2, &body)), 1);
    }
    assert_eq!(unreadable(&message(77, 2, &fixed(1, 0))), 1);
    let whole = message(BY_FAMILY, 2, &fixed(1, 0));
    assert_eq!(unreadable(&whole[..40]), 1, "cut off");
    assert_eq!(unreadable(&[0; 16]), 1, "a length of 0");
}

#[test]
fn what_was_not_asked_for_is_left_out() {
    let mut other = message(BY_FAMILY, 2, &fixed(1, 0));
    other[8] = 6;
    assert_eq!(read(&other), (vec![], Reply::default()), "an answer to an earlier request");
    let mut sights = Vec::new();
    let states = States::of([TcpState::SynRecv]);
    let mut reader = Reader { sequence: SEQUENCE, states, netns: 7, bound_to: &mut |_| {} };
    reader.read(&message(BY_FAMILY, 2, &fixed(3, 1)), &mut sights);
    assert_eq!(sights, [], "the kernel adds requests to SYN_RECV");
}

#[test]
fn requests_are_what_the_kernel_expects() {
    let query = Query { ports: (1, 2), ..Query::of(States::ALL, Detail::Full) };
    let both = Request::dump(&query, 9);
    assert_eq!(both.bytes().len(), 76);
    assert_eq!(both.bytes()[..20], [76, 0, 0, 0, 18, 0, 1, 3, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x42]);
    assert_eq!(both.bytes()[20..24], [0, 1, 0, 2]);
    assert_eq!(both.bytes()[68..72], [0x7e, 0x1f, 0, 0], "every state but CLOSE");
    let one = Request::dump(&Query { family: Some(Family::Inet6), ..query }, 9);
    assert_eq!(one.bytes()[..20], [72, 0, 0, 0, 20, 0, 1, 3, 9, 0, 0, 0, 0, 0, 0, 0, 10, 6, 0x42, 0]);
    assert_eq!(one.bytes()[20..28], [0x7e, 0x1f, 0, 0, 0, 1, 0, 2]);

    let sight = self::one(&fixed(1, 0));
    let look = Request::look(&sight.ends, 3, sight.cookie, 9);
    let mut id = fixed(1, 0)[4..52].to_vec();
    id[36] = 3;
    assert_eq!(look.bytes()[16], libc::AF_INET as u8);
    assert_eq!(look.bytes()[24..], id);
    let v6 = Ends { local: [1; 16], ..sight.ends };
    assert_eq!(Request::look(&v6, 0, 1, 9).bytes()[16], libc::AF_INET6 as u8);
}

/// As sock_destroy of iproute2 has it: SOCK_DESTROY, with an answer in any case, and always with a cookie.
#[test]
fn a_socket_is_destroyed_by_its_cookie() {
    let sight = one(&fixed(1, 0));
    let request = Request::destroy(&sight.ends, 3, sight.cookie, 9);
    assert_eq!(request.bytes()[..16], [72, 0, 0, 0, 21, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    let look = Request::look(&sight.ends, 3, sight.cookie, 9);
    assert_eq!(request.bytes()[16..18], look.bytes()[16..18]);
    assert_eq!(request.bytes()[20..], look.bytes()[20..], "the same socket");
    let v6 = Ends { local: [1; 16], ..sight.ends };
    assert_eq!(Request::destroy(&v6, 0, 1, 9).bytes()[16], libc::AF_INET6 as u8);
    for no_cookie in [0, u64::MAX] {
        let request = Request::destroy(&sight.ends, 0, no_cookie, 9);
        assert_eq!(
            request.bytes()[64..],
            [0; 8],
            "no socket has it; with all ones the kernel would compare none"
        );
    }
}

#[test]
fn states_are_a_set() {
    let all = States::of(TcpState::ALL.into_iter().filter(|state| *state != TcpState::Close));
    assert_eq!(all, States::ALL);
    assert!(!States::ALL.has(TcpState::Close) && !States::NONE.has(TcpState::Listen));
    assert_eq!(States::of([TcpState::Close]).bits(), 1 << 7 | 1 << 13);
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    /// Bytes that begin as they should lead deeper.
    #[test]
    fn any_attributes_are_read(
        state in any::<u8>(), timer in any::<u8>(), flags in any::<u16>(),
        attributes in proptest::collection::vec((0u16..30, proptest::collection::vec(any::<u8>(), 0..300)), 0..5),
        tail in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let attributes = attributes.iter().flat_map(|(kind, value)| attribute(*kind, value));
        let body: Vec<u8> = fixed(state, timer).into_iter().chain(attributes).chain(tail).collect();
        let (sights, reply) = read(&message(BY_FAMILY, flags, &body));
        prop_assert!(sights.len() as u64 + reply.unreadable <= 1);
    }
}
