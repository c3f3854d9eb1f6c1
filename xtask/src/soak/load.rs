//! The load: connections that live and end in every way that two programs can think of, as fast as one core makes them. A
//! process of its own for each core; it goes on until its standard input ends, and keeps what is open then until it is killed.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use nix::sys::socket::{setsockopt, sockopt};

use super::worker::Seed;

/// Connections that each process keeps open.
const KEPT: usize = 300;

/// Goes on until there is no more input. Then says `done`, and waits to be killed.
pub fn run(options: &Seed) -> Result<ExitCode> {
    static STOP: AtomicBool = AtomicBool::new(false);
    thread::spawn(|| {
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        STOP.store(true, Ordering::Relaxed);
    });
    let mut ends = Ends::new([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])?;
    let mut random = Rng::with_seed(options.seed);
    let mut kept = VecDeque::new();
    while !STOP.load(Ordering::Relaxed) {
        ends.connection(&mut random, &mut kept).context("a connection of the load failed")?;
    }
    println!("done");
    loop {
        thread::park();
    }
}

/// Where the load connects to.
struct Ends {
    listeners: [TcpListener; 2],
    refused: [SocketAddr; 2],
}

impl Ends {
    fn new(addresses: [IpAddr; 2]) -> Result<Self> {
        let listen = |address| TcpListener::bind((address, 0)).context("the server cannot listen");
        let listeners = [listen(addresses[0])?, listen(addresses[1])?];
        // Nobody listens on a port that has just been given back.
        let refused = addresses.map(|address| listen(address)?.local_addr().context("no address"));
        let [first, second] = refused;
        Ok(Self { listeners, refused: [first?, second?] })
    }

    /// Nothing here ever waits: on loopback a segment has arrived before the call that sent it returns.
    fn connection(&mut self, random: &mut Rng, kept: &mut VecDeque<[TcpStream; 2]>) -> io::Result<()> {
        let family = random.usize(..2);
        let way = random.u8(..8);
        if way == 0 {
            return match TcpStream::connect(self.refused[family]) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Err(io::Error::other("somebody listens where nobody did")),
            };
        }
        let listener = &self.listeners[family];
        let mut client = TcpStream::connect(listener.local_addr()?)?;
        let (mut server, _) = listener.accept()?;
        let mut bytes = [0x5a; 2000];
        client.write_all(&bytes[..100])?;
        match way {
            // The client closes first, the server first, both in turn with a half-closed time between.
            1 | 2 => {
                server.read_exact(&mut bytes[..100])?;
                server.write_all(&bytes)?;
                client.read_exact(&mut bytes)?;
                if way == 2 {
                    std::mem::swap(&mut client, &mut server);
                }
                drop(client);
            }
            3 => {
                server.read_exact(&mut bytes[..100])?;
                client.shutdown(Shutdown::Write)?;
                server.write_all(&bytes)?;
                drop(server);
                client.read_exact(&mut bytes)?;
            }
            // Aborted by the client; closed by the server with the request unread.
            4 => {
                let abort = libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&client, sockopt::Linger, &abort)?;
                drop(client);
            }
            5 => drop(server),
            // Stays open for a while.
            _ => {
                kept.push_back([client, server]);
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        }
        Ok(())
    }
}
