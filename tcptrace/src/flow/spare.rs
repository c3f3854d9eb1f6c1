//! Memory that flows and entries have left behind, to be used again: where connections come and go as fast as others go, nothing
//! is allocated.

use super::{Closed, connection::Rare};
use crate::event::{Reset, Retransmit, Transition};

/// Boxes of a kind that are kept. More close at once only in bursts.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Spare {
    rare: Boxes<Rare>,
    pub closed: Boxes<Closed>,
    pub retransmits: Boxes<Retransmit>,
    pub resets: Boxes<Reset>,
    pub firsts: Boxes<Transition>,
}

impl Spare {
    /// Room for the rare parts of a flow: nothing is in it.
    pub fn rare(&mut self) -> Box<Rare> {
        self.rare.0.pop().unwrap_or_default()
    }

    /// A flow does not need this any more.
    pub fn take_rare(&mut self, mut rare: Box<Rare>) {
        *rare = Rare::default();
        self.rare.take(rare);
    }
}

/// Boxes whose contents nobody wants any more.
#[derive(Debug)]
pub(super) struct Boxes<T>(Vec<Box<T>>);

impl<T> Default for Boxes<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Boxes<T> {
    /// Puts this into one.
    pub fn boxed(&mut self, value: T) -> Box<T> {
        match self.0.pop() {
            Some(mut place) => {
                *place = value;
                place
            }
            None => Box::new(value),
        }
    }

    /// Everybody has read this. What it refers to is kept as long as the box is.
    pub fn take(&mut self, read: Box<T>) {
        if self.0.len() < MOST {
            self.0.push(read);
        }
    }
}
