//! What a tracer wrote: into files without a name, so that nothing is left behind however this ends; and how the last
//! lines are read.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::rivals;

/// The last bytes of an output: longer than any summary.
const TAIL: u64 = 64 << 10;
/// Read at once when lines are counted.
const BLOCK: usize = 1 << 20;

/// A file of the temporary folder that only we and whoever inherits it can reach.
pub struct Output(File);

impl Output {
    /// An empty one.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tcptrace-bench-{}-{number}", process::id()));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot make {}", path.display()))?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        Ok(Self(file))
    }

    /// For a program to write to.
    pub fn for_child(&self) -> Result<File> {
        self.0.try_clone().context("a file cannot be shared with a program")
    }

    /// The same file.
    pub fn share(&self) -> Result<Self> {
        self.for_child().map(Self)
    }

    /// Bytes written so far.
    pub fn len(&self) -> Result<u64> {
        Ok(self.0.metadata().context("a file cannot be looked at")?.len())
    }

    /// The end of what was written so far. Leaves the place where the program goes on writing alone.
    pub fn tail(&self) -> Result<String> {
        let len = self.len()?;
        let start = len.saturating_sub(TAIL);
        let mut bytes = vec![0; usize::try_from(len - start)?];
        self.0.read_exact_at(&mut bytes, start).context("a file cannot be read")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lines in it. The program that writes to it has ended.
    pub fn lines(&self) -> Result<u64> {
        self.count(|_| true)
    }

    /// Lines about any of these ports. The program that writes to it has ended.
    pub fn lines_about(&self, ports: &[u64]) -> Result<u64> {
        let ports: Vec<_> = ports.iter().map(|port| port.to_string().into_bytes()).collect();
        self.count(|line| rivals::is_about(line, &ports))
    }

    /// Events that it says were lost, all such lines together. The program that writes to it has ended.
    pub fn lost(&self) -> Result<u64> {
        let mut lost = 0;
        self.count(|line| {
            // Most lines are about events, and long: only this byte is looked for in them.
            let may_be = line.first().is_some_and(|byte| b"lLW".contains(byte));
            lost += may_be.then(|| rivals::lost(&String::from_utf8_lossy(line))).flatten().unwrap_or(0);
            false
        })?;
        Ok(lost)
    }

    /// Lines that count. The program that writes to it has ended.
    pub fn count(&self, mut counts: impl FnMut(&[u8]) -> bool) -> Result<u64> {
        let mut file = &self.0;
        file.seek(SeekFrom::Start(0)).context("a file cannot be read")?;
        let mut reader = BufReader::with_capacity(BLOCK, file);
        let (mut line, mut lines) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut line).context("a file cannot be read")? > 0 {
            lines += u64::from(counts(&line));
            line.clear();
        }
        Ok(lines)
    }
}

/// What tcptrace says it counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// State changes.
    pub transitions: u64,
    /// Events that are missing from the output.
    pub lost: u64,
    /// Connections judged; text has them by cause only.
    pub closes: Option<u64>,
    /// State changes that are missing from the output; JSON only.
    pub lost_transitions: Option<u64>,
    /// Times in a state that are missing because there was no room for when they began; the kernel's sums only.
    pub untimed: Option<u64>,
}

impl Summary {
    /// From the last line of JSON, or the last lines of text.
    pub fn parse(tail: &str) -> Result<Self> {
        let last = tail.trim_end().lines().next_back().unwrap_or_default();
        let found = if last.starts_with('{') { from_json(last) } else { from_text(tail) };
        found.with_context(|| format!("tcptrace ended without a summary; its last line: {last}"))
    }
}

fn from_json(line: &str) -> Option<Summary> {
    let value: Value = serde_json::from_str(line).ok()?;
    if value["type"] != "summary" {
        return None;
    }
    let causes = value["causes"].as_object()?;
    Some(Summary {
        transitions: value["transitions"].as_u64()?,
        lost: value["lost"].as_u64()?,
        closes: Some(causes.values().filter_map(Value::as_u64).sum()),
        // What was not lost is not named.
        lost_transitions: Some(value["lost_by_kind"]["transition"].as_u64().unwrap_or(0)),
        untimed: None,
    })
}

fn from_text(tail: &str) -> Option<Summary> {
    let transitions = tail.lines().find_map(|line| line.split_once(" transitions in ")?.0.parse().ok())?;
    let lost = tail.lines().find_map(|line| line.strip_prefix("lost ")?.split(' ').next()?.parse().ok())?;
    Some(Summary { transitions, lost, closes: None, lost_transitions: None, untimed: None })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn both_kinds_of_summary_are_read() {
        let json = "{\"type\":\"start\"}\n{\"type\":\"summary\",\"transitions\":30,\"lost\":2,\"lost_by_kind\":{\"transition\":1},\"causes\":{\"orderly\":5,\"refused\":1}}\n";
        let summary =
            Summary { transitions: 30, lost: 2, closes: Some(6), lost_transitions: Some(1), untimed: None };
        assert_eq!(Summary::parse(json).unwrap(), summary);
        let text =
            "12:00:00.000 …\n\n30 transitions in 1.00 s, 0 retransmitted\nlost 0\n  CLOSE -> SYN_SENT 3\n";
        let summary =
            Summary { transitions: 30, lost: 0, closes: None, lost_transitions: None, untimed: None };
        assert_eq!(Summary::parse(text).unwrap(), summary);
        assert!(Summary::parse("{\"type\":\"start\"}\n").is_err());
        assert!(Summary::parse("").is_err());
    }

    #[test]
    fn an_output_is_read_while_it_grows() {
        let output = Output::new().unwrap();
        let mut child = output.for_child().unwrap();
        child.write_all(b"one\ntwo\n").unwrap();
        assert_eq!(output.tail().unwrap(), "one\ntwo\n");
        child.write_all(b"three\n").unwrap();
        assert_eq!((output.len().unwrap(), output.lines().unwrap()), (14, 3));
        child.write_all(b"lost 7 events on CPU #0\nlost 2 events on CPU #1\n9 127.0.0.1 80\n").unwrap();
        assert_eq!((output.lost().unwrap(), output.lines_about(&[80, 9]).unwrap()), (9, 1));
    }
}
