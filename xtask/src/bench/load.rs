//! The load: connect, accept, request, response, close, close; client and server in one thread on one core. Runs in
//! a process of its own, which `loader` asks for one stretch of it at a time.

use std::{
    fs,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::{
    sys::{prctl, signal::Signal},
    time::{ClockId, clock_gettime},
};
use serde_json::json;

use super::{cores, loader::Request, loopback};

/// Bytes of a request.
pub const REQUEST: usize = 64;
/// Bytes of the least response: then a connection does almost nothing but open and close.
pub const LEAST_RESPONSE: u64 = 64;
/// Bytes of the response, in loads that carry something: an answer of an API or a small page, a larger one, and a picture. The
/// second is as large as makes `tcpstates` keep what it kept of the load by which the target was set, on one machine.
pub const LARGER_RESPONSES: [u64; 3] = [64 << 10, 160 << 10, 1 << 20];
/// Sent at once: what every socket takes before its reader reads.
const CHUNK: u64 = 16 << 10;
/// State changes of one connection, five at each end.
pub const TRANSITIONS: u64 = 10;
/// What tcptrace has to say of one connection: its state changes, and the judged end of either side.
pub const EVENTS: u64 = TRANSITIONS + ENDS;
/// Sockets of one connection.
pub const ENDS: u64 = 2;
/// Connections between two looks at the clock.
const BATCH: u64 = 16;
/// Up to this pace, in connections a second, the beginning of each is noted.
const SLOW: u64 = 1000;
/// How long the last connections may take to be gone.
const LAST_CLOSES: Duration = Duration::from_secs(5);

/// Options of the load.
#[derive(Args)]
pub struct Options {
    /// Where to stay
    #[arg(long)]
    core: usize,
}

/// Answers each request on standard input with a line on standard output, until there are no more.
pub fn run(options: &Options) -> Result<ExitCode> {
    // Nobody else would stop it in the middle of a stretch.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    cores::pin(options.core)?;
    let netns = loopback::enter()?;
    let load = Load::listen()?;
    println!("{}", json!({ "netns": netns, "port": load.address.port() }));
    for line in io::stdin().lock().lines() {
        let request = Request::parse(&line?)?;
        let (warm, _) = load.run_for(request.warm, &request)?;
        let before = Waits::read(options.core);
        let start = Instant::now();
        let (timed, begun) = load.run_for(request.timed, &request)?;
        let elapsed = start.elapsed();
        let after = Waits::read(options.core);
        load.wait_for_last_closes()?;
        let answer = json!({
            "connections": warm + timed,
            "timed": timed,
            "timed_ns": elapsed.as_nanos() as u64,
            "waited_ns": after.queued_ns.saturating_sub(before.queued_ns),
            "stolen_ticks": after.stolen_ticks.saturating_sub(before.stolen_ticks),
            "begun": begun,
        });
        println!("{answer}");
    }
    Ok(ExitCode::SUCCESS)
}

struct Load {
    listener: TcpListener,
    address: SocketAddr,
}

impl Load {
    fn listen() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("the server cannot listen")?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// How many it made, and when each began, if that is noted.
    fn run_for(&self, time: Duration, request: &Request) -> Result<(u64, Vec<u64>)> {
        let start = Instant::now();
        let (mut connections, mut begun, mut due) = (0, Vec::new(), Duration::ZERO);
        while start.elapsed() < time {
            let batch = if request.pace == 0 { BATCH } else { 1 };
            if request.pace > 0 {
                // Not in step with anybody's timer.
                due += Duration::from_secs_f64((0.5 + fastrand::f64()) / request.pace as f64);
                // Who is late does not wait, until it is where it should be.
                thread::sleep(due.saturating_sub(start.elapsed()));
                if request.pace <= SLOW {
                    begun.push(boot_time_ns()?);
                }
            }
            for _ in 0..batch {
                self.connection(request.response).context("a connection of the load failed")?;
            }
            connections += batch;
        }
        Ok((connections, begun))
    }

    /// Nothing here ever waits: on loopback a segment has arrived before the call that sent it returns.
    fn connection(&self, response: u64) -> io::Result<()> {
        let mut bytes = [0x5a; CHUNK as usize];
        let mut client = TcpStream::connect(self.address)?;
        let (mut server, _) = self.listener.accept()?;
        client.write_all(&bytes[..REQUEST])?;
        server.read_exact(&mut bytes[..REQUEST])?;
        let mut left = response;
        while left > 0 {
            let chunk = left.min(CHUNK) as usize;
            server.write_all(&bytes[..chunk])?;
            client.read_exact(&mut bytes[..chunk])?;
            left -= chunk as u64;
        }
        drop(client);
        match server.read(&mut bytes)? {
            0 => Ok(()),
            _ => Err(io::Error::other("the client sent more than its request")),
        }
    }

    /// So that whoever counts state changes now counts them all.
    fn wait_for_last_closes(&self) -> Result<()> {
        let start = Instant::now();
        while sockets_in_use()? > 1 {
            ensure!(
                start.elapsed() < LAST_CLOSES,
                "connections of the load are still open after {LAST_CLOSES:?}"
            );
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// The clock that events have their times of.
pub fn boot_time_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context("there is no boot-time clock")?;
    Ok(u64::try_from(Duration::from(now).as_nanos())?)
}

/// TCP sockets of this namespace, the listener included.
fn sockets_in_use() -> Result<u64> {
    const FILE: &str = "/proc/self/net/sockstat";
    let text = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
    let count =
        text.lines().find_map(|line| line.strip_prefix("TCP: inuse ")?.split(' ').next()?.parse().ok());
    count.with_context(|| format!("{FILE} counts no TCP sockets"))
}

/// Time in which the load could have run but did not: what others on this core, or on the host, took.
struct Waits {
    queued_ns: u64,
    stolen_ticks: u64,
}

impl Waits {
    fn read(core: usize) -> Self {
        // A kernel without these counters measures no worse; it only cannot tell how quiet it was.
        let schedstat = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        let queued_ns = schedstat.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let name = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default();
        let stolen_ticks = line.split_whitespace().nth(7).and_then(|text| text.parse().ok()).unwrap_or(0);
        Self { queued_ns, stolen_ticks }
    }
}
