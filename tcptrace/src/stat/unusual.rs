//! What stands out: facts against limits, each with its numbers. What is not known is not judged.

use super::{
    limits::{Limits, Use},
    picture::Picture,
    queues::Queue,
};
use crate::event::TcpState;

/// Timewait buckets in use, in hundredths, from which they are worth a line.
const TIMEWAIT_PERCENT: u64 = 80;
/// Orphans, likewise: the kernel counts one that sends in vain twice (`tcp_out_of_resources`), so that at half of the
/// limit the first are reset.
const ORPHANS_PERCENT: u64 = 50;
/// So many sockets in CLOSE_WAIT are worth a line by themselves.
const CLOSE_WAIT_MANY: u64 = 100;
/// So many are, where they outnumber the established connections.
const CLOSE_WAIT_SOME: u64 = 10;
/// Listeners named in one line.
const NAMED: usize = 3;

/// Something that stands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusual {
    /// A stable name.
    pub name: &'static str,
    /// Connections fail because of it.
    pub bad: bool,
    /// The sentence.
    pub text: String,
}

/// Everything that stands out, what fails connections first.
pub fn find(picture: &Picture, limits: &Limits) -> Vec<Unusual> {
    let mut found = Vec::new();
    let mut add = |name, bad, text| found.push(Unusual { name, bad, text });
    let several = limits.timewait.len() > 1;
    let full: Vec<_> = picture.queues.iter().filter(|queue| queue.is_full()).collect();
    if !full.is_empty() {
        let (listeners, verb) = listeners(full.len(), "drops", "drop");
        let named = name(&full, several, |queue| format!("{}/{}", queue.waiting, queue.limit));
        add(
            "accept-queue-full",
            true,
            format!("{listeners} {verb} connections: accept queue full ({named})"),
        );
    }
    let flooded: Vec<_> = picture.queues.iter().filter(|queue| queue.is_flooded()).collect();
    if !flooded.is_empty() {
        let (listeners, verb) = listeners(flooded.len(), "has", "have");
        let named =
            name(&flooded, several, |queue| format!("{}/{}", queue.half_open.unwrap_or(0), queue.limit));
        let text =
            format!("{listeners} {verb} as many half-open connections as the backlog allows ({named})");
        // With cookies, which are on by default, the next ones connect all the same.
        add("syn-queue-full", false, text);
    }
    for (netns, of) in &limits.timewait {
        if let Some(text) = near(*of, TIMEWAIT_PERCENT, "timewait buckets", "tcp_max_tw_buckets") {
            let place = if several { format!(" in net:[{netns}]") } else { String::new() };
            add("timewait-near-limit", false, format!("{text}{place}"));
        }
    }
    if let Some(text) = near(limits.orphans, ORPHANS_PERCENT, "orphans", "tcp_max_orphans") {
        add("orphans-near-limit", limits.orphans.percent() >= Some(100), text);
    }
    if let (Some(pages), Some([_, pressure, high])) = (limits.memory.pages, limits.memory.marks) {
        if pages > high {
            let text = format!("TCP is out of memory: {pages} pages, tcp_mem allows {high}");
            add("memory-out", true, text);
        } else if pages > pressure {
            let text =
                format!("TCP memory is under pressure: {pages} pages, tcp_mem wants less than {pressure}");
            add("memory-pressure", false, text);
        }
    }
    if let Some(text) = close_wait(picture) {
        add("close-wait-pile", false, text);
    }
    found.sort_by_key(|unusual| !unusual.bad);
    found
}

/// The peer has closed and a program that has the socket has not. What no program has accepted is another matter.
fn close_wait(picture: &Picture) -> Option<String> {
    let all = &picture.all;
    let waiting = all.count(TcpState::CloseWait) - all.unaccepted_in(TcpState::CloseWait);
    let established = all.count(TcpState::Established);
    let pile = waiting >= CLOSE_WAIT_MANY || (waiting >= CLOSE_WAIT_SOME && waiting > established);
    pile.then(|| {
        format!(
            "{waiting} sockets in CLOSE_WAIT, beside {established} ESTABLISHED: the peer has closed, the program has not"
        )
    })
}

fn near(of: Use, from: u64, what: &str, setting: &str) -> Option<String> {
    let percent = of.percent().filter(|percent| *percent >= from)?;
    Some(format!("{what} at {percent} % of {setting} ({} of {})", of.used?, of.limit?))
}

fn listeners(count: usize, one: &'static str, many: &'static str) -> (String, &'static str) {
    if count == 1 { ("1 listener".to_owned(), one) } else { (format!("{count} listeners"), many) }
}

fn name(queues: &[&Queue], several: bool, numbers: impl Fn(&Queue) -> String) -> String {
    let named = queues.iter().take(NAMED).map(|queue| {
        let place = if several { format!(" in net:[{}]", queue.netns) } else { String::new() };
        format!("{} {}{place}", queue.local, numbers(queue))
    });
    let rest = queues.len().saturating_sub(NAMED);
    let rest = (rest > 0).then(|| format!("and {rest} more"));
    named.chain(rest).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{limits::Memory, picture::Count, tests::*},
        *,
    };
    use crate::{
        sight::{Kind, Sight},
        source::filter::FilterSpec,
    };

    fn picture(sights: impl IntoIterator<Item = Sight>) -> Picture {
        let filter = FilterSpec::default();
        let mut count = Count::new(&filter, None);
        sights.into_iter().for_each(|sight| count.add(&sight));
        count.finish(20)
    }

    fn names(picture: &Picture, limits: &Limits) -> Vec<(&'static str, bool)> {
        find(picture, limits).iter().map(|unusual| (unusual.name, unusual.bad)).collect()
    }

    #[test]
    fn nothing_is_unusual_about_nothing_or_about_what_is_unknown() {
        assert_eq!(names(&picture([]), &Limits::default()), []);
        let unknown = Limits {
            timewait: vec![(7, Use { used: Some(1 << 40), limit: None })],
            orphans: Use { used: Some(1 << 40), limit: None },
            memory: Memory { pages: Some(1 << 40), marks: None },
            no_state: None,
        };
        assert_eq!(names(&picture([]), &unknown), []);
    }

    #[test]
    fn full_queues_are_named() {
        let listener = |port: u16, waiting| Sight {
            receive_queue: waiting,
            send_queue: 2,
            ..sight(TcpState::Listen, &format!("0.0.0.0:{port}"), "0.0.0.0:0")
        };
        let full = picture([listener(80, 3), listener(81, 2), listener(82, 0)]);
        let found = find(&full, &Limits::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text, "1 listener drops connections: accept queue full (0.0.0.0:80 3/2)");
        let many = picture((1..=5).map(|port| listener(port, 3)));
        let text = &find(&many, &Limits::default())[0].text;
        assert!(text.starts_with("5 listeners drop") && text.ends_with("and 2 more)"), "{text}");
    }

    #[test]
    fn a_flood_of_syns_is_told() {
        let listener = Sight { send_queue: 2, ..sight(TcpState::Listen, "0.0.0.0:80", "0.0.0.0:0") };
        let requests = |count| {
            (0..count).map(|_| Sight {
                kind: Kind::Request,
                ..sight(TcpState::NewSynRecv, "10.0.0.1:80", "10.0.0.9:1")
            })
        };
        let of = |count| find(&picture(requests(count).chain([listener])), &Limits::default());
        assert_eq!(of(1), []);
        let found = of(3);
        assert_eq!((found[0].name, found[0].bad), ("syn-queue-full", false));
        let text = "1 listener has as many half-open connections as the backlog allows (0.0.0.0:80 3/2)";
        assert_eq!(found[0].text, text);
    }

    #[test]
    fn limits_are_judged_from_their_marks_on() {
        let use_of = |used| Use { used: Some(used), limit: Some(100) };
        let limits = |timewait, orphans, pages| Limits {
            timewait: vec![(7, use_of(timewait))],
            orphans: use_of(orphans),
            memory: Memory { pages: Some(pages), marks: Some([10, 20, 30]) },
            no_state: None,
        };
        let none = picture([]);
        assert_eq!(names(&none, &limits(79, 49, 20)), []);
        let expected =
            [("timewait-near-limit", false), ("orphans-near-limit", false), ("memory-pressure", false)];
        assert_eq!(names(&none, &limits(80, 50, 21)), expected);
        let expected = [("orphans-near-limit", true), ("memory-out", true)];
        assert_eq!(names(&none, &limits(0, 100, 31)), expected);
        let found = find(&none, &limits(97, 0, 0));
        assert_eq!(found[0].text, "timewait buckets at 97 % of tcp_max_tw_buckets (97 of 100)");
    }

    #[test]
    fn a_pile_of_close_wait_is_told_unless_nobody_has_accepted() {
        let of_state = |state, inode, count| (0..count).map(move |_| of(Kind::Full, state, inode));
        let close_wait = |inode, count| of_state(TcpState::CloseWait, inode, count);
        let judge = |sights: Vec<Sight>| names(&picture(sights), &Limits::default()).len();
        assert_eq!(judge(close_wait(5, 9).collect()), 0);
        assert_eq!(judge(close_wait(5, 10).collect()), 1);
        assert_eq!(judge(close_wait(0, 200).collect()), 0);
        let beside = |count, established| {
            close_wait(5, count).chain(of_state(TcpState::Established, 5, established)).collect()
        };
        assert_eq!(judge(beside(99, 99)), 0);
        assert_eq!(judge(beside(100, 1000)), 1);
    }
}
