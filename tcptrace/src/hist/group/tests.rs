//! Whose a flow is, and more groups than there is room for.

use super::*;
use crate::{
    event::{Ends, TcpState},
    flow::{
        FlowId,
        owner::{Owner, Source},
    },
};

const PAIR: (TcpState, TcpState) = (TcpState::SynSent, TcpState::Established);

fn who(role: Role, local: &str, remote: &str) -> Who {
    let end = |text: &str| -> std::net::SocketAddr { text.parse().unwrap() };
    let (local, remote) = (end(local), end(remote));
    let bytes = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(ip) => ip.octets(),
    };
    let ends = Ends {
        local: bytes(local.ip()),
        remote: bytes(remote.ip()),
        lport: local.port(),
        rport: remote.port(),
    };
    Who { id: FlowId::Cookie(1), netns: 7, ends, role, owner: None }
}

fn key(by: By, who: &Who) -> String {
    by.key(who, &Listeners::from_iter([(7, 80)]), &mut NoContainers).to_string()
}

#[test]
fn a_port_is_the_services_port() {
    for (role, local, remote, port) in [
        (Role::Active, "10.0.0.1:40000", "10.0.0.9:443", "→443"),
        (Role::Passive, "10.0.0.9:443", "10.0.0.1:40000", ":443"),
        (Role::Listen, "0.0.0.0:443", "0.0.0.0:0", ":443"),
        (Role::Unknown, "10.0.0.9:80", "10.0.0.1:40000", ":80"),
        (Role::Unknown, "10.0.0.9:81", "10.0.0.1:40000", "→40000"),
        // It speaks to a port that somebody here listens on, too.
        (Role::Active, "10.0.0.1:80", "10.0.0.9:443", "→443"),
    ] {
        assert_eq!(key(By::Port, &who(role, local, remote)), port, "{role:?}");
    }
}

#[test]
fn groups_have_the_names_of_stat() {
    let mut flow = who(Role::Passive, "[::ffff:10.0.0.1]:80", "[::ffff:192.0.2.1]:5");
    assert_eq!(key(By::Peer, &flow), "192.0.2.1");
    assert_eq!(key(By::Netns, &flow), "net:[7]");
    assert_eq!(key(By::Role, &flow), "passive");
    assert_eq!(
        (key(By::Process, &flow), key(By::Container, &flow)),
        ("(unknown)".into(), "(unknown)".into())
    );
    assert_eq!(key(By::Peer, &Who { role: Role::Listen, ..flow.clone() }), "(listening)");
    let process = Rc::new(Process { pid: 42, uid: 0, cgroup: 9, comm: "nginx".into() });
    flow.owner = Some(Owner { process, source: Source::Accept });
    assert_eq!(key(By::Process, &flow), "nginx/42");
}

fn count(times: u64) -> impl Fn(&mut Tally) {
    move |tally| tally.count(PAIR, true, times)
}

#[test]
fn a_hundred_thousand_peers_are_bounded_and_add_up() {
    let mut groups = Groups::default();
    let mut most = 0;
    for number in 0..100_000 {
        let spell = super::super::Spell {
            state: PAIR.0,
            to: PAIR.1,
            time: super::super::Time::Exact(u64::from(number) * 1_000_000),
        };
        groups.change(Key::Netns(number), &|tally| {
            tally.count(PAIR, true, 1);
            tally.left(&spell);
        });
        // One that is busy from the beginning is never forgotten.
        groups.change(Key::Local(80), &count(1));
        most = most.max(groups.bytes);
        assert!(groups.known.len() <= MAX_GROUPS);
    }
    assert!(most < MAX_BYTES, "{most}");
    let late = groups.known.get(&Key::Netns(99_999)).expect("the latest is kept");
    assert!(late.may_lack, "others had been forgotten before it came");
    let top = groups.top(3);
    assert_eq!((&top.groups[0].0, top.groups[0].1.may_lack, top.more), (&Key::Local(80), false, None));
    assert_eq!(top.groups[0].1.events(), 100_000);
    let all: u64 = top.groups.iter().map(|(_, tally)| tally.events()).sum();
    assert_eq!(all + top.others.events(), 200_000);
    let times = |tally: &Tally| tally.rows().iter().map(|(_, row)| row.times.exact.count()).sum::<u64>();
    assert_eq!(top.groups.iter().map(|(_, tally)| times(tally)).sum::<u64>() + times(&top.others), 100_000);
}

#[test]
fn memory_is_a_limit_too() {
    let mut groups = Groups::default();
    let limit = 1 << 20;
    for number in 0..200 {
        for ms in 0..40 {
            let spell =
                super::super::Spell { state: PAIR.0, to: PAIR.1, time: super::super::Time::Exact(ms << 30) };
            groups.change_within(Key::Netns(number), &|tally| tally.left(&spell), MAX_GROUPS, limit);
            assert!(groups.bytes <= limit, "{}", groups.bytes);
            assert_eq!(groups.bytes, groups.known.values().map(Tally::bytes).sum::<usize>());
        }
    }
    assert!(groups.known.len() < 200 && groups.folded);
    let counted = |tally: &Tally| tally.states().iter().map(|(_, times, _)| times.count()).sum::<u64>();
    let top = groups.top(200);
    let all: u64 = top.groups.iter().map(|(_, tally)| counted(tally)).sum();
    assert_eq!(all + counted(&top.others), 200 * 40);
}

#[test]
fn few_groups_are_all_kept_apart() {
    let mut groups = Groups::default();
    for (port, times) in [(1, 3), (2, 2), (3, 1), (4, 1)] {
        groups.change(Key::Local(port), &count(times));
    }
    let top = groups.top(2);
    let shown: Vec<_> = top.groups.iter().map(|(key, tally)| (key.clone(), tally.events())).collect();
    assert_eq!(shown, [(Key::Local(1), 3), (Key::Local(2), 2)]);
    assert_eq!((top.more, top.others.events()), (Some(2), 2));
}
