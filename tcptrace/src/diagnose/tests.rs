//! The rules, told what kernels answered (`tests/recordings`) and what no kernel can be made to answer on demand.

mod anything;
mod crowds;
mod documents;
mod events;
mod made;
mod record;
mod recording;
mod replay;
mod single;
