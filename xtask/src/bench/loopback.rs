//! A network namespace with nothing in it but a loopback device: nobody else's traffic, nobody else's rules.

use std::{
    fs,
    net::UdpSocket,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

/// No TIME_WAIT: the table of them would fill up in the first seconds and make later connections dearer than
/// early ones. Every state change happens all the same.
const TIME_WAITS: (&str, &str) = ("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0");

/// Moves this process, which must have one thread only, into a new namespace. Gives its inode number.
pub fn enter() -> Result<u64> {
    unshare(CloneFlags::CLONE_NEWNET).context("no network namespace can be made; that is root's")?;
    bring_up().context("the loopback device does not come up")?;
    let (file, value) = TIME_WAITS;
    fs::write(file, value).with_context(|| format!("cannot write {value} to {file}"))?;
    Ok(fs::metadata("/proc/self/ns/net").context("the new network namespace cannot be looked at")?.ino())
}

fn bring_up() -> Result<()> {
    // Any socket of the namespace will do for the ioctl, and this one needs no device.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: a plain C structure, for which zeroes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the socket is open, and the request is what this ioctl reads.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })?;
    Ok(())
}
