//! Memory that flows and entries have left behind, to be used again: where connections come and go as fast as others go, nothing
//! is allocated.

use super::{Closed, connection::Rare};

/// Boxes of a kind that are kept. More close at once only in bursts.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Spare {
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    rare: Vec<Box<Rare>>,
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    closed: Vec<Box<Closed>>,
}

impl Spare {
    /// Room for the rare parts of a flow: nothing is in it.
    pub fn rare(&mut self) -> Box<Rare> {
        self.rare.pop().unwrap_or_default()
    }

    /// A flow does not need this any more.
    pub fn take_rare(&mut self, mut rare: Box<Rare>) {
        if self.rare.len() < MOST {
            *rare = Rare::default();
            self.rare.push(rare);
        }
    }

    /// The end of a flow, in a box.
    pub fn closed(&mut self, closed: Closed) -> Box<Closed> {
        match self.closed.pop() {
            Some(mut place) => {
                *place = closed;
                place
            }
            None => Box::new(closed),
        }
    }

    /// Everybody has read this.
    pub fn take_closed(&mut self, mut closed: Box<Closed>) {
        if self.closed.len() < MOST {
            closed.closed_by = None;
            self.closed.push(closed);
        }
    }
}
