//! What is compared: `ss` and `netstat`, as people type them, and tcptrace's own ways to the same sockets.

use std::{
    fs::File,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{
    super::{
        output::Output,
        report::Subject,
        timed::{self, Took},
    },
    crowd::Crowd,
};

/// Whoever takes longer is ended.
pub const MOST: Duration = Duration::from_secs(60);
/// Above this, what takes very long runs once only.
const MANY: u64 = 20_000;

/// One way to know every socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Addresses and states.
    Ss,
    /// With TCP's own numbers.
    SsInfo,
    /// With processes.
    SsOwners,
    /// Addresses and states.
    Netstat,
    /// States, counted.
    Counted,
    /// Ours: all that sock_diag tells, in the ledger.
    Ledger,
    /// Ours, with processes.
    Owners,
    /// Ours: counted, and set beside limits.
    Stat,
    /// The same by process.
    StatOwners,
    /// Ours: looked at twice, with processes and what sockets tell themselves, and judged.
    Stuck,
}

/// In the order of the tables.
pub const PROGRAMS: [Program; 10] = [
    Program::Netstat,
    Program::Counted,
    Program::Stat,
    Program::Ss,
    Program::SsInfo,
    Program::Ledger,
    Program::SsOwners,
    Program::Owners,
    Program::StatOwners,
    Program::Stuck,
];

/// What is set beside what: who knows as much, and who knows less.
pub const PAIRS: [(Program, Program); 7] = [
    (Program::Stat, Program::Counted),
    (Program::Ledger, Program::Ss),
    (Program::Ledger, Program::SsInfo),
    (Program::Owners, Program::SsOwners),
    (Program::Owners, Program::SsInfo),
    (Program::StatOwners, Program::SsOwners),
    (Program::Stuck, Program::SsOwners),
];
/// Between the two looks of `stuck`: no less can be asked for.
pub const LOOKS_APART: &str = "100ms";

impl Program {
    /// How it is named in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ss => "`ss -tan`",
            Self::SsInfo => "`ss -tani`",
            Self::SsOwners => "`ss -tanp`",
            Self::Netstat => "`netstat -nat`",
            Self::Counted => "`netstat -nat \\| awk '{print $6}' \\| sort \\| uniq -c`",
            Self::Ledger => "tcptrace",
            Self::Owners => "tcptrace, with owners",
            Self::Stat => "`tcptrace stat`",
            Self::StatOwners => "`tcptrace stat --by process`",
            Self::Stuck => "`tcptrace stuck --no-trace --for 100ms`",
        }
    }

    /// It is measured in this round.
    pub fn runs(self, round: u32, sockets: u64) -> bool {
        self != Self::SsOwners || round == 0 || sockets <= MANY
    }

    /// What it needs, and somebody may not have.
    pub fn needs(self) -> Option<&'static str> {
        matches!(self, Self::Netstat | Self::Counted).then_some("netstat")
    }

    /// Ours, and it says what it found.
    pub fn says(self) -> bool {
        matches!(self, Self::Ledger | Self::Owners)
    }

    fn command(self, subject: &Subject, crowd: &Crowd) -> Command {
        let (ours, words): (bool, &[&str]) = match self {
            Self::Ss => (false, &["ss", "-tan"]),
            Self::SsInfo => (false, &["ss", "-tani"]),
            Self::SsOwners => (false, &["ss", "-tanp"]),
            Self::Netstat => (false, &["netstat", "-nat"]),
            Self::Counted => (false, &["sh", "-c", "netstat -nat | awk '{print $6}' | sort | uniq -c"]),
            Self::Ledger => (true, &["snapshot"]),
            Self::Owners => (true, &["snapshot", "--owners"]),
            Self::Stat => (true, &["stat"]),
            Self::StatOwners => (true, &["stat", "--by", "process"]),
            Self::Stuck => (true, &["stuck", "--no-trace", "--for", LOOKS_APART]),
        };
        let mut command = if ours {
            let mut command = subject.tools.command(&subject.program);
            command.args(words);
            command
        } else {
            let mut command = subject.tools.command(words[0]);
            command.args(&words[1..]);
            command
        };
        // It looks into all of them otherwise.
        if self == Self::Stuck {
            command.arg("--netns").arg(&crowd.path);
        }
        command
    }

    /// Runs it once among these sockets.
    pub fn run(self, subject: &Subject, crowd: &Crowd) -> Result<(Took, Option<Said>)> {
        let mut command = self.command(subject, crowd);
        command.stdin(Stdio::null());
        if !self.says() {
            command.stdout(Stdio::null());
            return Ok((timed::run(&mut command, Some(&crowd.netns), MOST)?, None));
        }
        let out = Output::new()?;
        command.stdout(out.for_child()?);
        let took = timed::run(&mut command, Some(&crowd.netns), MOST)?;
        let said = if took.cut_off { None } else { Some(Said::parse(&out.tail()?)?) };
        Ok((took, said))
    }
}

/// How many sockets `ss` shows there; also makes the kernel load what it needs for that.
pub fn count(subject: &Subject, netns: &File) -> Result<u64> {
    let out = Output::new()?;
    let mut command = subject.tools.command("ss");
    command.arg("-tanH").stdin(Stdio::null()).stdout(out.for_child()?);
    timed::run(&mut command, Some(netns), MOST)?;
    out.lines()
}

/// What tcptrace says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    /// Sockets in the kernel's list.
    pub sockets: u64,
    /// Flows in the ledger.
    pub flows: u64,
    /// Sockets whose owner it found.
    pub owned: u64,
    /// Seconds until the iterator over open files was loaded: once a program's life.
    pub load: f64,
    /// Seconds until it was read.
    pub holders: f64,
    /// Seconds of waiting for the kernel's list.
    pub wait: f64,
    /// Seconds for the ledger.
    pub fold: f64,
    /// Seconds from its first line of code to the last socket.
    pub total: f64,
    /// Memory that the ledger took, in bytes.
    pub ledger: u64,
}

impl Said {
    fn parse(line: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("tcptrace snapshot said {line:?}"))?;
        let number = |name: &str| {
            value[name].as_u64().with_context(|| format!("tcptrace snapshot said no {name}: {line}"))
        };
        let seconds = |name: &str| number(name).map(|ns| ns as f64 / 1e9);
        Ok(Self {
            sockets: number("sockets")?,
            flows: number("flows")?,
            owned: number("owned")?,
            load: seconds("load_ns")?,
            holders: seconds("holders_ns")?,
            wait: seconds("wait_ns")?,
            fold: seconds("fold_ns")?,
            total: seconds("total_ns")?,
            ledger: number("ledger_bytes")?,
        })
    }

    /// What is wrong with it, in words.
    pub fn wrong(&self, program: Program, sockets: u64) -> Option<String> {
        let owned = if program == Program::Owners { sockets } else { 0 };
        let expected = (sockets, sockets, owned);
        let found = (self.sockets, self.flows, self.owned);
        (found != expected).then(|| {
            format!(
                "{}: sockets, flows, owned sockets are {found:?}, there should be {expected:?}",
                program.name()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "{\"sockets\":10,\"flows\":10,\"owned\":0,\"load_ns\":0,\"holders_ns\":0,\"wait_ns\":2500000,\"fold_ns\":500000,\"total_ns\":4000000,\"ledger_bytes\":2560,\"rss_bytes\":9000}\n";

    #[test]
    fn what_it_says_is_read_and_checked() {
        let said = Said::parse(LINE).unwrap();
        assert_eq!((said.sockets, said.wait, said.ledger), (10, 0.0025, 2560));
        assert!(said.wrong(Program::Ledger, 10).is_none());
        assert!(said.wrong(Program::Ledger, 12).is_some());
        assert!(said.wrong(Program::Owners, 10).is_some());
        assert!(Said::parse("").is_err() && Said::parse("{\"sockets\":1}").is_err());
    }

    #[test]
    fn what_takes_long_runs_once() {
        let rounds = |program: Program, sockets| (0..5).filter(|round| program.runs(*round, sockets)).count();
        assert_eq!(rounds(Program::SsOwners, 10_000), 5);
        assert_eq!(rounds(Program::SsOwners, 200_000), 1);
        assert_eq!(rounds(Program::Ledger, 200_000), 5);
    }
}
