//! Network namespaces that come and go with connections in them. A process of its own; it goes on until it is killed, and
//! says on standard output how many there were.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use fastrand::Rng;

use super::worker::Seed;
use crate::bench::loopback;

/// Between two namespaces: they cost the kernel more than all their connections.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes one namespace after the other.
pub fn run(options: &Seed) -> Result<ExitCode> {
    let mut random = Rng::with_seed(options.seed);
    let mut open = Vec::new();
    loop {
        // The one before is gone with the last of its sockets: some stay open for one namespace more.
        loopback::enter()?;
        let before = std::mem::take(&mut open);
        open = connections(random.usize(1..50)).context("a connection in a new namespace failed")?;
        open.truncate(random.usize(..20));
        drop(before);
        println!("namespace");
        io::stdout().flush()?;
        thread::sleep(PAUSE);
    }
}

fn connections(count: usize) -> io::Result<Vec<[TcpStream; 2]>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    (0..count).map(|_| Ok([TcpStream::connect(address)?, listener.accept()?.0])).collect()
}
