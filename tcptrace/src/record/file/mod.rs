//! The file of a recording: frames in, the same frames out, whatever happened to the disk or to the process in between.
//! What the frames mean is not its business. The layout is docs/recording.md.

mod block;
mod disk;
mod error;
mod frames;
mod layout;
#[doc(hidden)]
pub mod mend;
mod names;
mod place;
mod queue;
mod reader;
mod scan;
mod thread;
mod window;
mod writer;

pub use disk::{KEEP, Limits};
pub use error::{CreateError, FinishError, ReadError, Refused, Stopped, Why};
pub use frames::{Gap, Preamble};
pub use layout::{FORMAT, Header};
pub use reader::{Ending, Fault, Frame, Item, Progress, Reader};
pub use writer::{Options, State, Summary, Writer};

/// Bytes of frames in a block before it is closed.
pub const BLOCK: usize = 256 << 10;
/// The longest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 1 << 20;
/// The most that a [`Preamble`] holds, in bytes.
pub const MAX_PREAMBLE: usize = 1 << 20;
/// Kinds from here on are the file's own.
pub const FIRST_RESERVED_KIND: u8 = 240;
/// What may wait for the disk, in bytes before compression. Frames beyond it are dropped and counted.
pub const MAX_QUEUED: usize = 64 << 20;
/// The least that a file of a recording may be limited to, in bytes: its preamble and any block fit.
pub const LEAST_FILE: u64 = 4 << 20;
/// How long a frame waits in memory, if [`Writer::flush_if_due`] is called often enough: so much is lost with `kill -9`.
pub const FLUSH_EVERY_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests;
