//! A socket on one of the hosts.

use std::{
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::Shutdown,
    os::fd::AsFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::{Family, Lab, LabError, Side};

/// How long anything may take that nothing on the wire keeps from happening.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// How many connections may wait to be accepted, as given to `listen()`; the kernel lets one more wait.
    pub backlog: i32,
    /// Receive buffer of each connection in bytes, as given to `SO_RCVBUF`: the kernel doubles it, and it no longer
    /// grows by itself. `None`: the kernel's default.
    pub receive_buffer: Option<usize>,
}

impl Default for Listening {
    /// Room for more than most scenarios have waiting.
    fn default() -> Self {
        Self { backlog: 16, receive_buffer: None }
    }
}

/// A TCP socket on one of the hosts. All its system calls are made by that host's thread.
///
/// Dropping it without [`Endpoint::close`] aborts the connection, so that an error leaves nothing behind.
#[derive(Debug)]
pub struct Endpoint<'lab> {
    lab: &'lab Lab,
    side: Side,
    /// Shared only with the closure of the call in progress.
    socket: Option<Arc<Socket>>,
}

impl Lab {
    /// Listens at the server.
    pub fn listen(&self) -> Result<Endpoint<'_>, LabError> {
        self.listen_as(Listening::default())
    }

    /// Listens at the server, in that way.
    pub fn listen_as(&self, how: Listening) -> Result<Endpoint<'_>, LabError> {
        let (family, address) = (self.family(), self.server_address());
        self.endpoint(Side::Server, "listen", move || {
            let socket = socket(family)?;
            socket.set_reuse_address(true)?;
            if let Some(bytes) = how.receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            socket.bind(&address.into())?;
            socket.listen(how.backlog)?;
            Ok(socket)
        })
    }

    /// Begins to connect from the client, without waiting for the answer: see [`Endpoint::connected`].
    pub fn dial(&self) -> Result<Endpoint<'_>, LabError> {
        let (family, address) = (self.family(), self.server_address());
        self.endpoint(Side::Client, "connect", move || {
            let socket = socket(family)?;
            match socket.connect(&address.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
                _ => Ok(socket),
            }
        })
    }

    fn endpoint(
        &self,
        side: Side,
        action: &'static str,
        make: impl FnOnce() -> io::Result<Socket> + Send + 'static,
    ) -> Result<Endpoint<'_>, LabError> {
        let socket = self.run_in(side, make)?.map_err(|source| LabError::Socket { side, action, source })?;
        Ok(Endpoint { lab: self, side, socket: Some(Arc::new(socket)) })
    }
}

impl<'lab> Endpoint<'lab> {
    /// Takes the next connection from a listener.
    pub fn accept(&self) -> Result<Endpoint<'lab>, LabError> {
        let socket = self.call("accept", |socket| {
            ready(socket, PollFlags::POLLIN, PATIENCE)?;
            let (accepted, _) = socket.accept()?;
            accepted.set_nonblocking(true)?;
            accepted.set_tcp_nodelay(true)?;
            Ok(accepted)
        })?;
        Ok(Endpoint { lab: self.lab, side: self.side, socket: Some(Arc::new(socket)) })
    }

    /// Waits until the connection is established, or fails with the reason why it is not.
    pub fn connected(&self, timeout: Duration) -> Result<(), LabError> {
        self.call("connect", move |socket| {
            ready(socket, PollFlags::POLLOUT, timeout)?;
            socket.take_error()?.map_or(Ok(()), Err)
        })
    }

    /// Sends these bytes, in one segment if there is room for it in one.
    pub fn send(&self, bytes: &[u8]) -> Result<(), LabError> {
        let bytes = bytes.to_vec();
        self.call("send", move |socket| {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                ready(socket, PollFlags::POLLOUT, PATIENCE)?;
                let sent = (&*socket).write(rest)?;
                rest = rest.get(sent..).unwrap_or_default();
            }
            Ok(())
        })
    }

    /// Reads exactly so many bytes.
    pub fn receive(&self, len: usize) -> Result<Vec<u8>, LabError> {
        self.call("receive", move |socket| {
            let mut bytes = vec![0; len];
            let mut filled = 0;
            while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
                ready(socket, PollFlags::POLLIN, PATIENCE)?;
                match (&*socket).read(room)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    more => filled += more,
                }
            }
            Ok(bytes)
        })
    }

    /// Waits until so many bytes have arrived, and leaves them unread.
    pub fn see(&self, len: usize) -> Result<(), LabError> {
        self.call("see what has arrived", move |socket| {
            let deadline = Instant::now() + PATIENCE;
            let mut room = vec![MaybeUninit::uninit(); len];
            loop {
                ready(socket, PollFlags::POLLIN, deadline.saturating_duration_since(Instant::now()))?;
                match socket.peek(&mut room)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    seen if seen >= len => return Ok(()),
                    // The socket stays ready with less: look again a little later.
                    _ => thread::sleep(Duration::from_millis(1)),
                }
            }
        })
    }

    /// Waits for the peer to close its direction; data before that is an error.
    pub fn receive_end(&self) -> Result<(), LabError> {
        self.call("read the end of the stream", |socket| {
            ready(socket, PollFlags::POLLIN, PATIENCE)?;
            match (&*socket).read(&mut [0])? {
                0 => Ok(()),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "there was data before it")),
            }
        })
    }

    /// Closes the sending direction only.
    pub fn shutdown_write(&self) -> Result<(), LabError> {
        self.call("shut its direction down", |socket| socket.shutdown(Shutdown::Write))
    }

    /// Closes the socket as a program does: `close()`, without any option set.
    pub fn close(mut self) -> Result<(), LabError> {
        let socket = self.socket.take();
        self.lab.run_in(self.side, move || drop(socket))
    }

    /// Closes the socket with `SO_LINGER` at zero: data not yet sent is thrown away, and the peer gets a RST.
    pub fn close_hard(self) -> Result<(), LabError> {
        self.call("set SO_LINGER", |socket| socket.set_linger(Some(Duration::ZERO)))?;
        self.close()
    }

    /// Lets the kernel ask whether the peer is still there: after `idle` of silence, then every `interval`, until
    /// `count` probes were in vain. Both in whole seconds.
    pub fn keep_alive(&self, idle: Duration, interval: Duration, count: u32) -> Result<(), LabError> {
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count);
        self.call("set SO_KEEPALIVE", move |socket| socket.set_tcp_keepalive(&keepalive))
    }

    /// Sets `TCP_USER_TIMEOUT`: how long data may stay unacknowledged before the kernel gives the connection up.
    pub fn user_timeout(&self, timeout: Duration) -> Result<(), LabError> {
        self.call("set TCP_USER_TIMEOUT", move |socket| socket.set_tcp_user_timeout(Some(timeout)))
    }

    /// Waits until the connection fails, and says why; data or an orderly end is an error.
    pub fn failure(&self, timeout: Duration) -> Result<io::Error, LabError> {
        self.call("wait for its connection to fail", move |socket| {
            ready(socket, PollFlags::POLLIN, timeout)?;
            let read = (&*socket).read(&mut [0]);
            read.err().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has not failed"))
        })
    }

    fn call<T: Send + 'static>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Socket) -> io::Result<T> + Send + 'static,
    ) -> Result<T, LabError> {
        let side = self.side;
        let Some(socket) = self.socket.clone() else {
            // Only `close` takes the socket, and takes the endpoint with it.
            return Err(LabError::Unexpected(format!("a closed socket at the {side}")));
        };
        self.lab
            .run_in(side, move || {
                let result = call(&socket);
                // Before the answer is given, so that `close` finds itself the only owner.
                drop(socket);
                result
            })?
            .map_err(|source| LabError::Socket { side, action, source })
    }
}

impl Drop for Endpoint<'_> {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            // A script that failed half-way: nothing to report beyond its own error.
            let _ = self.lab.run_in(self.side, move || {
                let _ = socket.set_linger(Some(Duration::ZERO));
            });
        }
    }
}

fn socket(family: Family) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // Calls return at once and `ready` does the waiting, so that each has a deadline.
    socket.set_nonblocking(true)?;
    // Each write is a segment of its own, without waiting for the answer to the one before.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// Waits until the socket is ready; errors and hang-ups count, the call that follows reports them.
fn ready(socket: &Socket, flags: PollFlags, timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), flags)], left) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing happened in time")),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
