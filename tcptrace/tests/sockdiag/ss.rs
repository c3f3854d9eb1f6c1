//! The same list as `ss` prints it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    process::Command,
};
use tcptrace::{event::TcpState, sight::Sight};
use tcptrace_lab::{Lab, Side};

/// Cookie, state and ends: what `ss` and we must agree on.
pub type Line = (u64, &'static str, SocketAddr, SocketAddr);

pub fn line(sight: &Sight) -> Line {
    (sight.cookie, sight.state.name(), sight.ends.local(), sight.ends.remote())
}

pub fn ss(lab: &Lab, side: Side) -> BTreeSet<Line> {
    let mut ss = Command::new("ss");
    ss.arg("-tanHOe");
    let output = lab.command(side, ss).expect("ss runs");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").lines().map(ss_line).collect()
}

fn ss_line(line: &str) -> Line {
    let mut fields = line.split_whitespace();
    let state = fields.next().expect("a state");
    let state = if state == "UNCONN" { "CLOSE" } else { state };
    let state = TcpState::parse(state).unwrap_or_else(|| panic!("{line}")).name();
    let mut ends = fields.skip(2);
    let mut end = || address(ends.next().expect("an end")).unwrap_or_else(|| panic!("{line}"));
    let (local, remote) = (end(), end());
    let cookie = line.split_whitespace().find_map(|field| field.strip_prefix("sk:")).expect("a cookie");
    (u64::from_str_radix(cookie, 16).expect("hexadecimal"), state, local, remote)
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.rsplit_once(':')?;
    let address = address.trim_matches(['[', ']']).split('%').next()?.trim_end_matches(']');
    let address: IpAddr = if address == "*" { Ipv6Addr::UNSPECIFIED.into() } else { address.parse().ok()? };
    let port = if port == "*" { 0 } else { port.parse().ok()? };
    Some(SocketAddr::new(address.to_canonical(), port))
}
