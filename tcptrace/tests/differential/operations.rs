//! What a program can do. Anything may fail: the kernel decides, and both tellers see what came of it.

use crate::{
    program::{Held, Listening, Program},
    road::TRAPS,
};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use socket2::Socket;
use std::{
    io::{IoSlice, Read, Write},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
    time::Duration,
};

/// Something to do.
pub type Operation = fn(&mut Program);

/// Everything there is to do, and how often.
pub const OPERATIONS: &[(usize, Operation)] = &[
    (3, Program::listen),
    (30, Program::connect),
    (26, Program::accept),
    (6, Program::connect_from_a_fixed_port),
    (3, Program::connect_refused),
    (1, Program::connect_nowhere),
    (4, Program::connect_into_a_trap),
    (3, Program::connect_again),
    (8, Program::half_close),
    (1, Program::stop_reading),
    (16, Program::close),
    (3, Program::abort),
    (3, Program::disconnect),
    (12, Program::write),
    (8, Program::read),
    (2, Program::close_listener),
    (2, Program::give_to_child),
    (2, Program::kill_child),
    (2, Program::send_away),
    (2, Program::lose_parcel),
    (2, Program::keep_a_duplicate),
];
/// Clients with a port of their own, so that the same ends come again and again.
const FIXED: (u16, usize) = (20_000, 24);
/// Listeners: few ports, for the same reason.
const LISTEN: (u16, usize) = (10_000, 12);

impl Program {
    pub fn listen(&mut self) {
        let road = self.random.below(self.roads.len());
        let port = LISTEN.0 + self.random.below(LISTEN.1) as u16;
        let socket = self.roads[road].listener();
        // Often so short that SYNs and last ACKs are dropped.
        let backlog = [0, 1, 3, 64, 64, 64, 64][self.random.below(7)];
        if socket.bind(&self.roads[road].bind_listener(port).into()).is_ok() && socket.listen(backlog).is_ok()
        {
            self.listeners.push(Listening { socket, road, port });
        }
    }

    pub fn connect(&mut self) {
        self.connect_from(None);
    }

    pub fn connect_from_a_fixed_port(&mut self) {
        let port = FIXED.0 + self.random.below(FIXED.1) as u16;
        self.connect_from(Some(port));
    }

    pub fn connect_into_a_trap(&mut self) {
        let (first, each, traps) = TRAPS;
        let port = first + self.random.below(usize::from(each * traps)) as u16;
        self.connect_from(Some(port));
    }

    fn connect_from(&mut self, port: Option<u16>) {
        let Some(listener) = self.random.pick(&self.listeners) else { return };
        let (road, to) = (listener.road, self.roads[listener.road].dial(listener.port));
        let socket = self.roads[road].client();
        if let Some(port) = port
            && socket.bind(&self.roads[road].bind_client(port).into()).is_err()
        {
            return;
        }
        let _ = socket.connect(&to.into());
        self.held.push(Held { socket, road });
    }

    pub fn connect_refused(&mut self) {
        let road = self.random.below(self.roads.len());
        let socket = self.roads[road].client();
        let _ = socket.connect(&self.roads[road].dial(2).into());
        self.held.push(Held { socket, road });
    }

    pub fn connect_nowhere(&mut self) {
        let road = self.random.below(self.roads.len());
        let socket = self.roads[road].client();
        let _ = socket.connect(&self.roads[road].nowhere().into());
        self.held.push(Held { socket, road });
    }

    /// With a socket that may have been connected before.
    pub fn connect_again(&mut self) {
        let (held, listeners) = (self.random.pick(&self.held), &self.listeners);
        let Some(held) = held else { return };
        if let Some(listener) = listeners.iter().find(|listener| listener.road == held.road) {
            let _ = held.socket.connect(&self.roads[held.road].dial(listener.port).into());
        }
    }

    /// One connection, or all there are.
    pub fn accept(&mut self) {
        let most = if self.random.once_in(8) { usize::MAX } else { 2 };
        let Some(listener) = self.random.pick(&self.listeners) else { return };
        for _ in 0..most {
            let Ok((socket, _)) = listener.socket.accept() else { return };
            socket.set_nonblocking(true).expect("set");
            self.held.push(Held { socket, road: listener.road });
        }
    }

    pub fn half_close(&mut self) {
        if let Some(held) = self.random.pick(&self.held) {
            let _ = held.socket.shutdown(Shutdown::Write);
        }
    }

    pub fn stop_reading(&mut self) {
        if let Some(held) = self.random.pick(&self.held) {
            let _ = held.socket.shutdown(Shutdown::Read);
        }
    }

    /// Whatever it is: read or not, connected or not, first or second.
    pub fn close(&mut self) {
        drop(self.random.take(&mut self.held));
    }

    pub fn abort(&mut self) {
        if let Some(held) = self.random.take(&mut self.held) {
            let _ = held.socket.set_linger(Some(Duration::ZERO));
        }
    }

    pub fn disconnect(&mut self) {
        if let Some(held) = self.random.pick(&self.held) {
            unconnect(&held.socket);
        }
    }

    pub fn write(&mut self) {
        if let Some(held) = self.random.pick(&self.held) {
            let _ = (&held.socket).write(b"something to read");
        }
    }

    pub fn read(&mut self) {
        if let Some(held) = self.random.pick(&self.held) {
            let _ = (&held.socket).read(&mut [0; 4096]);
        }
    }

    /// With whatever nobody has accepted.
    pub fn close_listener(&mut self) {
        drop(self.random.take(&mut self.listeners));
    }

    /// A process that has two sockets of ours, and nothing to do with them.
    pub fn give_to_child(&mut self) {
        let (Some(one), Some(other)) = (self.random.take(&mut self.held), self.random.take(&mut self.held))
        else {
            return;
        };
        let [input, output] = [one, other].map(|held| Stdio::from(OwnedFd::from(held.socket)));
        let child = Command::new("sleep").arg("1000").stdin(input).stdout(output).spawn();
        self.children.push(child.expect("sleep"));
    }

    pub fn kill_child(&mut self) {
        if let Some(mut child) = self.random.take(&mut self.children) {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    /// Into a socket's queue, where no process has it open.
    pub fn send_away(&mut self) {
        let Some(held) = self.random.take(&mut self.held) else { return };
        let [one, other] = UnixStream::pair().map(|(one, other)| [one, other]).expect("a pair");
        let descriptors = [held.socket.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        sendmsg::<()>(one.as_raw_fd(), &[IoSlice::new(b"!")], &rights, MsgFlags::empty(), None)
            .expect("sent");
        self.parcels.push([one, other]);
    }

    /// The queue goes, and the socket with it.
    pub fn lose_parcel(&mut self) {
        drop(self.random.take(&mut self.parcels));
    }

    /// The same socket a second time: closing one of them closes nothing.
    pub fn keep_a_duplicate(&mut self) {
        if let Some(held) = self.random.pick(&self.held)
            && let Ok(socket) = held.socket.try_clone()
        {
            let road = held.road;
            self.held.push(Held { socket, road });
        }
    }
}

/// `connect(AF_UNSPEC)`.
pub fn unconnect(socket: &Socket) {
    // SAFETY: all zeroes is a valid address, of no family.
    let address: libc::sockaddr = unsafe { MaybeUninit::zeroed().assume_init() };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the descriptor is open, the address as long as we say.
    let _ = unsafe { libc::connect(socket.as_raw_fd(), &raw const address, length) };
}
