//! From the kernel's numbers to what people call things. Looks things up when a name is asked for, never for an event.

pub mod cgroup;
pub mod place;

pub use cgroup::Places;
pub use place::Place;
