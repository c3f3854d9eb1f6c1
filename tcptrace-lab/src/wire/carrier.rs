//! The wire's thread: reads each device and writes to the other.

use std::{
    fs::File,
    io::{self, PipeReader, Read, Write},
    os::fd::AsFd,
    sync::Arc,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{Shared, State, traffic::Held};
use crate::{Direction, Fate, Segment};

/// No packet is longer, whatever the devices' MTU.
const PACKET_MAX: usize = 65_536;
/// How many segments can be held; more are lost, as in a real network's full queue.
const HELD_MAX: usize = 4096;

/// Owns the devices: they are gone when it is dropped.
pub(super) struct Carrier {
    client: File,
    server: File,
    woken: PipeReader,
    shared: Arc<Shared>,
}

impl Carrier {
    pub(super) fn new(client: File, server: File, woken: PipeReader, shared: Arc<Shared>) -> Self {
        Self { client, server, woken, shared }
    }

    /// Carries packets until the wire is told to stop.
    pub(super) fn run(self) {
        let mut packet = vec![0; PACKET_MAX];
        while !self.shared.lock().stop {
            if let Err(error) = self.round(&mut packet) {
                self.shared.lock().ended = Some(error.to_string());
                break;
            }
        }
    }

    /// Waits for something to do and does it.
    fn round(&self, packet: &mut [u8]) -> io::Result<()> {
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut watched = [watch(self.client.as_fd()), watch(self.server.as_fd()), watch(self.woken.as_fd())];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [from_client, from_server, woken] = watched.map(|watched| watched.any().unwrap_or(false));
        if woken {
            // How often it was woken does not matter.
            (&self.woken).read(packet).map(drop)?;
            let mut state = self.shared.lock();
            self.pass_released(&mut state);
            while let Some((direction, segment, packet)) = state.injected.pop_front() {
                self.decide(&mut state, direction, segment, &packet);
            }
            drop(state);
            self.shared.changed.notify_all();
        }
        if from_client {
            self.carry_one(Direction::ToServer, packet)?;
        }
        if from_server {
            self.carry_one(Direction::ToClient, packet)?;
        }
        Ok(())
    }

    fn carry_one(&self, direction: Direction, packet: &mut [u8]) -> io::Result<()> {
        let mut from = match direction {
            Direction::ToServer => &self.client,
            Direction::ToClient => &self.server,
        };
        let len = match from.read(packet) {
            Ok(len) => len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let packet = packet.get(..len).unwrap_or_default();
        // All else is the hosts' IPv6 housekeeping, to which nobody would answer.
        if let Some(segment) = Segment::parse(packet) {
            self.decide(&mut self.shared.lock(), direction, segment, packet);
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    fn decide(&self, state: &mut State, direction: Direction, segment: Segment, packet: &[u8]) {
        // What was released must not be overtaken by what came after it.
        self.pass_released(state);
        // Every rule is asked, so that one that counts is not kept from counting by another.
        let mut dropped = false;
        for rule in state.rules.iter_mut().filter(|rule| rule.direction == direction) {
            dropped |= (rule.drops)(&segment);
        }
        if dropped {
            state.traffic.record(direction, segment, Fate::Dropped);
        } else if !state.holding {
            self.pass(state, direction, segment, packet);
        } else if state.traffic.held().len() < HELD_MAX {
            state.traffic.hold(Held { direction, segment, packet: packet.to_vec() });
        } else {
            state.traffic.record(direction, segment, Fate::Dropped);
        }
    }

    fn pass_released(&self, state: &mut State) {
        while state.releasing > 0 {
            state.releasing -= 1;
            if let Some(held) = state.traffic.next_held() {
                self.pass(state, held.direction, held.segment, &held.packet);
            }
        }
    }

    /// Hands a packet to the receiver, whose TCP has handled it when the write returns.
    fn pass(&self, state: &mut State, direction: Direction, segment: Segment, packet: &[u8]) {
        let mut to = match direction {
            Direction::ToServer => &self.server,
            Direction::ToClient => &self.client,
        };
        // A host that takes no packet, for want of memory say, has lost it: TCP will send it again.
        let fate = if to.write(packet).is_ok() { Fate::Forwarded } else { Fate::Dropped };
        state.traffic.record(direction, segment, fate);
    }
}

impl Drop for Carrier {
    /// Whoever waits for a segment learns that none will come, even if a rule's predicate has panicked.
    fn drop(&mut self) {
        self.shared.lock().ended.get_or_insert_with(|| "its thread has ended".into());
        self.shared.changed.notify_all();
    }
}
