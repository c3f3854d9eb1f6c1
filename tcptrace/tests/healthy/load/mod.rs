//! A healthy busy host: programs that use TCP in every usual way, and a network that loses a few segments.

mod close;
mod long;
mod open;
mod way;

use crate::random::Random;
use socket2::Socket;
use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
pub use way::Way;

/// Longer than anything healthy takes here.
const PATIENCE: Duration = Duration::from_secs(60);
/// A pause ends within this when the load is to end.
const STEP: Duration = Duration::from_millis(20);

/// Something that programs do with connections.
pub struct Kind {
    name: &'static str,
    /// At a time, on each way.
    workers: usize,
    /// How long each rests in between, in milliseconds.
    rest_ms: u64,
    /// How often it must have been done within half a minute, on all ways together.
    least: u64,
    /// On which ways.
    on: fn(&Way) -> bool,
    listen: fn(&Way) -> io::Result<Socket>,
    play: fn(&Worker<'_>) -> io::Result<()>,
}

/// What they do.
const KINDS: &[&[Kind]] = &[close::KINDS, long::KINDS, open::KINDS];

/// One program that does one thing again and again. It has both ends of its connections.
struct Worker<'a> {
    way: &'a Way,
    listener: Socket,
    port: u16,
    shared: &'a Shared,
}

struct Shared {
    random: Mutex<Random>,
    stop: AtomicBool,
    done: Vec<AtomicU64>,
    failed: Mutex<Vec<String>>,
}

/// A load that runs.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    began: Instant,
}

fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().copied().flatten()
}

impl Load {
    /// Starts it on these ways.
    pub fn start(ways: &[Way], random: Random) -> Self {
        let shared = Arc::new(Shared {
            random: Mutex::new(random),
            stop: AtomicBool::new(false),
            done: kinds().map(|_| AtomicU64::new(0)).collect(),
            failed: Mutex::new(Vec::new()),
        });
        let mut threads = Vec::new();
        for way in ways {
            for (index, kind) in kinds().enumerate().filter(|(_, kind)| (kind.on)(way)) {
                for _ in 0..kind.workers {
                    let (way, shared) = (way.clone(), Arc::clone(&shared));
                    let thread = thread::Builder::new().name(kind.name.into());
                    threads.push(thread.spawn(move || work(kind, index, &way, &shared)).expect("a thread"));
                }
            }
        }
        Self { shared, threads, began: Instant::now() }
    }

    /// How often each thing was done so far.
    pub fn done(&self) -> Vec<(&'static str, u64)> {
        let done = self.shared.done.iter().map(|done| done.load(Ordering::Relaxed));
        kinds().map(|kind| kind.name).zip(done).collect()
    }

    /// Ends it; how often each thing was done. Panics if one of them failed, or was done too seldom.
    pub fn stop(mut self) -> Vec<(&'static str, u64)> {
        let seconds = self.began.elapsed().as_secs();
        self.end();
        let failed = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(failed.is_empty(), "{} failed: {:#?}", failed.len(), &failed[..failed.len().min(20)]);
        let all = self.done();
        for (kind, (name, done)) in kinds().zip(&all) {
            assert!(*done >= kind.least * seconds / 30, "{name}: only {done} in {seconds} s");
        }
        all
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic is told on stderr, and what was not done is missed
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

fn work(kind: &Kind, index: usize, way: &Way, shared: &Shared) {
    let fail = |what: &str, error: &io::Error| {
        let told = format!("{} on {}: {what}: {error}", kind.name, way.name);
        println!("{told}");
        shared.failed.lock().unwrap_or_else(PoisonError::into_inner).push(told);
    };
    let listener = match (kind.listen)(way) {
        Ok(listener) => listener,
        Err(error) => return fail("listen", &error),
    };
    let port = listener.local_addr().ok().and_then(|addr| addr.as_socket()).map_or(0, |addr| addr.port());
    let worker = Worker { way, listener, port, shared };
    // The client's sockets are of the namespace that the thread is in.
    way.within(|| {
        while !worker.stops() {
            match (kind.play)(&worker) {
                Ok(()) => drop(shared.done[index].fetch_add(1, Ordering::Relaxed)),
                Err(error) => fail("play", &error),
            }
            worker.nap(kind.rest_ms);
        }
    });
}

impl Worker<'_> {
    fn stops(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// A pause, shorter if the load is to end.
    fn nap(&self, ms: u64) {
        let until = Instant::now() + Duration::from_millis(ms);
        while !self.stops() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(STEP));
        }
    }

    /// A pause of a length between these.
    fn nap_between(&self, least_ms: u64, most_ms: u64) {
        let more = self.below((most_ms - least_ms + 1) as usize) as u64;
        self.nap(least_ms + more);
    }

    fn below(&self, end: usize) -> usize {
        self.shared.random.lock().unwrap_or_else(PoisonError::into_inner).below(end)
    }

    fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Where the listener is to be found.
    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.way.dial, self.port)
    }

    /// A client that is connected.
    fn client(&self) -> io::Result<Socket> {
        let client = self.way.client()?;
        client.connect(&self.address().into())?;
        Ok(client)
    }

    /// A connection: the client's end and the server's.
    fn connect(&self) -> io::Result<(Socket, Socket)> {
        Ok((self.client()?, self.accept()?))
    }

    fn accept(&self) -> io::Result<Socket> {
        let (server, _) = self.listener.accept()?;
        patient(&server)?;
        Ok(server)
    }
}

/// A socket on which nothing waits for ever.
fn patient(socket: &Socket) -> io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))
}

/// So many bytes from one end to the other; they fit into the buffers.
fn carry(mut from: &Socket, mut to: &Socket, bytes: usize) -> io::Result<()> {
    from.write_all(&vec![b'x'; bytes])?;
    to.read_exact(&mut vec![0; bytes])
}

/// Reads to the end; how much there was.
fn drain(mut from: &Socket) -> io::Result<u64> {
    io::copy(&mut from, &mut io::sink())
}
