//! Pushing to receivers that answer as the protocol says, slowly, wrongly, or not at all.

mod pushes;
mod receiver;
mod said;
