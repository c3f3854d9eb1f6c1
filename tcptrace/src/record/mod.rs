//! Recordings: what a run took in, kept so that every view can be had again, without root and on any machine.

pub mod file;
pub mod frame;
pub mod playback;
pub mod player;
pub mod recorded;
pub mod recorder;
pub mod tape;
