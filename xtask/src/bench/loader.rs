//! The load, seen from the process that measures: starts it, asks for a stretch of it, reads what came of it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::cores::{Apart, Cores};

/// Before each stretch: caches, branch predictors, the allocators of sockets.
pub const WARM_UP: Duration = Duration::from_millis(200);

/// One stretch of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Before the clock starts.
    pub warm: Duration,
    /// While it runs.
    pub timed: Duration,
    /// Bytes of the response of each connection.
    pub response: u64,
    /// Connections a second; 0: as many as there is time for.
    pub pace: u64,
}

impl Request {
    fn line(&self) -> String {
        let [warm, timed] = [self.warm, self.timed].map(|time| time.as_millis());
        format!("{warm} {timed} {} {}\n", self.response, self.pace)
    }

    /// As [`Loader::run`] writes it.
    pub fn parse(line: &str) -> Result<Self> {
        let numbers: Option<Vec<u64>> = line.split_whitespace().map(|word| word.parse().ok()).collect();
        let Some([warm, timed, response, pace]) = numbers.as_deref() else {
            bail!("the load was asked for {line:?}, which is not four numbers");
        };
        let [warm, timed] = [warm, timed].map(|ms| Duration::from_millis(*ms));
        Ok(Self { warm, timed, response: *response, pace: *pace })
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// All connections, those before the clock started included.
    pub connections: u64,
    /// Connections a second, by the clock on the wall.
    pub by_the_clock: f64,
    /// Connections a second of the time in which the load had its core. The same as by the clock where the tracer has
    /// no core of its own: then it is what the load waits for.
    pub rate: f64,
    /// The share of the time that the load waited for its core, because of others there or on the host.
    pub waited: f64,
    /// When each connection began, in nanoseconds of the boot-time clock; of those that come slowly only.
    pub begun: Vec<u64>,
}

/// A running load. Dropping it ends it.
pub struct Loader {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    cores: Cores,
    /// The inode number of its network namespace.
    pub netns: u64,
    /// Where its server listens.
    pub port: u64,
}

impl Loader {
    /// Starts it on its core; it then waits for requests.
    pub fn start(cores: Cores) -> Result<Self> {
        // This very program, even if cargo has replaced its file since.
        let mut command = Command::new("/proc/self/exe");
        command.args(["bench", "load", "--core", &cores.load.to_string()]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the load does not start")?;
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the load has no output")?);
        let mut loader = Self { child, requests, answers, cores, netns: 0, port: 0 };
        let ready = loader.answer()?;
        (loader.netns, loader.port) = (number(&ready, "netns")?, number(&ready, "port")?);
        Ok(loader)
    }

    /// Runs one stretch. When this returns, every connection of it is closed.
    pub fn run(&mut self, request: Request) -> Result<Stretch> {
        self.ask(request)?;
        self.ran()
    }

    /// Has it begin a stretch.
    pub fn ask(&mut self, request: Request) -> Result<()> {
        let pipe = self.requests.as_mut().context("the load has ended")?;
        pipe.write_all(request.line().as_bytes()).context("the load has ended")
    }

    /// What came of the stretch that it was asked for; waits for its end.
    pub fn ran(&mut self) -> Result<Stretch> {
        let answer = self.answer()?;
        let ns = number(&answer, "timed_ns")? as f64;
        let stolen_ns = number(&answer, "stolen_ticks")? as f64 * super::process::tick_ns();
        let waited = (number(&answer, "waited_ns")? as f64 + stolen_ns) / ns;
        let by_the_clock = number(&answer, "timed")? as f64 * 1e9 / ns;
        let rate = if self.cores.apart == Apart::Same { by_the_clock } else { by_the_clock / (1.0 - waited) };
        let begun = answer["begun"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        Ok(Stretch { connections: number(&answer, "connections")?, by_the_clock, rate, waited, begun })
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).context("the load cannot be heard")?;
        ensure!(read > 0, "the load has ended: it said why above");
        serde_json::from_str(&line).with_context(|| format!("the load said {line:?}"))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // The end of its requests ends it.
        self.requests = None;
        let _ = self.child.wait();
    }
}

fn number(answer: &Value, name: &str) -> Result<u64> {
    answer[name].as_u64().with_context(|| format!("the load's answer has no {name}: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_understood_as_it_was_meant() {
        let (warm, timed) = (Duration::from_millis(200), Duration::from_secs(3));
        let request = Request { warm, timed, response: 65_536, pace: 10 };
        assert_eq!(Request::parse(request.line().trim_end()).unwrap(), request);
        assert!(Request::parse("200 3 4").is_err() && Request::parse("now 3 4 0").is_err());
    }
}
