use super::*;
use crate::{
    event::{Ends, TcpState as S},
    kill::Tally,
    sight::{Kind, Taken, TcpInfo, Timer, TimerKind},
};

const S1: u64 = 1_000_000_000;

/// An orphan in FIN_WAIT1 that is proved to be `seconds` old: the first of its time-outs took that long.
fn fin_wait1(seconds: u32) -> Sight {
    let info = TcpInfo { rto_us: seconds * 2 * 1_000_000, unacked: 1, ..TcpInfo::default() };
    Sight {
        cookie: 77,
        netns: 7,
        kind: Kind::Full,
        state: S::FinWait1,
        ends: Ends { lport: 1000, rport: 80, ..Ends::default() },
        uid: 0,
        inode: 0,
        receive_queue: 0,
        send_queue: 1,
        timer: Some(Timer { kind: TimerKind::Retransmit, expires_ms: 1000, retransmits: 1 }),
        shutdown: Some(3),
        cgroup: None,
        memory: None,
        info: Some(info),
    }
}

/// Answers in this order, and what it was asked.
#[derive(Default)]
struct Script {
    looks: Vec<Result<Option<Sight>, String>>,
    destroys: Vec<Result<Destroyed, String>>,
    destroyed: Vec<u64>,
}

impl Kernel for &mut Script {
    fn look(&mut self, sight: &Sight) -> Result<Option<Sight>, String> {
        assert_eq!(sight.cookie, 77);
        self.looks.remove(0)
    }

    fn destroy(&mut self, sight: &Sight) -> Result<Destroyed, String> {
        self.destroyed.push(sight.cookie);
        self.destroys.remove(0)
    }
}

/// What comes of an old orphan, and whether the kernel was asked to end it.
fn kill(looks: &[Option<Sight>], destroys: &[Destroyed], older_than_ns: Option<u64>) -> (Outcome, bool) {
    let mut script = Script {
        looks: looks.iter().copied().map(Ok).collect(),
        destroys: destroys.iter().copied().map(Ok).collect(),
        ..Script::default()
    };
    let target = Target::new(fin_wait1(90), Taken::default());
    let outcome = Killer::new(&mut script, older_than_ns).kill(&target);
    assert!(script.looks.is_empty() && script.destroys.is_empty(), "{outcome:?}: not all was asked");
    (outcome, !script.destroyed.is_empty())
}

#[test]
fn what_is_as_it_was_is_ended_and_looked_for() {
    let old = Some(fin_wait1(91));
    assert_eq!(kill(&[old, None], &[Destroyed::Done], Some(90 * S1)), (Outcome::Killed, true));
    assert_eq!(kill(&[old, None], &[Destroyed::Done], None), (Outcome::Killed, true));
    assert_eq!(kill(&[old, old], &[Destroyed::Done], None), (Outcome::Stayed(S::FinWait1), true));
    assert_eq!(kill(&[old], &[Destroyed::Gone], None), (Outcome::Gone, true));
    assert_eq!(kill(&[old], &[Destroyed::Refused(libc::EPERM)], None), (Outcome::Refused(libc::EPERM), true));
}

#[test]
fn what_changed_since_is_left_alone() {
    assert_eq!(kill(&[None], &[], None), (Outcome::Gone, false));
    let old = fin_wait1(90);
    for now in [
        Sight { state: S::FinWait2, ..old },
        Sight { state: S::TimeWait, kind: Kind::Minisocket, ..old },
        // The same state by name, and another object.
        Sight { kind: Kind::Minisocket, ..old },
    ] {
        assert_eq!(kill(&[Some(now)], &[], None), (Outcome::Changed(now.state, now.kind), false));
    }
}

#[test]
fn what_is_not_proved_to_be_old_any_more_is_left_alone() {
    let young = (Outcome::Younger(Some(5 * S1)), false);
    assert_eq!(kill(&[Some(fin_wait1(5))], &[], Some(90 * S1)), young);
    // Data in front of the FIN: nothing tells.
    let data = Sight { send_queue: 1000, ..fin_wait1(90) };
    assert_eq!(kill(&[Some(data)], &[], Some(S1)), (Outcome::Younger(None), false));
    // Nobody asked how old it is.
    assert_eq!(kill(&[Some(data), None], &[Destroyed::Done], None), (Outcome::Killed, true));
}

#[test]
fn no_answer_is_no_success() {
    let failed = |looks: Vec<Result<Option<Sight>, String>>, destroys: Vec<Result<Destroyed, String>>| {
        let mut script = Script { looks, destroys, ..Script::default() };
        let outcome = Killer::new(&mut script, None).kill(&Target::new(fin_wait1(90), Taken::default()));
        assert!(outcome.is_failure(), "{outcome:?}");
        (outcome, script.destroyed.len())
    };
    let (no, old) = (|| Err("no answer".to_owned()), || Ok(Some(fin_wait1(90))));
    assert_eq!(failed(vec![no()], vec![]), (Outcome::Failed("no answer".into()), 0));
    assert_eq!(failed(vec![old()], vec![Err("no answer".into())]), (Outcome::Failed("no answer".into()), 1));
    let (outcome, _) = failed(vec![old(), no()], vec![Ok(Destroyed::Done)]);
    assert!(matches!(outcome, Outcome::Failed(why) if why.contains("said it is done")));
}

/// Before 6.11 the kernel takes an orphan's timer and leaves the rest: one is enough.
#[test]
fn a_kernel_that_leaves_orphans_is_not_asked_again() {
    let orphan = fin_wait1(90);
    let held = Sight { inode: 5, ..orphan };
    let mut script = Script {
        looks: [Some(orphan), Some(orphan), Some(held), None].into_iter().map(Ok).collect(),
        destroys: vec![Ok(Destroyed::Done); 2],
        ..Script::default()
    };
    let mut killer = Killer::new(&mut script, None);
    let mut tally = Tally::default();
    let outcomes = [orphan, orphan, held].map(|sight| killer.kill(&Target::new(sight, Taken::default())));
    assert_eq!(outcomes, [Outcome::Stayed(S::FinWait1), Outcome::Spared, Outcome::Killed]);
    outcomes.iter().for_each(|outcome| tally.add(outcome));
    assert_eq!(tally, Tally { killed: 1, failed: 2, ..Tally::default() });
}
