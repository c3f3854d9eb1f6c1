//! Namespaces by any name, and their settings.

use crate::{alone, namespace};
use std::{collections::BTreeSet, process::Command};
use tcptrace::source::{
    netns::{self, Namespace},
    sockdiag::SockDiag,
};
use tcptrace_lab::{Family, Lab, Side};

#[test]
#[ignore = "needs root: makes network namespaces"]
fn namespaces_are_found_by_any_name() {
    let _alone = alone();
    let lab = Lab::new(Family::V4).expect("a lab");
    let inode = lab.netns(Side::Server);
    // Those of the lab are a thread's each.
    let found = Namespace::all().expect("/proc");
    assert_eq!(found.found[0].inode(), Namespace::own().expect("/proc").inode());
    let inodes: BTreeSet<_> = found.found.iter().map(Namespace::inode).collect();
    assert_eq!(inodes.len(), found.found.len(), "each once");
    assert!(inodes.contains(&lab.netns(Side::Client)) && inodes.contains(&inode));
    let thread = format!("/proc/self/task/{}/ns/net", lab.thread_id(Side::Server));
    for text in [format!("net:[{inode}]"), lab.thread_id(Side::Server).to_string(), thread] {
        assert_eq!(Namespace::open(&text).expect("opened").inode(), inode, "{text}");
        assert_eq!(netns::find(&text), Ok(inode));
    }

    let name = format!("tcptrace-test-{}", std::process::id());
    let ip = |verb| Command::new("ip").args(["netns", verb, &name]).status().expect("ip runs").success();
    assert!(ip("add"));
    let (named, all) = (Namespace::open(&name), Namespace::all());
    assert!(ip("delete"));
    let named = named.expect("opened");
    assert_eq!((named.name(), named.label()), (Some(name.as_str()), name.clone()));
    let all = all.expect("/proc").found;
    assert!(all.iter().any(|it| it.inode() == named.inode() && it.name() == Some(&name)));
    // The open file keeps it.
    SockDiag::open(&named).expect("sock_diag");
    let gone = Namespace::open(&name).expect_err("deleted").to_string();
    assert!(gone.contains(&name) && gone.contains("ip netns"), "{gone}");
    let gone = Namespace::open("net:[1]").expect_err("no such").to_string();
    assert!(gone.contains("net:[1]"), "{gone}");

    lab.set_sysctl(Side::Server, "net.ipv4.tcp_fin_timeout", "5").expect("set");
    let limits =
        [Side::Client, Side::Server].map(|side| netns::limits(&namespace(&lab, side)).expect("entered"));
    assert_eq!(limits.each_ref().map(|it| it.fin_timeout_ns), [Some(60_000_000_000), Some(5_000_000_000)]);
    assert!(limits[0].max_tw_buckets.is_some() && limits[0].synack_retries.is_some());
}
