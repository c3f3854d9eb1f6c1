//! What a recording's frames mean: they are given to the same [`Core`] that a live run gives its inputs to.

use super::{
    frame::{FRAME, Frame, Place, RECORD},
    recorded::Recorded,
};
use crate::{
    decode::Decoder,
    run::{
        Next, Origin, Sink, Started,
        core::{Core, Input},
    },
    source::{filter::FilterSpec, holders::Holders},
    summary::{LostCounts, Summary},
};
use std::io;
use tcptrace_common::counters::Counters;
use zerocopy::IntoBytes;

/// Plays frames.
pub struct Player {
    started: Started,
    origin: Origin,
    filter: FilterSpec,
    core: Core,
    recorded: Recorded,
    decoder: Decoder,
    slept_ns: u64,
    /// Time of what was taken in last.
    now_ns: u64,
    counters: Counters,
    lost: LostCounts,
    /// What was counted before the first file that is there.
    base: Box<Counters>,
    lost_before: LostCounts,
    /// The beginning is not there; nothing after it was taken in yet.
    joins: bool,
    joined: bool,
    ended_ns: Option<u64>,
    /// The last counters were there.
    last: bool,
    unreadable: u64,
    aligned: Vec<u64>,
}

impl Player {
    /// Begins as the recording did. `filter`: only what it wants is taken in.
    pub fn new(started: Started, filter: FilterSpec) -> Self {
        Self {
            origin: Origin::recorded(&started),
            core: Core::new(&started),
            decoder: Decoder::new(&started.reset_reasons),
            now_ns: started.began_ns,
            recorded: Recorded::default(),
            slept_ns: 0,
            counters: Counters::ZERO,
            lost: LostCounts::default(),
            base: Box::new(Counters::ZERO),
            lost_before: LostCounts::default(),
            joins: false,
            joined: false,
            ended_ns: None,
            last: false,
            unreadable: 0,
            aligned: Vec::new(),
            started,
            filter,
        }
    }

    /// How the trace began.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Where and when it took place.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Time of what was taken in last, on the boot-time clock of the recording, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Frames that make no sense. Always 0, unless the file was written by something else.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Events are missing from here on, or up to here.
    pub fn gap(&mut self) {
        self.core.gap(self.now_ns);
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// The sink's.
    pub fn take(&mut self, kind: u8, payload: &[u8], sink: &mut impl Sink) -> io::Result<Next> {
        match kind {
            RECORD => self.record(payload, sink),
            FRAME => match Frame::decode(payload) {
                Ok(frame) => return self.frame(frame, sink),
                Err(error) => {
                    log::debug!("a frame cannot be read: {error}");
                    self.unreadable += 1;
                }
            },
            other => {
                log::debug!("frames of kind {other} are unknown");
                self.unreadable += 1;
            }
        }
        Ok(Next::Continue)
    }

    fn record(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        // In a file it lies anywhere; the decoder reads it where the kernel would have put it.
        let words = bytes.len().div_ceil(size_of::<u64>());
        if self.aligned.len() < words {
            self.aligned.resize(words, 0);
        }
        let copy = &mut self.aligned.as_mut_bytes()[..bytes.len()];
        copy.copy_from_slice(bytes);
        match self.decoder.decode(copy, self.slept_ns) {
            Ok(mut event) => {
                self.join(event.head().time_ns);
                self.moves_to(event.head().time_ns);
                if self.filter.admits(&mut event) {
                    sink.record(bytes, self.slept_ns);
                    self.core.event(&event);
                }
            }
            Err(error) => {
                log::debug!("a record cannot be decoded: {error}");
                self.unreadable += 1;
            }
        }
    }

    /// From here on everything is known, and not from where the trace began.
    fn join(&mut self, now_ns: u64) {
        if std::mem::take(&mut self.joins) {
            self.started.began_ns = now_ns;
            self.core.gap(now_ns);
        }
    }

    fn frame(&mut self, frame: Frame, sink: &mut impl Sink) -> io::Result<Next> {
        match frame {
            // The same at the head of each file.
            Frame::Started(_) => {}
            Frame::Joined { counters, lost } => {
                (self.base, self.lost_before) = (counters, lost);
                (self.joins, self.joined) = (true, true);
            }
            Frame::Slept(slept_ns) => self.slept_ns = slept_ns,
            Frame::Place(place) => self.learn(&place),
            Frame::Details(netns, details) => self.recorded.detailed(netns, &details),
            Frame::HandedOver => return self.core.hand_over(sink),
            Frame::Tick(now_ns) => {
                self.join(now_ns);
                self.moves_to(now_ns);
                return self.input(&Input::Tick { now_ns }, sink);
            }
            Frame::Ask { now_ns, most } => {
                return self.input(&Input::Ask { now_ns, most: most as usize }, sink);
            }
            Frame::Answers { now_ns, answers } => {
                return self.input(&Input::Answers { now_ns, answers: &answers }, sink);
            }
            Frame::Overdue(now_ns) => return self.input(&Input::Overdue { now_ns }, sink),
            Frame::Settings(settings) => return self.input(&Input::Settings(&settings), sink),
            // Views ask only inside of the call: what they may ask is there before.
            Frame::Looking(namespaces) => {
                self.recorded.looking(*namespaces);
                return self.input(&Input::Looking, sink);
            }
            Frame::Sights { taken, mut sights, holders } => {
                self.moves_to(taken.to_ns);
                sights.retain(|sight| self.filter.matches(sight));
                let holders = Holders::known(holders);
                return self.input(&Input::Sights { taken, sights: &sights, holders: &holders }, sink);
            }
            Frame::Unseen { covered, began_ns } => {
                return self.input(&Input::Unseen { covered: &covered, began_ns }, sink);
            }
            Frame::Looked { now_ns, round, around } => {
                self.recorded.looked(*around);
                self.moves_to(now_ns);
                return self.input(&Input::Looked { now_ns, round }, sink);
            }
            Frame::States(now_ns) => return self.input(&Input::States { now_ns }, sink),
            Frame::Counted { now_ns, counters, lost, last } => {
                return self.counted(now_ns, &counters, lost, last, sink);
            }
            Frame::End(now_ns) => {
                self.ended_ns = Some(now_ns);
                self.moves_to(now_ns);
                return self.input(&Input::End { now_ns }, sink);
            }
        }
        Ok(Next::Continue)
    }

    fn input(&mut self, input: &Input<'_>, sink: &mut impl Sink) -> io::Result<Next> {
        self.core.take(input, &mut self.recorded, sink)
    }

    fn moves_to(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// With a filter of its own, the kernel's matrix is about more than what is shown.
    fn counted(
        &mut self,
        now_ns: u64,
        counters: &Counters,
        lost: LostCounts,
        last: bool,
        sink: &mut impl Sink,
    ) -> io::Result<Next> {
        self.moves_to(now_ns);
        self.counters = counters.since(&self.base);
        self.lost = lost.since(&self.lost_before);
        let lost = self.lost;
        if self.is_own_count() {
            self.counters.matrix = self.core.folded();
        }
        self.last |= last;
        let input = Input::Counted { now_ns, counters: &self.counters, lost, last };
        self.core.take(&input, &mut self.recorded, sink)
    }

    /// The kernel's matrix is about more than what is shown: all that the filter holds back, or what it counted between the
    /// counters that are known of the time before the first file and the first record in it.
    fn is_own_count(&self) -> bool {
        self.joined || self.filter != FilterSpec::default()
    }

    fn learn(&self, place: &Place) {
        match place {
            Place::Cgroup { id, path } => self.origin.places.learn_cgroup(*id, path),
            Place::Process { process, path } => {
                self.origin.places.learn_process(process.clone(), path.as_deref());
            }
        }
    }

    /// There are no more frames. A recording that was cut off is brought to the end that it would have had, if the sink is
    /// still `open`.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self, open: bool, sink: &mut impl Sink) -> io::Result<Summary> {
        let ended = if open { self.bring_to_end(sink) } else { Ok(()) };
        if let Err(error) = ended
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error);
        }
        let calls = self.started.calls && !self.is_own_count();
        let ended_ns = self.ended_ns.unwrap_or(self.now_ns);
        let summary = self.core.summary(self.started.began_ns, ended_ns, calls);
        Ok(Summary { by_kernel: !self.is_own_count(), ..summary })
    }

    fn bring_to_end(&mut self, sink: &mut impl Sink) -> io::Result<()> {
        let now_ns = self.now_ns;
        self.core.hand_over(sink)?;
        if self.ended_ns.is_none() {
            self.input(&Input::End { now_ns }, sink)?;
            self.core.hand_over(sink)?;
        }
        if !self.last {
            // Every second they were written; what came after is known from the events.
            self.counters.matrix = self.core.at_least(&self.counters);
            let input = Input::Counted { now_ns, counters: &self.counters, lost: self.lost, last: true };
            self.core.take(&input, &mut self.recorded, sink)?;
        }
        sink.flush()
    }
}
