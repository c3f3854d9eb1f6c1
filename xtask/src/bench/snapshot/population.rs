//! Many open connections, in a network namespace of their own, held by as many processes as their descriptors need:
//! what is listed. A process of its own that `crowd` starts and ends.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream},
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::sys::{
    prctl,
    resource::{Resource, getrlimit},
    signal::Signal,
};
use serde_json::json;

use super::super::loopback;

/// Descriptors of a process that are not its sockets': standard ones, the listener, some room.
const SPARE: u64 = 64;
/// Sockets of a process at most, even where it may have more: what owns 200,000 sockets is many processes.
const MOST_EACH: u64 = 18_000;
/// What a holder says when all its connections are open.
const READY: &str = "ready";

/// Options of the population.
#[derive(Args)]
pub struct Options {
    /// How many: an even number, two for each connection
    #[arg(long)]
    sockets: u64,
    /// Hold them, in the namespace that this process is in already
    #[arg(long)]
    hold: bool,
}

/// Says when all sockets are there; they stay until standard input ends.
pub fn run(options: &Options) -> Result<ExitCode> {
    // SIGKILL: nothing is to be tidied up, and nothing may outlive the benchmark.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if options.hold {
        hold(options.sockets / 2)?
    } else {
        gather(options.sockets)?
    }
    Ok(ExitCode::SUCCESS)
}

fn gather(sockets: u64) -> Result<()> {
    let netns = loopback::enter()?;
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = limit.saturating_sub(SPARE).min(MOST_EACH) / 2 * 2;
    ensure!(most > 0, "a process may have no more than {limit} descriptors here");
    let mut holders = Holders(Vec::new());
    for share in shares(sockets, most) {
        holders.0.push(start_holder(share)?);
    }
    for holder in &mut holders.0 {
        let out = holder.stdout.take().context("a holder has no output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line.trim_end() == READY, "a holder of sockets has ended: it said why above");
    }
    println!("{}", json!({ "netns": netns, "processes": holders.0.len() }));
    until_input_ends()
}

fn start_holder(sockets: u64) -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["bench", "population", "--hold", "--sockets", &sockets.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a holder does not start")
}

/// Ended, and waited for, when dropped: then their sockets are gone.
struct Holders(Vec<Child>);

impl Drop for Holders {
    fn drop(&mut self) {
        for holder in &mut self.0 {
            let _ = holder.kill();
        }
        for holder in &mut self.0 {
            let _ = holder.wait();
        }
    }
}

/// As few processes as can hold them, each with about as many.
fn shares(sockets: u64, most: u64) -> Vec<u64> {
    let pairs = sockets / 2;
    let count = sockets.div_ceil(most).max(1);
    (0..count).map(|index| 2 * (pairs / count + u64::from(index < pairs % count))).collect()
}

fn hold(pairs: u64) -> Result<()> {
    let half = pairs / 2;
    let mut held = connections(Ipv4Addr::LOCALHOST.into(), pairs - half)?;
    held.extend(connections(Ipv6Addr::LOCALHOST.into(), half)?);
    println!("{READY}");
    until_input_ends()
}

/// The listener goes away at the end: it is nobody's connection.
fn connections(address: IpAddr, count: u64) -> Result<Vec<[TcpStream; 2]>> {
    let listener = TcpListener::bind((address, 0)).context("no socket can listen")?;
    let place = listener.local_addr()?;
    let pair = || -> io::Result<_> {
        let client = TcpStream::connect(place)?;
        Ok([client, listener.accept()?.0])
    };
    let held = (0..count).map(|_| pair()).collect::<io::Result<_>>();
    held.with_context(|| format!("{count} connections cannot be had"))
}

fn until_input_ends() -> Result<()> {
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_holds_too_many() {
        for (sockets, most, expected) in [
            (10, 18_000, vec![10]),
            (200_000, 18_000, vec![16_668; 4].into_iter().chain(vec![16_666; 8]).collect()),
            (36_000, 18_000, vec![18_000, 18_000]),
            (0, 18_000, vec![0]),
        ] {
            let shares = shares(sockets, most);
            assert_eq!(shares.iter().sum::<u64>(), sockets);
            assert_eq!(shares, expected);
        }
    }
}
