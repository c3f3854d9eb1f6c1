//! What events told: bursts of refusals and resets, and how long they are remembered.

use super::made::*;
use crate::{
    diagnose::{
        History, Traced,
        history::{Burst, Place, WINDOW_NS},
    },
    event::{Carrier, Direction, Ends, Head, Reset, TcpState as S_},
    flow::{
        Closed, Entry, FlowId, Role, What, Who,
        cause::{Cause, Verdict},
    },
};

fn place(incoming: bool) -> Place {
    Place { netns: NETNS, incoming, addr: v4(9), port: 10_000 }
}

fn burst(place: Place) -> Burst {
    Burst {
        place,
        refused: 0,
        refused_at_once: 0,
        closed: 100,
        sent: 0,
        received: 0,
        unheard: 0,
        unheard_at_once: 0,
        sent_cause: None,
        owner: None,
        since_ns: NOW_NS - 4 * S,
    }
}

fn bursts(bursts: Vec<Burst>) -> Host {
    let mut host = Host::of([]);
    host.around.traced = Some(Traced { bursts, watched_ns: WINDOW_NS, ..Traced::default() });
    host
}

#[test]
fn refused_connects_are_told_once() {
    let client = |refused| Burst { refused, refused_at_once: refused, ..burst(place(false)) };
    let server = |unheard| Burst { unheard, unheard_at_once: unheard, ..burst(place(true)) };
    bursts(vec![client(9)]).none();
    let mut shorter = bursts(vec![client(5)]);
    shorter.around.traced.as_mut().unwrap().watched_ns = WINDOW_NS / 10;
    assert_eq!(shorter.one().count, 5, "half as many in a tenth of the window");
    let finding = bursts(vec![client(10), server(10)]).one();
    assert_eq!((finding.name, finding.count, finding.subject.state), ("connect-refused", 10, S_::SynSent));
    assert_eq!(
        finding.verdict,
        "10 connects to 10.0.0.9:10000 were refused in the last 4.00 s: nobody listens there"
    );
    assert_eq!(bursts(vec![server(10)]).one().name, "connect-refused");
    let mut listens = bursts(vec![server(10)]);
    listens.sights.push((listener(1, 10_000, 0, 128), told(None)));
    listens.none();
    let mut lossy = bursts(vec![client(10)]);
    lossy.around.traced.as_mut().unwrap().lost = 3;
    assert_eq!(lossy.one().missing, ["3 events were lost: there were at least so many"]);
}

#[test]
fn resets_are_a_storm_where_they_are_many_of_all() {
    let sender = |sent| Burst { sent, sent_cause: Some(Cause::UnreadData), ..burst(place(true)) };
    let receiver = |received| Burst { received, ..burst(place(false)) };
    bursts(vec![sender(19), receiver(19)]).none();
    let finding = bursts(vec![sender(20), receiver(20)]).one();
    assert_eq!((finding.name, finding.count, finding.subject.role), ("rst-storm", 20, Role::Passive));
    assert!(finding.verdict.contains("on 10.0.0.9:10000 were reset by this side"), "{}", finding.verdict);
    assert!(bursts(vec![receiver(20)]).one().verdict.contains("reset by the other side"));
    // One in twenty of a busy service.
    bursts(vec![Burst { closed: 400, ..sender(20) }]).none();
}

fn entry(time_ns: u64, what: What) -> Entry {
    let ends = Ends { local: v4(1), remote: v4(9), lport: 40_000, rport: 10_000 };
    let who = Who { id: FlowId::Cookie(1), netns: NETNS, ends, role: Role::Active, owner: None };
    Entry { time_ns, who, what }
}

fn closed(time_ns: u64, cause: Cause) -> Entry {
    let closed = Closed {
        verdict: Verdict { cause, continues_as: None },
        old: S_::SynSent,
        err: None,
        duration_ns: None,
        dwell_ns: Default::default(),
        numbers: None,
        retransmits: Default::default(),
        closed_by: None,
    };
    entry(time_ns, What::Close(Box::new(closed)))
}

#[test]
fn events_are_forgotten_when_their_window_has_passed() {
    let mut history = History::default();
    for number in 0..10 {
        history.take(&closed(NOW_NS + number * 100 * MS, Cause::Refused));
    }
    let [burst] = &history.bursts(NOW_NS + S)[..] else { panic!("one place") };
    assert_eq!((burst.refused, burst.closed, burst.place), (10, 10, place(false)));
    assert_eq!(burst.since_ns, NOW_NS);
    // Steps of half a second: five of the first ten are still within the window.
    let later = history.bursts(NOW_NS + WINDOW_NS + 500 * MS);
    assert_eq!((later[0].refused, later[0].since_ns), (5, NOW_NS + 500 * MS));
    assert!(history.bursts(NOW_NS + 2 * WINDOW_NS).is_empty());
}

#[test]
fn an_hour_of_events_that_nobody_asks_for_takes_no_more_room() {
    let mut history = History::default();
    for second in 0..3600 {
        history.take(&closed(NOW_NS + second * S, Cause::Refused));
    }
    let held = format!("{history:?}").matches(", 1)").count();
    assert!(held < 100, "{held}");
    assert_eq!(history.bursts(NOW_NS + 3599 * S)[0].refused, 11);
}

#[test]
fn places_beyond_the_limit_are_counted_as_one() {
    let mut history = History::default();
    for port in 1..=2000_u16 {
        let mut reset = entry(NOW_NS, What::Reset(Box::new(unheard())));
        reset.who.ends.lport = port;
        history.take(&reset);
    }
    assert_eq!(history.beyond, 2000 - 1024);
    assert_eq!(history.bursts(NOW_NS).len(), 1024);
}

fn unheard() -> Reset {
    let head =
        Head { time_ns: NOW_NS, sock: 0, cookie: 0, netns: NETNS, undecided: false, ends: Ends::default() };
    Reset {
        head,
        direction: Direction::Sent,
        reason: None,
        carrier: Carrier::None,
        state: None,
        dead: None,
        answers: None,
    }
}
