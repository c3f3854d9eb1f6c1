//! One entry as one line: time, both ends, whose it is, what happened.

use super::{Bytes, Duration, Palette, carrier, errno};
use crate::{
    event::{Carrier, Direction, Flags, Reason, Reset, Retransmit, Segment, TcpState},
    flow::{Closed, Entry, Known, Role, Seen, Span, What, Who, cause::Cause},
    sight::Kind,
    wall::Wall,
};
use anstyle::Style;
use std::{
    fmt::Write as _,
    io::{self, Write},
    net::SocketAddr,
};

/// Writes entries as aligned lines. Columns only grow, so that what stands on the screen stays aligned.
#[derive(Debug)]
pub struct Lines {
    palette: Palette,
    ends_width: usize,
    owner_width: usize,
    ends: String,
    owner: String,
    text: String,
}

/// Room for two IPv4 addresses with ports, and for a usual command with its pid.
const ENDS_WIDTH: usize = 43;
const OWNER_WIDTH: usize = 18;
/// Room for the longest name of a state.
const STATE_WIDTH: usize = 11;
/// "At least" next to nothing says nothing.
const LEAST_BOUND_NS: u64 = 1_000_000;
/// Columns stop growing here: a long line is better than a table nobody can read.
const MAX_ENDS_WIDTH: usize = 96;

impl Lines {
    /// Lines in these styles.
    pub fn new(palette: Palette) -> Self {
        Self {
            palette,
            ends_width: ENDS_WIDTH,
            owner_width: OWNER_WIDTH,
            ends: String::new(),
            owner: String::new(),
            text: String::new(),
        }
    }

    /// The names of the columns.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn header(&self, out: &mut impl Write) -> io::Result<()> {
        let strong = self.palette.strong;
        let (ends, owner) = (self.ends_width, self.owner_width);
        writeln!(
            out,
            "{strong}{:<12} {:<ends$} {:<owner$} EVENT{strong:#}",
            "TIME", "LOCAL -> REMOTE", "OWNER"
        )
    }

    /// One entry.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn entry(&mut self, out: &mut impl Write, wall: &mut Wall, entry: &Entry) -> io::Result<()> {
        self.ends.clear();
        ends(&mut self.ends, &entry.who);
        self.owner.clear();
        owner(&mut self.owner, &entry.who);
        self.ends_width = self.ends_width.max(self.ends.len().min(MAX_ENDS_WIDTH));
        self.owner_width = self.owner_width.max(self.owner.len());
        let style = self.describe(entry);
        styled(out, self.palette.dim, wall.clock(entry.time_ns))?;
        out.write_all(b" ")?;
        column(out, &self.ends, self.ends_width)?;
        column(out, &self.owner, self.owner_width)?;
        styled(out, style, &self.text)?;
        out.write_all(b"\n")
    }

    /// Time and event only: where it is plain whose they are.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn event(&mut self, out: &mut impl Write, wall: &mut Wall, entry: &Entry) -> io::Result<()> {
        let style = self.describe(entry);
        styled(out, self.palette.dim, wall.clock(entry.time_ns))?;
        out.write_all(b" ")?;
        styled(out, style, &self.text)?;
        out.write_all(b"\n")
    }

    /// Makes the text of what happened, and gives its style.
    fn describe(&mut self, entry: &Entry) -> Style {
        self.text.clear();
        // Writing to a String cannot fail.
        match &entry.what {
            What::Transition { old, new, in_state, by: _, known } => {
                self.transition(*old, *new, *in_state, *known)
            }
            What::Retransmit(event) => self.retransmit(event),
            What::Reset(event) => self.reset(event),
            What::Close(closed) => self.close(closed),
            What::Sight(seen) => self.sight(seen),
            What::State { state, in_state, left_ns, .. } => self.state(*state, *in_state, *left_ns),
        }
    }

    /// The text is ASCII so far.
    fn fill_up_to(&mut self, width: usize) {
        while self.text.len() < width {
            self.text.push(' ');
        }
    }

    fn transition(&mut self, old: TcpState, new: TcpState, in_state: Option<Span>, known: Known) -> Style {
        self.text.push_str(old.name());
        self.fill_up_to(STATE_WIDTH);
        self.text.push_str(" -> ");
        self.text.push_str(new.name());
        self.fill_up_to(STATE_WIDTH + 4 + STATE_WIDTH);
        if old == new {
            self.text.push_str(if known == Known::Event {
                "  (descriptor closed)"
            } else {
                "  goes on without its program"
            });
        } else if let Some(span) =
            in_state.filter(|span| old != TcpState::Close && (span.exact || span.ns >= LEAST_BOUND_NS))
        {
            self.text.push_str(if span.exact { "  after " } else { "  after at least " });
            let _ = write!(self.text, "{}", Duration(span.ns));
        }
        self.text.truncate(self.text.trim_end().len());
        self.text.push_str(match known {
            Known::Event => "",
            Known::Probe => "  (probe: no event tells)",
            Known::Seen => "  (seen: no event tells)",
            Known::Rule => "  (inferred)",
            Known::Peer => "  (inferred: the other end's FIN was acknowledged)",
            Known::Timer => "  (inferred: its time is over)",
            Known::Reuse => "  (inferred: a new connection has its ports)",
        });
        match new {
            TcpState::Established | TcpState::Listen => self.palette.good,
            _ => Style::new(),
        }
    }

    fn sight(&mut self, seen: &Seen) -> Style {
        self.state(seen.sight.state, seen.age, None);
        self.text.push_str(" (was there already)");
        if let Some(timer) = seen.sight.timer {
            let left = Duration(u64::from(timer.expires_ms) * 1_000_000);
            let _ = write!(self.text, " | {} timer in {left}", timer.kind.name());
            if timer.retransmits > 0 {
                let _ = write!(self.text, ", try {}", timer.retransmits);
            }
        }
        let full = seen.sight.kind == Kind::Full && seen.sight.state != TcpState::Listen;
        for (bytes, what) in [(seen.sight.receive_queue, "unread"), (seen.sight.send_queue, "unacknowledged")]
        {
            if full && bytes > 0 {
                let _ = write!(self.text, " | {} {what}", Bytes(u64::from(bytes)));
            }
        }
        self.palette.dim
    }

    fn state(&mut self, state: TcpState, in_state: Option<Span>, left_ns: Option<u64>) -> Style {
        self.text.push_str(state.name());
        if let Some(span) = in_state.filter(|span| span.exact || span.ns >= LEAST_BOUND_NS) {
            let bound = if span.exact { "for" } else { "for at least" };
            let _ = write!(self.text, " {bound} {}", Duration(span.ns));
        }
        if let Some(ns) = left_ns {
            let _ = write!(self.text, ", {} left", Duration(ns));
        }
        Style::new()
    }

    fn retransmit(&mut self, event: &Retransmit) -> Style {
        let failed = event.err.filter(|err| *err != 0);
        let _ = match failed {
            Some(err) => write!(
                self.text,
                "retransmit of {} FAILED: {}",
                segment(event.segment),
                errno(err.unsigned_abs() as u16)
            ),
            None => write!(self.text, "retransmit {}", segment(event.segment)),
        };
        if event.segments > 1 {
            let _ = write!(self.text, " x{}", event.segments);
        }
        if event.reason != Reason::Unknown {
            let _ = write!(self.text, " by {}", event.reason.name());
        }
        if let Some(state) = event.state {
            let _ = write!(self.text, " in {}", state.name());
        }
        if event.stalled > 0 {
            let _ = write!(self.text, ", try {}", event.stalled);
        }
        if let Some((seq, end)) = event.sequence.filter(|_| event.segment == Segment::Data) {
            let _ = write!(self.text, ", {} at seq {seq}", Bytes(u64::from(end.wrapping_sub(seq))));
        }
        if failed.is_some() { self.palette.bad } else { self.palette.warn }
    }

    fn reset(&mut self, event: &Reset) -> Style {
        let _ = write!(self.text, "RST {}", event.direction.name());
        if let Some(state) = event.state.filter(|_| event.carrier == Carrier::Full) {
            let _ = write!(self.text, " in {}", state.name());
        } else if event.carrier == Carrier::None {
            self.text.push_str(", no socket");
        } else if event.carrier != Carrier::Full {
            let _ = write!(self.text, " by a {} socket", carrier(event.carrier));
        }
        if let Some(reason) = &event.reason {
            let _ = write!(self.text, ": {reason}");
        }
        if let Some(flags) = event.answers.filter(|_| event.direction == Direction::Sent) {
            let _ = write!(self.text, " (answers {})", Flags(flags));
        }
        self.palette.bad
    }

    fn close(&mut self, closed: &Closed) -> Style {
        let cause = closed.verdict.cause;
        let _ = write!(self.text, "closed: {}", cause.sentence());
        if cause == Cause::Unknown
            && let Some(err) = closed.err.filter(|err| *err != 0)
        {
            let _ = write!(self.text, " ({})", errno(err));
        }
        if let Some(state) = closed.verdict.continues_as {
            let _ = write!(self.text, "; goes on in {}", state.name());
        }
        if let Some(ns) = closed.duration_ns {
            let _ = write!(self.text, " | lived {}", Duration(ns));
        }
        if let Some(numbers) = &closed.numbers {
            let _ = write!(
                self.text,
                " | sent {} received {}",
                Bytes(numbers.bytes_sent),
                Bytes(numbers.bytes_received)
            );
            if numbers.srtt_us > 0 {
                let _ = write!(self.text, " | rtt {}", Duration(u64::from(numbers.srtt_us) * 1000));
            }
            if numbers.total_retrans > 0 {
                let _ = write!(self.text, " | {} retransmitted", numbers.total_retrans);
            }
            for (bytes, what) in [(numbers.unread, "unread"), (numbers.unsent, "never sent")] {
                if bytes > 0 {
                    let _ = write!(self.text, " | {} {what}", Bytes(u64::from(bytes)));
                }
            }
        }
        if let Some(closer) = &closed.closed_by {
            let _ = write!(self.text, " | closed by {}/{}", closer.process.comm, closer.process.pid);
        }
        match cause {
            Cause::Orderly | Cause::ListenerClosed | Cause::FinWait2Minisocket => self.palette.strong,
            _ => self.palette.bad,
        }
    }
}

fn segment(segment: Segment) -> &'static str {
    match segment {
        Segment::Syn => "SYN",
        Segment::SynAck => "SYN-ACK",
        Segment::Fin => "FIN",
        Segment::Data => "data",
        Segment::Unknown => "segment",
    }
}

/// Most styles are plain, and a line is made of pieces a million times a second: formatting is for what needs it.
fn styled(out: &mut impl Write, style: Style, text: &str) -> io::Result<()> {
    if style.is_plain() {
        return out.write_all(text.as_bytes());
    }
    write!(out, "{style}{text}{style:#}")
}

/// The text, filled up to so many characters, and a space.
fn column(out: &mut impl Write, text: &str, width: usize) -> io::Result<()> {
    const SPACES: [u8; 128] = [b' '; 128];
    out.write_all(text.as_bytes())?;
    let mut missing = width.saturating_sub(text.chars().count()) + 1;
    while missing > 0 {
        let some = missing.min(SPACES.len());
        out.write_all(&SPACES[..some])?;
        missing -= some;
    }
    Ok(())
}

fn ends(text: &mut String, who: &Who) {
    end(text, who.ends.local());
    if who.role == Role::Listen {
        text.push_str(" (listening)");
    } else {
        text.push_str(" -> ");
        end(text, who.ends.remote());
    }
}

/// As it is displayed.
fn end(text: &mut String, end: SocketAddr) {
    let SocketAddr::V4(end) = end else {
        let _ = write!(text, "{end}");
        return;
    };
    let [a, b, c, d] = end.ip().octets();
    for (octet, after) in [(a, '.'), (b, '.'), (c, '.'), (d, ':')] {
        number(text, octet);
        text.push(after);
    }
    number(text, end.port());
}

fn number(text: &mut String, number: impl itoa::Integer) {
    text.push_str(itoa::Buffer::new().format(number));
}

fn owner(text: &mut String, who: &Who) {
    use crate::flow::owner::Source;
    let Some(owner) = &who.owner else {
        text.push('-');
        return;
    };
    text.push_str(&owner.process.comm);
    text.push('/');
    number(text, owner.process.pid);
    // A guess is marked as one.
    if owner.source == Source::Listener {
        text.push('?');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_as_they_are_displayed() {
        for shown in ["10.0.0.1:80", "255.255.255.255:65535", "0.0.0.0:0", "[fd00::1]:443", "[::]:0"] {
            let mut text = String::new();
            end(&mut text, shown.parse().unwrap());
            assert_eq!(text, shown);
        }
    }

    #[test]
    fn columns_are_filled_up_to_characters() {
        for (text, width) in [("", 3), ("ab", 3), ("abcd", 3), ("\u{e4}b", 4), ("x", 300)] {
            let mut out = Vec::new();
            column(&mut out, text, width).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("{text:<width$} "));
        }
    }
}
