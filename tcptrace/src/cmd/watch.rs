//! `tcptrace watch`: one line for each thing that happens.

use super::trace::{Choice, Only, Output, TraceArgs, hint_if_silent, quietly};
use crate::{
    cli,
    run::{Run, Signals},
    source::{
        filter::{FilterSpec, Ports},
        live::Live,
        netns,
    },
};
use anyhow::{Context, bail};
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};
use tcptrace_common::state::TcpState;

/// Arguments of `watch`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tcptrace watch --port 10000                    everything about one service\n  \
    tcptrace watch --only closes --rport 5432      why database connections end\n  \
    tcptrace watch --state fin-wait-1 --format json | jq .\n  \
    tcptrace watch --summary --duration 10s        counts only")]
pub struct Args {
    /// Local or remote port: 10000, 80,443 or 8000-8100
    #[arg(long, value_parser = cli::ports, value_name = "PORTS", help_heading = "Filter")]
    port: Vec<Ports>,
    /// Local port
    #[arg(long, value_parser = cli::ports, value_name = "PORTS", help_heading = "Filter")]
    lport: Vec<Ports>,
    /// Remote port
    #[arg(long, value_parser = cli::ports, value_name = "PORTS", help_heading = "Filter")]
    rport: Vec<Ports>,
    /// Local or remote address or network; IPv4 matches IPv4-mapped IPv6 too
    #[arg(long, value_parser = cli::network, value_name = "CIDR", value_delimiter = ',', help_heading = "Filter")]
    addr: Vec<IpNet>,
    /// IP version: 4 (mapped addresses too) or 6
    #[arg(long, value_parser = cli::family, value_name = "4|6", help_heading = "Filter")]
    family: Option<u8>,
    /// Network namespace: a name of `ip netns`, a pid, a file, or net:[number]
    #[arg(long, value_name = "NETNS", help_heading = "Filter")]
    netns: Vec<String>,
    /// cgroup v2 folder the socket was made in; folders below it that exist now count too
    #[arg(long, value_name = "FOLDER", help_heading = "Filter")]
    cgroup: Vec<PathBuf>,
    /// Owner of the socket: a number or a name
    #[arg(long, value_name = "USER", help_heading = "Filter")]
    uid: Vec<String>,
    /// Command of the process that opened the connection; hides those whose owner is unknown (the summary counts all)
    #[arg(long, value_parser = cli::comm, value_name = "COMMAND", help_heading = "Filter")]
    comm: Vec<String>,
    /// States entered or left, in any spelling; with this, times in states are mostly unknown
    #[arg(long, value_parser = cli::state, value_name = "STATE", value_delimiter = ',', help_heading = "Filter")]
    state: Vec<TcpState>,
    /// Kinds of lines
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',', help_heading = "Output")]
    only: Vec<Only>,
    /// Stop after this time: 10s, 500ms, 1h 30m
    #[arg(long, value_parser = cli::duration, allow_hyphen_values = true, value_name = "TIME", help_heading = "Output")]
    duration: Option<Duration>,
    /// Stop after this many lines
    #[arg(long, value_parser = cli::count, allow_hyphen_values = true, value_name = "N", help_heading = "Output")]
    count: Option<u64>,
    /// Print only the summary
    #[arg(long, help_heading = "Output", conflicts_with = "count")]
    summary: bool,
    #[command(flatten)]
    trace: TraceArgs,
}

/// Watches until told to stop.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<()> {
    let filter = filter(&args)?;
    let all_states = filter.states.is_empty();
    let filtered = !args.comm.is_empty() || filter != FilterSpec::default();
    let options = args.trace.load_options(filter);
    let choice = Choice { only: args.only, comms: args.comm, count: args.count, summary_only: args.summary };
    super::block_on(async {
        let signals = Signals::listen()?;
        let live = Live::start(&options)?;
        let mut output = Output::new(&args.trace, choice);
        if let Some(loaded) = live.loaded()
            && !quietly(output.begin(loaded))?
        {
            return Ok(());
        }
        let run = Run::new(signals, live, args.trace.max_flows, all_states);
        let stopped = run.until_stopped(args.duration, std::future::pending(), &mut output).await;
        let summary = stopped.context("cannot write to standard output")?;
        output.end(&summary)?;
        hint_if_silent(&summary, filtered);
        Ok(())
    })
}

fn filter(args: &Args) -> anyhow::Result<FilterSpec> {
    let netns: Result<_, String> = args.netns.iter().map(|text| netns::find(text)).collect();
    let uids: anyhow::Result<_> = args.uid.iter().map(|text| uid(text)).collect();
    let mut cgroups = BTreeSet::new();
    for folder in &args.cgroup {
        collect_cgroups(folder, &mut cgroups)?;
    }
    Ok(FilterSpec {
        port: args.port.concat(),
        lport: args.lport.concat(),
        rport: args.rport.concat(),
        addresses: args.addr.clone(),
        family: args.family,
        netns: netns.map_err(anyhow::Error::msg).context("--netns")?,
        cgroups,
        uids: uids?,
        states: args.state.clone(),
    })
}

fn uid(text: &str) -> anyhow::Result<u32> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    match nix::unistd::User::from_name(text) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        _ => bail!("--uid {text}: no such user; give a name of /etc/passwd or a number"),
    }
}

/// A cgroup v2 id is the inode number of its folder.
fn collect_cgroups(folder: &Path, ids: &mut BTreeSet<u64>) -> anyhow::Result<()> {
    const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let relative = folder.strip_prefix("/").unwrap_or(folder);
    let places = MOUNTS.iter().map(|mount| Path::new(mount).join(relative));
    let is_cgroup = |place: &PathBuf| place.join("cgroup.procs").is_file();
    let Some(found) = std::iter::once(folder.to_path_buf()).chain(places).find(is_cgroup) else {
        bail!(
            "--cgroup {}: not a cgroup v2 folder; give one below /sys/fs/cgroup, e.g. system.slice/nginx.service",
            folder.display()
        );
    };
    let mut waiting = vec![found];
    while let Some(folder) = waiting.pop() {
        ids.insert(fs::metadata(&folder).with_context(|| format!("--cgroup {}", folder.display()))?.ino());
        let below = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        waiting.extend(below.filter(|path| path.is_dir()));
    }
    Ok(())
}
