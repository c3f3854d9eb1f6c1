//! Every socket of one namespace into a ledger, once, and how long each step took: what `cargo xtask bench snapshot`
//! measures. No program is attached: the same work as at the start of `watch`, with nothing else in its time.

use crate::{
    flow::{Capabilities, Ledger},
    source::{
        holders::{HolderSource, Holders},
        live::boot_time_ns,
        netns::Namespace,
        sockdiag::{Ahead, Detail, Query, SockDiag, States},
    },
};
use serde_json::json;
use std::{
    fs,
    io::{self, Write},
    time::{Duration, Instant},
};

/// Flows that the ledger may have: all of any machine that this is measured on, as with `--max-flows`.
const MOST_FLOWS: usize = 4 << 20;

/// Arguments of `snapshot`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Find the process that holds each socket, too
    #[arg(long)]
    owners: bool,
    /// The namespace, instead of our own
    #[arg(long)]
    netns: Option<String>,
}

/// What was found, and the time it took.
#[derive(Debug, Default)]
struct Snapshot {
    sockets: u64,
    owned: u64,
    load: Duration,
    holders: Duration,
    /// Spent in waiting for the kernel's list, which another thread reads meanwhile.
    wait: Duration,
    fold: Duration,
}

/// Prints one line of JSON.
///
/// # Errors
/// The kernel's, and standard output's.
pub fn run(args: Args) -> anyhow::Result<()> {
    let start = Instant::now();
    let namespace = match &args.netns {
        Some(text) => Namespace::open(text)?,
        None => Namespace::own()?,
    };
    let diag = SockDiag::open(&namespace)?;
    let mut taken = Snapshot::default();
    let holders = args.owners.then(|| {
        let (mut source, load) = timed(HolderSource::new);
        let (holders, read) = timed(|| source.read(None));
        (taken.load, taken.holders) = (load, read);
        holders
    });
    let before = resident()?;
    let ledger = fill(diag, holders.as_ref(), &mut taken)?;
    // When the last socket is known, not when all is freed again.
    let total = start.elapsed();
    let after = resident()?;
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let line = json!({
        "sockets": taken.sockets,
        "flows": ledger.len(),
        "owned": taken.owned,
        "load_ns": ns(taken.load),
        "holders_ns": ns(taken.holders),
        "wait_ns": ns(taken.wait),
        "fold_ns": ns(taken.fold),
        "total_ns": ns(total),
        "ledger_bytes": after.saturating_sub(before),
        "rss_bytes": after,
    });
    Ok(writeln!(io::stdout(), "{line}")?)
}

fn fill(diag: SockDiag, holders: Option<&Holders>, taken: &mut Snapshot) -> anyhow::Result<Ledger> {
    let capabilities =
        Capabilities { cookies: true, resets: true, all_states: true, minisockets: false, requests: false };
    let mut ledger = Ledger::new(capabilities, MOST_FLOWS, boot_time_ns());
    let (mut batch, mut entries) = (Vec::new(), Vec::new());
    ledger.begin_round();
    let mut dump = Ahead::begin(diag, Query::of(States::ALL, Detail::Full))?;
    let mut clock = Instant::now();
    let mut lap = |sum: &mut Duration| {
        let now = Instant::now();
        *sum += now - clock;
        clock = now;
    };
    loop {
        let when = dump.next_batch(&mut batch);
        lap(&mut taken.wait);
        let Some(when) = when else { break };
        for sight in &batch {
            let holder = holders.and_then(|holders| holders.get(sight.inode)).map(|holder| &*holder.process);
            taken.owned += u64::from(holder.is_some());
            ledger.sight(sight, when, holder, &mut entries);
        }
        entries.clear();
        taken.sockets += batch.len() as u64;
        lap(&mut taken.fold);
    }
    dump.end().1?;
    Ok(ledger)
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (work(), start.elapsed())
}

/// Resident memory, counted page by page: what `status` shows may be off by 64 pages a processor.
fn resident() -> anyhow::Result<u64> {
    const FILE: &str = "/proc/self/smaps_rollup";
    let text = fs::read_to_string(FILE)?;
    rss(&text).ok_or_else(|| anyhow::anyhow!("{FILE} has no Rss"))
}

fn rss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_found() {
        assert_eq!(rss("00400000-7ff [rollup]\nRss:    1812 kB\nPss:  9 kB\n"), Some(1812 << 10));
        assert_eq!(rss("Pss: 9 kB\n"), None);
        assert!(resident().unwrap() > 0);
    }
}
