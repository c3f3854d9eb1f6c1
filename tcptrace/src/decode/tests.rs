use super::*;
use proptest::prelude::*;
use tcptrace_common::address::Address;
use zerocopy::IntoBytes;

fn sample_header(kind: abi::Kind) -> abi::Header {
    let mut local = [0; 16];
    local[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 1]);
    abi::Header {
        pre: abi::Prefix {
            kind: kind as u8,
            flags: 0,
            state: TcpState::Established.number(),
            to: TcpState::FinWait1.number(),
            netns: 7,
            time_ns: 99,
            sock: 0xffff_8880_0000_0000,
            cookie: 42,
        },
        tuple: abi::Tuple {
            local: Address::from_bytes(local),
            remote: Address::from_bytes(local),
            lport: 1000,
            rport: 10000,
            family: 4,
            bits: abi::BITS_KNOWN | abi::DEAD,
            shutdown: 3,
            spare: 0,
        },
    }
}

fn sample_retransmit(flags: u8, length: u32, pending: u8, ca_state: u8) -> abi::Retransmit {
    abi::Retransmit {
        head: sample_header(abi::Kind::Retransmit),
        seq: u32::MAX,
        end_seq: u32::MAX.wrapping_add(length),
        snd_una: 0,
        err: 0,
        total_retrans: 1,
        packets_out: 1,
        segments: 1,
        tcp_flags: flags,
        ca_state,
        pending,
        retransmits: 1,
        backoff: 0,
        known: abi::SEGMENT_KNOWN,
    }
}

fn decoded(record: &abi::Retransmit) -> Retransmit {
    match Decoder::default().decode(record.as_bytes(), 0) {
        Ok(Event::Retransmit(event)) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transition_keeps_every_field() {
    let header = sample_header(abi::Kind::Transition);
    let Ok(Event::Transition(event)) = Decoder::default().decode(header.as_bytes(), 0) else { panic!() };
    assert_eq!((event.old, event.new, event.shutdown), (TcpState::Established, TcpState::FinWait1, 3));
    assert_eq!(event.bits, Some(Bits { dead: true, done: false, has_socket: false }));
    assert_eq!(event.head.ends.local().to_string(), "10.0.0.1:1000");
    assert_eq!((event.head.netns, event.head.time_ns, event.head.cookie), (7, 99, 42));
    assert_eq!(event.head.ends.family(), 4);
    // The machine slept: boot time is ahead of the kernel's stamp.
    let later = Decoder::default().decode(header.as_bytes(), 1000).unwrap();
    assert_eq!(later.head().time_ns, 1099);
}

#[test]
fn a_handshake_is_as_long_as_the_round_trip_of_a_syn_ack_that_was_not_repeated() {
    let handshake = |srtt_us, total_retrans| {
        let mut head = sample_header(abi::Kind::Established);
        (head.pre.state, head.pre.to) = (TcpState::SynRecv.number(), TcpState::Established.number());
        let record = abi::Established { head, srtt_us, total_retrans };
        match Decoder::default().decode(record.as_bytes(), 7) {
            Ok(Event::Transition(event)) => event.handshake_ns,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(handshake(1, 0), Some(1000));
    assert_eq!(handshake(40_123, 0), Some(40_123_000));
    assert_eq!(handshake(40_123, 1), None, "of a later SYN-ACK");
    assert_eq!(handshake(0, 0), None);
    assert_eq!(handshake(64_000, 0), None, "timestamps count in milliseconds");
}

#[test]
fn a_repeated_syn_ack_says_when_the_first_was_sent() {
    let handshake = |first_us| {
        let mut record = abi::SynAck {
            head: sample_header(abi::Kind::SynAck),
            num_retrans: 0,
            num_timeout: 0,
            spare: [0; 6],
            first_us,
        };
        record.head.pre.time_ns = 5_000_700;
        match Decoder::default().decode(record.as_bytes(), 7) {
            Ok(Event::Retransmit(event)) => event.handshake_ns,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(handshake(4_000), Some(1_000_700));
    assert_eq!(handshake(0), None);
    assert_eq!([handshake(5_001), handshake(u64::MAX)], [None; 2], "no such time");
}

#[test]
fn an_object_keeps_its_step_and_its_timer() {
    let mut record = abi::Object {
        head: sample_header(abi::Kind::Object),
        timeout: 15_000,
        step: abi::CHANGES,
        spare: [0; 3],
    };
    record.head.pre.state = TcpState::TimeWait.number();
    let Ok(Event::Object(event)) = Decoder::default().decode(record.as_bytes(), 1) else { panic!() };
    assert_eq!((event.state, event.step, event.timeout_jiffies), (TcpState::TimeWait, Step::Changes, 15_000));
    assert_eq!((event.head.cookie, event.head.time_ns), (42, 100));
    record.head.pre.state = 77;
    assert!(matches!(Decoder::default().decode(record.as_bytes(), 0), Err(DecodeError::State(77))));
}

#[test]
fn who_accepts_is_read() {
    let mut comm = [0; 2];
    comm.as_mut_bytes()[..5].copy_from_slice(b"nginx");
    let task = abi::Task { pid: 7, tid: 8, uid: 33, spare: 0, cgroup: 9, comm };
    let record = abi::Accept { head: sample_header(abi::Kind::Accept), task };
    let Ok(Event::Accept(event)) = Decoder::default().decode(record.as_bytes(), 0) else { panic!() };
    assert_eq!((event.task.pid, event.task.comm, event.head.ends.lport), (7, comm, 1000));
}

#[test]
fn segments_are_told_apart_by_flags_and_length() {
    let segment = |flags, length| decoded(&sample_retransmit(flags, length, 0, 4)).segment;
    assert_eq!(segment(SYN, 1), Segment::Syn);
    assert_eq!(segment(SYN | ACK, 1), Segment::SynAck);
    assert_eq!(segment(FIN | ACK, 1), Segment::Fin);
    assert_eq!(segment(FIN | ACK, 100), Segment::Data);
    assert_eq!(segment(ACK, 100), Segment::Data);
    let mut unread = sample_retransmit(0, 0, 0, 4);
    unread.known = 0;
    assert_eq!(decoded(&unread).segment, Segment::Unknown);
}

#[test]
fn reasons_follow_the_timer_and_the_congestion_state() {
    let reason = |pending, ca| decoded(&sample_retransmit(ACK, 10, pending, ca)).reason;
    assert_eq!(reason(0, 4), Reason::Rto);
    assert_eq!(reason(1, 4), Reason::Rto);
    assert_eq!(reason(5, 0), Reason::Tlp);
    assert_eq!(reason(5, 1), Reason::Tlp);
    assert_eq!(reason(5, 3), Reason::Fast);
    assert_eq!(reason(1, 3), Reason::Fast);
    assert_eq!(reason(1, 0), Reason::Unknown);
    assert_eq!(reason(abi::UNKNOWN8, 3), Reason::Unknown);
    let mut syn = sample_retransmit(SYN, 1, 0, 0);
    syn.head.pre.state = TcpState::SynSent.number();
    assert_eq!(decoded(&syn).reason, Reason::Rto);
}

#[test]
fn reset_reasons_have_the_running_kernels_names() {
    let decoder = Decoder::new(&[(11, "tcp-abort-on-close".into()), (u32::MAX - 1, "absurd".into())]);
    let mut record = abi::Reset {
        head: sample_header(abi::Kind::Reset),
        reason: 11,
        seq: 0,
        direction: abi::SENT,
        carrier: Carrier::Full as u8,
        tcp_flags: 0,
        spare: [0; 5],
    };
    let name = |record: &abi::Reset| match decoder.decode(record.as_bytes(), 0) {
        Ok(Event::Reset(event)) => event.reason.map(|name| name.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(name(&record).as_deref(), Some("tcp-abort-on-close"));
    record.reason = 77;
    assert_eq!(name(&record).as_deref(), Some("77"));
    record.reason = abi::REASON_UNKNOWN;
    assert_eq!(name(&record), None);
}

#[test]
fn bad_records_are_refused() {
    let decoder = Decoder::default();
    let header = sample_header(abi::Kind::Transition);
    assert_eq!(decoder.decode(&[], 0).err(), Some(DecodeError::Short(0)));
    assert_eq!(decoder.decode(&header.as_bytes()[..71], 0).err(), Some(DecodeError::Short(71)));
    assert_eq!(decoder.decode(&[99; 200], 0).err(), Some(DecodeError::Kind(99)));
    let mut foreign = header;
    foreign.pre.to = 13;
    assert_eq!(decoder.decode(foreign.as_bytes(), 0).err(), Some(DecodeError::State(13)));
}

proptest! {
    #[test]
    fn any_bytes_decode_or_fail(kind in 0u8..10, mut bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        if let Some(first) = bytes.first_mut() { *first = kind; }
        // Records in the ring are eight-byte aligned; a copy in a Vec<u64> is too.
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(&bytes);
        let _ = Decoder::default().decode(&words.as_bytes()[..bytes.len()], 0);
        // Unaligned input is an error, not undefined behaviour.
        let _ = Decoder::default().decode(&bytes, 0);
    }
}
