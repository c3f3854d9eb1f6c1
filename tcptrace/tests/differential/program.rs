//! A program that does anything that can be done with TCP sockets, in any order.

use crate::{
    operations::{OPERATIONS, Operation},
    random::Random,
    road::Road,
};
use socket2::Socket;
use std::{os::unix::net::UnixStream, process::Child};

/// Sockets open at once, beside those that others hold.
const SOCKETS: usize = 160;
const LISTENERS: usize = 10;
const CHILDREN: usize = 6;
const PARCELS: usize = 6;

/// A listener, and where it is.
pub struct Listening {
    pub socket: Socket,
    pub road: usize,
    pub port: u16,
}

/// A socket that is no listener.
pub struct Held {
    pub socket: Socket,
    pub road: usize,
}

/// Everything the program has.
pub struct Program {
    pub random: Random,
    pub roads: Vec<Road>,
    pub listeners: Vec<Listening>,
    pub held: Vec<Held>,
    /// Processes that hold sockets.
    pub children: Vec<Child>,
    /// Sockets on their way to another process, which never takes them out.
    pub parcels: Vec<[UnixStream; 2]>,
    /// Operations so far.
    pub done: u64,
}

impl Program {
    pub fn new(random: Random, roads: Vec<Road>) -> Self {
        Self {
            random,
            roads,
            listeners: Vec::new(),
            held: Vec::new(),
            children: Vec::new(),
            parcels: Vec::new(),
            done: 0,
        }
    }

    /// Does something, so many times.
    pub fn run(&mut self, times: u64) {
        for _ in 0..times {
            let operation = self.choose();
            operation(self);
            self.done += 1;
        }
    }

    fn choose(&mut self) -> Operation {
        // What there is too much of goes first.
        if self.listeners.len() > LISTENERS {
            return Self::close_listener;
        }
        if self.held.len() > SOCKETS {
            return Self::close;
        }
        if self.children.len() > CHILDREN {
            return Self::kill_child;
        }
        if self.parcels.len() > PARCELS {
            return Self::lose_parcel;
        }
        if self.listeners.is_empty() {
            return Self::listen;
        }
        self.random.weighted(OPERATIONS)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
