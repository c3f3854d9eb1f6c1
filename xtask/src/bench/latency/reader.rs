//! The other end of a tracer's output: reads lines as they come, and notes how old each is.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    process::Stdio,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    pty::openpty,
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
    time::{ClockId, clock_gettime},
};

use super::{
    super::load::boot_time_ns,
    line::{Now, Printer},
};

/// Read at once; a pipe holds less.
const BLOCK: usize = 1 << 20;
const DAY_NS: u128 = 86_400_000_000_000;

/// What the output goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into another program.
    Pipe,
    /// Somebody looks at it.
    Terminal,
}

impl Way {
    /// How it is named in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "a pipe",
            Self::Terminal => "a terminal",
        }
    }
}

/// What was read.
#[derive(Default)]
pub struct Read {
    /// Nanoseconds from an event to its line, by the line's own time.
    pub ages_ns: Vec<u64>,
    /// When each of the lines came by which connections are counted, on the boot-time clock.
    pub counted_ns: Vec<u64>,
    /// Lines about changes of state of the load.
    pub lines: u64,
}

/// Reads on a thread of its own.
pub struct Reader(JoinHandle<Result<Read>>);

impl Reader {
    /// Begins. Gives what the tracer writes to; it must be the only one to hold that.
    pub fn start(way: Way, printer: Printer, port: u64) -> Result<(Self, Stdio)> {
        let (read, write) = match way {
            Way::Pipe => {
                let (read, write) = io::pipe().context("a pipe cannot be made")?;
                (OwnedFd::from(read), OwnedFd::from(write))
            }
            Way::Terminal => {
                let pair = openpty(None, None).context("a terminal cannot be made")?;
                // Lines as they are written, and nothing typed.
                let mut raw = tcgetattr(&pair.slave).context("a terminal does not answer")?;
                cfmakeraw(&mut raw);
                tcsetattr(&pair.slave, SetArg::TCSANOW, &raw).context("a terminal cannot be set")?;
                (pair.master, pair.slave)
            }
        };
        let ports = [port.to_string().into_bytes()];
        let thread = thread::spawn(move || all(File::from(read), printer, &ports));
        Ok((Self(thread), Stdio::from(write)))
    }

    /// The tracer has ended: all that it wrote.
    pub fn finish(self) -> Result<Read> {
        self.0.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

fn all(mut from: File, printer: Printer, ports: &[Vec<u8>]) -> Result<Read> {
    let (mut found, mut block, mut begun) = (Read::default(), vec![0; BLOCK], Vec::new());
    loop {
        let read = match from.read(&mut block) {
            Ok(0) => return Ok(found),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // So a terminal says that nobody is at its other end any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(found),
            Err(error) => return Err(error).context("a tracer's output cannot be read"),
        };
        let now = now()?;
        let mut rest = &block[..read];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            begun.extend_from_slice(&rest[..end]);
            if let Some(line) = printer.read(&begun, now, ports) {
                found.lines += 1;
                found.ages_ns.extend(line.age_ns);
                found.counted_ns.extend(line.counts.then_some(now.boot_ns));
            }
            begun.clear();
            rest = &rest[end + 1..];
        }
        begun.extend_from_slice(rest);
    }
}

fn now() -> Result<Now> {
    let boot_ns = boot_time_ns()?;
    let wall: Duration = clock_gettime(ClockId::CLOCK_REALTIME).context("there is no time of day")?.into();
    Ok(Now { boot_ns, day_ns: u64::try_from(wall.as_nanos() % DAY_NS)? })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::bench::rivals::Rival;

    #[test]
    fn lines_are_read_through_either() {
        for way in [Way::Pipe, Way::Terminal] {
            let (reader, out) = Reader::start(way, Printer::Rival(Rival::Tcplife), 80).unwrap();
            let mut command = Command::new("printf");
            let mut child = command.arg("1 a 80\\n2 b 81\\n3 c 80\\n").stdout(out).spawn().unwrap();
            // It holds the writing end, too.
            drop(command);
            child.wait().unwrap();
            let read = reader.finish().unwrap();
            assert_eq!((read.lines, read.counted_ns.len(), read.ages_ns.len()), (2, 2, 0), "{way:?}");
        }
    }
}
