//! Every row of the table.
use super::*;
use Cause::*;
use TcpState as S;
use proptest::prelude::*;

/// Nothing special: no error, descriptor open, resets visible and none seen.
fn quiet(old: S) -> Evidence {
    Evidence {
        old,
        err: Some(0),
        soft: 0,
        dead: Some(false),
        done: Some(false),
        has_socket: Some(true),
        packets_out: Some(0),
        unread: Some(0),
        linger2_negative: false,
        local_port: true,
        shutdown: 0,
        retransmits: 0,
        age_ns: None,
        sent_before: None,
        sent_after: None,
        received: false,
        resets_visible: true,
        minisocket: None,
    }
}

fn reset() -> Option<SentReset> {
    Some(SentReset { reason: None })
}

fn because(name: &str) -> Option<SentReset> {
    Some(SentReset { reason: Some(name.into()) })
}

fn cause(evidence: Evidence) -> Cause {
    judge(&evidence).cause
}

#[test]
fn syn_sent() {
    let e = || quiet(S::SynSent);
    assert_eq!(cause(Evidence { err: Some(111), received: true, ..e() }), Refused);
    assert_eq!(cause(Evidence { err: Some(110), ..e() }), Timeout);
    for icmp in [113, 101, 111] {
        assert_eq!(cause(Evidence { err: Some(icmp), ..e() }), Unreachable);
    }
    assert_eq!(cause(Evidence { local_port: false, ..e() }), NoLocalPort);
    assert_eq!(cause(e()), Abandoned);
    // The program may have read the error before the event: then silence after retransmissions does not tell.
    assert_eq!(cause(Evidence { retransmits: 2, ..e() }), Unknown);
    // The program was faster than the event. Three repetitions, the last time-out was over: 1 + 2 + 4 + 8 s.
    let after = |ms: u64| Evidence { retransmits: 3, age_ns: Some(ms * 1_000_000), ..e() };
    assert_eq!(cause(after(15_000)), Timeout);
    assert_eq!(cause(Evidence { soft: 113, ..after(15_000) }), Unreachable);
    assert_eq!(cause(after(7_100)), Unknown, "right after the third: an ICMP error that was read");
    assert_eq!(cause(Evidence { shutdown: 3, ..after(15_000) }), Abandoned);
    assert_eq!(cause(Evidence { retransmits: 255, ..after(15_000) }), Unknown);
    assert_eq!(cause(Evidence { retransmits: 2, shutdown: 3, ..e() }), Abandoned);
    assert_eq!(cause(Evidence { received: true, ..e() }), Refused);
}

#[test]
fn syn_recv() {
    let e = || quiet(S::SynRecv);
    assert_eq!(cause(Evidence { err: Some(104), received: true, ..e() }), ResetReceived);
    assert_eq!(cause(Evidence { sent_after: reset(), ..e() }), NeverAccepted);
    assert_eq!(cause(Evidence { err: Some(110), ..e() }), Timeout);
    assert_eq!(cause(e()), Unknown);
}

#[test]
fn established_and_close_wait() {
    for old in [S::Established, S::CloseWait] {
        let e = || quiet(old);
        let by_peer = if old == S::CloseWait { 32 } else { 104 };
        assert_eq!(cause(Evidence { err: Some(by_peer), received: true, ..e() }), ResetReceived);
        assert_eq!(cause(Evidence { err: Some(110), ..e() }), Timeout);
        assert_eq!(cause(Evidence { err: Some(110), sent_before: reset(), ..e() }), KeepaliveTimeout);
        assert_eq!(cause(Evidence { err: Some(113), soft: 113, ..e() }), Timeout);
        assert_eq!(cause(Evidence { err: Some(103), sent_before: reset(), ..e() }), Destroyed);
        assert_eq!(cause(Evidence { sent_after: because("tcp-abort-on-close"), ..e() }), UnreadData);
        assert_eq!(cause(Evidence { sent_after: reset(), unread: Some(5), ..e() }), UnreadData);
        assert_eq!(cause(Evidence { sent_after: reset(), ..e() }), Aborted);
        assert_eq!(cause(Evidence { sent_after: reset(), has_socket: Some(false), ..e() }), NeverAccepted);
        assert_eq!(cause(e()), Unknown);
    }
}

#[test]
fn fin_wait1() {
    let e = || quiet(S::FinWait1);
    let orphan = || Evidence { dead: Some(true), has_socket: Some(false), ..e() };
    assert_eq!(cause(Evidence { err: Some(104), received: true, ..e() }), ResetReceived);
    assert_eq!(
        cause(Evidence { err: Some(104), received: true, sent_after: reset(), ..orphan() }),
        DataAfterClose
    );
    assert_eq!(cause(Evidence { err: Some(110), packets_out: Some(1), ..orphan() }), OrphanGaveUp);
    assert_eq!(cause(Evidence { err: Some(113), soft: 113, ..orphan() }), OrphanGaveUp);
    assert_eq!(cause(Evidence { err: Some(110), ..e() }), Timeout);
    assert_eq!(cause(Evidence { sent_before: reset(), ..orphan() }), OrphanLimit);
    assert_eq!(cause(orphan()), NamespaceGone);
    assert_eq!(cause(Evidence { resets_visible: false, ..orphan() }), Unknown);
    assert_eq!(cause(Evidence { sent_after: reset(), ..e() }), Aborted);
    // shutdown(SHUT_WR), then close() with data unread
    assert_eq!(cause(Evidence { sent_after: reset(), unread: Some(5), ..e() }), UnreadData);
}

#[test]
fn fin_wait2() {
    let e = || quiet(S::FinWait2);
    let orphan = || Evidence { dead: Some(true), has_socket: Some(false), ..e() };
    let mini = Verdict { cause: FinWait2Minisocket, continues_as: Some(S::FinWait2) };
    let time_wait = Verdict { cause: Orderly, continues_as: Some(S::TimeWait) };
    assert_eq!(judge(&Evidence { done: Some(true), ..e() }), time_wait);
    assert_eq!(judge(&Evidence { done: Some(true), ..orphan() }), time_wait);
    assert_eq!(judge(&orphan()), mini);
    assert_eq!(cause(Evidence { resets_visible: false, ..orphan() }), Unknown);
    assert_eq!(cause(Evidence { sent_after: reset(), linger2_negative: true, ..orphan() }), Aborted);
    assert_eq!(cause(Evidence { sent_after: reset(), ..orphan() }), DataAfterClose);
    assert_eq!(cause(Evidence { sent_before: reset(), ..orphan() }), FinWait2Expired);
    assert_eq!(
        cause(Evidence { sent_after: because("tcp-abort-on-close"), unread: Some(5), ..e() }),
        UnreadData
    );
    assert_eq!(cause(Evidence { sent_after: reset(), ..e() }), Aborted);
    assert_eq!(cause(Evidence { err: Some(104), received: true, ..e() }), ResetReceived);
    assert_eq!(
        cause(Evidence { err: Some(104), received: true, sent_after: reset(), ..e() }),
        DataAfterClose
    );
}

#[test]
fn closing() {
    let e = || quiet(S::Closing);
    assert_eq!(judge(&e()), Verdict { cause: Orderly, continues_as: Some(S::TimeWait) });
    assert_eq!(cause(Evidence { packets_out: Some(1), ..e() }), Aborted);
    assert_eq!(cause(Evidence { err: Some(104), received: true, ..e() }), ResetReceived);
    assert_eq!(
        cause(Evidence { err: Some(110), dead: Some(true), packets_out: Some(1), ..e() }),
        OrphanGaveUp
    );
}

#[test]
fn last_ack() {
    let e = || quiet(S::LastAck);
    assert_eq!(judge(&e()), Verdict { cause: Orderly, continues_as: None });
    assert_eq!(judge(&Evidence { dead: Some(true), ..e() }), Verdict { cause: Orderly, continues_as: None });
    assert_eq!(cause(Evidence { packets_out: Some(1), ..e() }), Aborted);
    assert_eq!(cause(Evidence { err: Some(104), received: true, ..e() }), ResetReceived);
    assert_eq!(
        cause(Evidence { err: Some(110), dead: Some(true), packets_out: Some(1), ..e() }),
        OrphanGaveUp
    );
}

#[test]
fn listen() {
    assert_eq!(cause(quiet(S::Listen)), ListenerClosed);
}

/// Without BTF only the RST hooks speak: everything they do not say is unknown.
#[test]
fn without_btf_only_resets_are_evidence() {
    let blind = |old| Evidence {
        err: None,
        dead: None,
        done: None,
        has_socket: None,
        packets_out: None,
        unread: None,
        ..quiet(old)
    };
    assert_eq!(cause(Evidence { received: true, ..blind(S::SynSent) }), Refused);
    assert_eq!(cause(Evidence { received: true, ..blind(S::Established) }), ResetReceived);
    assert_eq!(cause(Evidence { sent_after: reset(), ..blind(S::Established) }), Unknown);
    for old in [S::FinWait1, S::FinWait2, S::Closing, S::LastAck, S::SynSent] {
        assert_eq!(cause(blind(old)), Unknown, "{old:?}");
    }
}

proptest! {
    /// Only closes that leave FIN_WAIT2 or CLOSING go on as a minisocket.
    #[test]
    fn only_the_right_states_go_on(
        number in 1u8..=12, err in prop_oneof![Just(None), (0u16..130).prop_map(Some)],
        dead: Option<bool>, done: Option<bool>, before: bool, after: bool, received: bool,
    ) {
        let old = S::from_number(number).unwrap();
        let sent = |yes: bool| if yes { reset() } else { None };
        let evidence = Evidence { err, dead, done, sent_before: sent(before), sent_after: sent(after), received, ..quiet(old) };
        let verdict = judge(&evidence);
        if let Some(state) = verdict.continues_as {
            prop_assert!(matches!(old, S::FinWait2 | S::Closing));
            prop_assert!(matches!(state, S::FinWait2 | S::TimeWait));
        }
    }
}
