//! The conditions that commands share: which sockets they are about.

use crate::{
    cli,
    source::{
        filter::{FilterSpec, Ports},
        netns::{self, Namespace},
    },
};
use anyhow::{Context, bail};
use clap::ValueHint;
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tcptrace_common::state::TcpState;

/// Conditions on a socket. Every flag must hold; of one flag's values, any.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FilterArgs {
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
    /// cgroup v2 folder the socket was made in; folders below it that exist now count too
    #[arg(long, value_name = "FOLDER", help_heading = "Filter")]
    cgroup: Vec<PathBuf>,
    /// Owner of the socket: a number or a name
    #[arg(long, value_name = "USER", value_hint = ValueHint::Username, help_heading = "Filter")]
    uid: Vec<String>,
    /// States, in any spelling
    #[arg(long, value_parser = cli::State, hide_possible_values = true, value_name = "STATE", value_delimiter = ',', help_heading = "Filter")]
    state: Vec<TcpState>,
}

impl FilterArgs {
    /// The conditions, names looked up. `netns` is for the command to fill in: what may be named there differs.
    ///
    /// # Errors
    /// A name that stands for nothing, and what is valid.
    pub fn spec(&self) -> anyhow::Result<FilterSpec> {
        let uids: anyhow::Result<_> = self.uid.iter().map(|text| uid(text)).collect();
        let mut cgroups = BTreeSet::new();
        for folder in &self.cgroup {
            collect_cgroups(folder, &mut cgroups)?;
        }
        Ok(FilterSpec {
            port: self.port.concat(),
            lport: self.lport.concat(),
            rport: self.rport.concat(),
            addresses: self.addr.clone(),
            family: self.family,
            netns: BTreeSet::new(),
            cgroups,
            uids: uids?,
            states: self.state.clone(),
        })
    }
}

/// The same, and the namespaces that a trace is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ScopeArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Network namespace: a name of `ip netns`, a pid, a file, or net:[number]
    #[arg(long, value_name = "NETNS", help_heading = "Filter")]
    netns: Vec<String>,
}

impl ScopeArgs {
    /// As [`FilterArgs::spec`], with the namespaces. `recorded`: those of a recording.
    ///
    /// # Errors
    /// As there.
    pub fn spec(&self, recorded: bool) -> anyhow::Result<FilterSpec> {
        Ok(FilterSpec { netns: namespaces(&self.netns, recorded)?, ..self.filter.spec()? })
    }
}

/// Inode numbers of the namespaces of `--netns`. Those of a recording are known by number only.
///
/// # Errors
/// What there is not.
fn namespaces(texts: &[String], recorded: bool) -> anyhow::Result<BTreeSet<u32>> {
    let number = |text: &str| text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok();
    let find = |text: &String| match number(text) {
        Some(number) if recorded => Ok(number),
        None if recorded => Err(format!(
            "{text:?}: a recording knows namespaces by number; give one as net:[4026531840]; `tcptrace stat --from FILE --all-netns --by netns --format json` lists them"
        )),
        _ => netns::find(text),
    };
    let found: Result<_, String> = texts.iter().map(find).collect();
    found.map_err(anyhow::Error::msg).context("--netns")
}

/// Inode numbers of namespaces that must be there: one that is not must not pass for one where nothing is wrong. Those of a
/// recording are known by number only.
///
/// # Errors
/// What there is not.
pub fn present(texts: &[String], recorded: bool) -> anyhow::Result<BTreeSet<u32>> {
    if recorded {
        return namespaces(texts, true);
    }
    Ok(named(texts)?.iter().map(Namespace::inode).collect())
}

/// The namespaces of `--netns`, each once: by two names it is still one.
///
/// # Errors
/// What there is not.
pub fn named(texts: &[String]) -> anyhow::Result<Vec<Namespace>> {
    let mut named: Vec<Namespace> = Vec::new();
    for text in texts {
        let namespace = Namespace::open(text).context("--netns")?;
        if named.iter().all(|known| known.inode() != namespace.inode()) {
            named.push(namespace);
        }
    }
    Ok(named)
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
