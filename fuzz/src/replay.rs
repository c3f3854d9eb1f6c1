//! A replay: any frames are played into both outputs, as `watch --from` does. An input is a list of frames: kind, length in two
//! bytes, payload. It begins with how the trace began, as every recording does.

use std::{io, path::Path};
use tcptrace::{
    flow::Entry,
    record::{
        file::{Item, Reader},
        frame::{FRAME, Frame},
        player::Player,
    },
    run::{Next, Reading, Sink, report::Resync},
    source::{filter::FilterSpec, surroundings::Surroundings},
    summary::LostCounts,
    view::{Lines, Palette},
    wall::Wall,
    wire,
};

/// Flows beyond these are given up: memory is not what an input may decide.
const MAX_FLOWS: usize = 1 << 16;
/// Frames that are longer are no input to begin with: a mutation every few bytes is what finds something.
const MAX_SEED: usize = 1 << 16;

/// Writes everything, and keeps nothing.
struct Out {
    text: Vec<u8>,
    lines: Lines,
    wall: Wall,
    owners: wire::Owners,
}

impl Sink for Out {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.text.clear();
        self.lines.entry(&mut self.text, &mut self.wall, entry)?;
        wire::entry(&mut self.text, &mut self.wall, &mut self.owners, entry)?;
        Ok(Next::Continue)
    }

    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.text.clear();
        Ok(wire::lost(&mut self.text, &mut self.wall, now_ns, lost)?)
    }

    fn counted(&mut self, reading: &Reading<'_>) -> io::Result<()> {
        let _ = reading.matrix();
        Ok(())
    }

    fn resynced(&mut self, now_ns: u64, resync: &Resync, _: &mut dyn Surroundings) -> io::Result<Next> {
        self.text.clear();
        wire::resync(&mut self.text, &mut self.wall, now_ns, resync)?;
        Ok(Next::Continue)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The next frame, and what follows it.
fn next(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = input.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_le_bytes([head[1], head[2]])).min(rest.len());
    let (payload, rest) = rest.split_at(length);
    Some((head[0], payload, rest))
}

/// Plays it.
pub fn run(input: &[u8]) {
    let Some((_, first, mut rest)) = next(input) else { return };
    let Ok(Frame::Started(mut started)) = Frame::decode(first) else { return };
    started.max_flows = started.max_flows.min(MAX_FLOWS);
    let mut player = Player::new(*started, FilterSpec::default());
    let owners = wire::Owners::new(player.origin().places.clone());
    let mut out = Out { text: Vec::new(), lines: Lines::new(Palette::default()), wall: Wall::new(0), owners };
    while let Some((kind, payload, more)) = next(rest) {
        if kind & 0x80 != 0 {
            player.gap();
        }
        player.take(kind & 0x7f, payload, &mut out).expect("memory takes anything");
        rest = more;
    }
    player.finish(true, &mut out).expect("memory takes anything");
}

/// The recordings of the tests, their frames one after the other.
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tcptrace/tests/recordings/lab");
    let files = std::fs::read_dir(&folder).expect("the recordings of the tests are there");
    let mut paths: Vec<_> = files.map(|file| file.expect("it can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "tct"));
    paths.sort();
    paths.iter().map(|path| frames(path)).filter(|seed| !seed.is_empty()).collect()
}

fn frames(path: &Path) -> Vec<u8> {
    let mut reader = Reader::open(path).expect("it is a recording");
    let mut seed = Vec::new();
    while let Some(item) = reader.next().expect("it can be read") {
        let Item::Frame(frame) = item else { continue };
        let Ok(length) = u16::try_from(frame.payload.len()) else { continue };
        if seed.len() + frame.payload.len() > MAX_SEED {
            break;
        }
        debug_assert!(!seed.is_empty() || frame.kind == FRAME);
        seed.push(frame.kind);
        seed.extend(length.to_le_bytes());
        seed.extend_from_slice(frame.payload);
    }
    seed
}
