//! Standard output of `kill`, in either format: a socket is written as soon as something came of it.

use super::choose::Choice;
use crate::{
    cmd::trace::{Format, quietly},
    enrich::Places,
    kill::{Outcome, Tally, Target},
    source::live::{boot_time_ns, wall_offset_ns},
    view::{
        ColorChoice, Palette,
        kill::{Columns, left_out, sockets, sum},
    },
    wall::Wall,
    wire,
};
use std::{
    collections::BTreeSet,
    io::{self, Write},
};

/// Standard output.
pub struct Output {
    format: Format,
    columns: Columns,
    /// How many there are to be told of.
    count: u64,
    /// They are killed, not only shown.
    kills: bool,
    wall: Wall,
    places: Places,
    line: Vec<u8>,
}

impl Output {
    /// For these sockets.
    pub fn new(format: Format, color: ColorChoice, kills: bool, targets: &[Target]) -> Self {
        let spaces: BTreeSet<_> = targets.iter().map(|target| target.seen.sight.netns).collect();
        Self {
            format,
            columns: Columns::new(Palette::new(color), kills, spaces.len() > 1, targets),
            count: targets.len() as u64,
            kills,
            wall: Wall::following(wall_offset_ns(), wall_offset_ns),
            places: Places::new(),
            line: Vec::new(),
        }
    }

    /// What formats times.
    pub fn wall(&mut self) -> &mut Wall {
        &mut self.wall
    }

    /// Before the first socket.
    ///
    /// # Errors
    /// Standard output's.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        if self.format == Format::Text && self.count > 0 {
            self.columns.header(&mut self.line)?;
        }
        self.write()
    }

    /// One socket.
    ///
    /// # Errors
    /// Standard output's.
    pub fn socket(&mut self, target: &Target, outcome: &Outcome) -> anyhow::Result<()> {
        match self.format {
            Format::Text => self.columns.row(&mut self.line, target, outcome)?,
            Format::Json => {
                let time_ns = if self.kills { boot_time_ns() } else { target.taken.to_ns };
                let (line, wall, places) = (&mut self.line, &mut self.wall, &self.places);
                wire::kill::socket(line, wall, places, time_ns, target, outcome)?;
            }
        }
        self.write()
    }

    /// After the last one that was tried.
    ///
    /// # Errors
    /// Standard output's.
    pub fn end(&mut self, choice: &Choice, tally: &Tally) -> anyhow::Result<()> {
        let text = if choice.matched == 0 { "nothing matches".to_owned() } else { sum(tally) };
        self.finish(choice, tally, &text)
    }

    /// After the last one that was shown; `next`: how to kill them.
    ///
    /// # Errors
    /// Standard output's.
    pub fn end_of_show(&mut self, choice: &Choice, next: Option<String>) -> anyhow::Result<()> {
        if self.format == Format::Text && choice.matched > self.count {
            writeln!(self.line, "… and {} that are younger", sockets(choice.matched - self.count))?;
        }
        let next = next.unwrap_or_else(|| "nothing matches".to_owned());
        self.finish(choice, &Tally::default(), &next)
    }

    fn finish(&mut self, choice: &Choice, tally: &Tally, last: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Text => {
                left_out(&mut self.line, &choice.left_out)?;
                for note in &choice.notes {
                    writeln!(self.line, "note: {note}")?;
                }
                writeln!(self.line, "{last}")?;
            }
            Format::Json => {
                let found = (!self.kills, choice.matched, choice.left_out);
                let (line, wall) = (&mut self.line, &mut self.wall);
                wire::kill::summary(line, wall, boot_time_ns(), found, *tally, &choice.notes)?;
            }
        }
        self.write()
    }

    /// A closed pipe ends nothing: what was asked for is done, though nobody reads of it.
    fn write(&mut self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(&self.line).and_then(|()| out.flush());
        self.line.clear();
        quietly(written).map(drop)
    }
}
