//! The kernel's own list of TCP sockets (NETLINK_SOCK_DIAG), for what no event tells: the sockets that were there
//! before us, half-open requests, minisockets, queues, timers. Needs no privilege, but shows one namespace only.

mod ahead;
mod codec;
mod destroy;
mod dump;
mod query;
#[cfg(test)]
pub(crate) mod recorded;
#[cfg(test)]
mod tests;

use super::{
    live::boot_time_ns,
    netns::{Namespace, NamespaceError},
};
use crate::{
    event::{Ends, TcpState},
    sight::{Sight, Taken},
};
pub use ahead::Ahead;
use codec::{End, Reader, Reply, Request};
pub use destroy::Destroyed;
pub use dump::{Dump, DumpCounts};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
pub use query::{Detail, Family, Query, States};
use std::io;
use thiserror::Error;

/// The kernel fills its datagrams up to the size of the receiver's buffer, 32 KiB at most.
const BUFFER: usize = 64 << 10;
/// Where a buffer that was too small all the same stops to grow.
const LARGEST_BUFFER: usize = 4 << 20;
/// How often something that the kernel broke off is tried again.
const RETRIES: u32 = 3;
/// How many interfaces with sockets bound to them are remembered.
const INTERFACES: usize = 64;

/// Why sockets cannot be listed.
#[derive(Debug, Error)]
pub enum DiagError {
    /// ENOENT or EOPNOTSUPP: the kernel would have loaded the module by itself if it could.
    #[error(
        "this kernel cannot list TCP sockets: it has no tcp_diag; type: sudo modprobe tcp_diag\n  (not found: the kernel was built without CONFIG_INET_TCP_DIAG)"
    )]
    NoModule,
    /// Getting into the namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel broke its answer off, again and again.
    #[error(
        "the kernel broke off its list of TCP sockets {0} times ({1}); memory may be short: free some, or try again"
    )]
    BrokenOff(u32, io::Error),
    /// Anything else.
    #[error("cannot list TCP sockets: {0}")]
    Refused(io::Error),
}

/// Asks the kernel about the TCP sockets of one network namespace. It keeps that namespace alive as long as it is kept.
#[derive(Debug)]
pub struct SockDiag {
    namespace: Namespace,
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
    /// The socket has an answer under way that nobody wants any more.
    busy: bool,
    /// Interfaces that sockets were seen bound to: a look-up has to name them.
    interfaces: Vec<u32>,
}

impl SockDiag {
    /// Gets ready. The socket is made inside the namespace, and stays there.
    ///
    /// # Errors
    /// If the namespace cannot be entered, and if the kernel has no `tcp_diag`.
    pub fn open(namespace: &Namespace) -> Result<Self, DiagError> {
        let mut diag = Self {
            namespace: namespace.clone(),
            socket: socket(namespace)?,
            buffer: Vec::with_capacity(BUFFER),
            sequence: 0,
            busy: false,
            interfaces: Vec::new(),
        };
        // A list of nothing. It tells whether the kernel can do it, which an empty look-up does not (ENOENT both), and
        // shows the kernel our buffer: datagrams before the first receive are small.
        for family in [None, Some(Family::Inet)] {
            let query = Query { family, ..Query::of(States::NONE, Detail::Plain) };
            diag.dump(query)?.next_batch(&mut Vec::new())?;
        }
        Ok(diag)
    }

    /// Inode number of the namespace.
    pub fn netns(&self) -> u32 {
        self.namespace.inode()
    }

    /// Begins to list sockets. A [`Dump`] that is dropped half-way is no harm.
    ///
    /// Namespaces share one table, which is walked for each of them: even the list of an empty one takes a while where
    /// another has many sockets.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn dump(&mut self, query: Query) -> Result<Dump<'_>, DiagError> {
        Dump::begin(self, query)
    }

    /// The one socket with these ends and this cookie (0: whatever it is), of any kind, with all detail; `None`: there is none any more.
    ///
    /// Costs a few microseconds, for listeners a walk over the listeners. Not found is a socket bound to an interface
    /// ([`search`](Self::search) finds it) unless another socket bound to the same one was seen here before.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn look(&mut self, ends: &Ends, cookie: u64) -> Result<Option<Sight>, DiagError> {
        let mut sight = self.look_on(ends, 0, cookie)?;
        // The interface is part of the kernel's comparison. Few hosts have sockets bound to one at all.
        let mut next = 0;
        while sight.is_none()
            && let Some(interface) = self.interfaces.get(next).copied()
        {
            sight = self.look_on(ends, interface, cookie)?;
            next += 1;
        }
        // Of several listeners on a port (SO_REUSEPORT) the kernel picks one; a link-local address implies an interface.
        if sight.is_none() && (ends.rport == 0 || link_local(ends)) {
            sight = self.search(ends, cookie)?;
        }
        Ok(sight)
    }

    /// The same with certainty, but at the cost of a walk over the kernel's whole table (tens of milliseconds where it is
    /// large), for listeners over theirs.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn search(&mut self, ends: &Ends, cookie: u64) -> Result<Option<Sight>, DiagError> {
        let states = if ends.rport == 0 { States::of([TcpState::Listen]) } else { States::ALL };
        let query = Query { ports: (ends.lport, ends.rport), ..Query::of(states, Detail::Full) };
        let mut dump = self.dump(query)?;
        let mut sights = Vec::new();
        while dump.next_batch(&mut sights)?.is_some() {
            if let Some(found) = sights.iter().find(|sight| [0, sight.cookie].contains(&cookie)) {
                return Ok(Some(*found));
            }
            sights.clear();
        }
        Ok(None)
    }

    fn look_on(&mut self, ends: &Ends, interface: u32, cookie: u64) -> Result<Option<Sight>, DiagError> {
        let (mut sights, mut last) = (Vec::new(), 0);
        for _ in 0..=RETRIES {
            self.send(|sequence| Request::look(ends, interface, cookie, sequence))?;
            self.busy = false; // one datagram, which was there before the send returned
            last = match self.receive(States::ALL, &mut sights) {
                Ok(Reply { end: Some(End::Failed(libc::ENOENT | libc::ESTALE)), .. }) => return Ok(None),
                Ok(Reply { end: Some(End::Failed(errno)), .. }) | Err(errno) => errno,
                // The kernel has compared the cookie. No answer at all is not "gone".
                Ok(_) => match sights.iter().find(|sight| [0, sight.cookie].contains(&cookie)) {
                    Some(sight) => return Ok(Some(*sight)),
                    None => libc::EAGAIN,
                },
            };
            if !passes(last) {
                return Err(refused(last));
            }
            self.busy = true;
        }
        Err(DiagError::BrokenOff(RETRIES + 1, io::Error::from_raw_os_error(last)))
    }

    /// Sends a request, and says when.
    fn send(&mut self, request: impl FnOnce(u32) -> Request) -> Result<Taken, DiagError> {
        if self.busy {
            // A dump cannot be cancelled, and while it lasts the kernel begins no other (EBUSY).
            self.socket = socket(&self.namespace)?;
        }
        self.busy = true;
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(self.sequence);
        let from_ns = boot_time_ns();
        self.socket.send(request.bytes(), 0).map_err(DiagError::Refused)?;
        Ok(Taken { from_ns, to_ns: boot_time_ns() })
    }

    /// Takes one datagram and appends its sockets; or an errno. Never waits: sock_diag answers inside the sender's and
    /// the receiver's system calls, so what is not there will not come.
    fn receive(&mut self, states: States, into: &mut Vec<Sight>) -> Result<Reply, i32> {
        self.buffer.clear();
        let received = self.socket.recv(&mut self.buffer, libc::MSG_TRUNC | libc::MSG_DONTWAIT);
        let length = received.map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        if length > self.buffer.len() {
            let size = length.next_power_of_two().min(LARGEST_BUFFER);
            self.buffer.reserve(size);
            return Err(libc::EMSGSIZE);
        }
        let interfaces = &mut self.interfaces;
        let mut bound_to = |interface| {
            if !interfaces.contains(&interface) && interfaces.len() < INTERFACES {
                interfaces.push(interface);
            }
        };
        let netns = self.namespace.inode();
        let mut reader = Reader { sequence: self.sequence, states, netns, bound_to: &mut bound_to };
        Ok(reader.read(&self.buffer, into))
    }
}

fn socket(namespace: &Namespace) -> Result<Socket, DiagError> {
    let make = || {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(socket)
    };
    namespace.enter(make)?.map_err(|error: io::Error| match error.raw_os_error() {
        Some(libc::EPROTONOSUPPORT) => DiagError::NoModule,
        _ => DiagError::Refused(error),
    })
}

/// Errors that pass: no memory, a dump that was still under way, a datagram lost or larger than our buffer.
fn passes(errno: i32) -> bool {
    matches!(errno, libc::ENOBUFS | libc::ENOMEM | libc::EBUSY | libc::EINTR | libc::EAGAIN | libc::EMSGSIZE)
}

fn refused(errno: i32) -> DiagError {
    match errno {
        libc::ENOENT | libc::EOPNOTSUPP => DiagError::NoModule,
        _ => DiagError::Refused(io::Error::from_raw_os_error(errno)),
    }
}

/// fe80::/10
fn link_local(ends: &Ends) -> bool {
    [ends.local, ends.remote].iter().any(|address| matches!(address, [0xfe, 0x80..=0xbf, ..]))
}
