//! What the fuzz targets share: inputs to begin with, and how they are written.

pub mod recording;
pub mod replay;
pub mod ring;

use std::{env, fs, path::PathBuf};

/// Where a target shall write its first inputs, instead of making them up for itself.
const SEEDS: &str = "TCPTRACE_FUZZ_SEEDS";

/// Writes inputs to begin with, if that is wanted. To be called before the fuzzer reads its corpus.
///
/// # Panics
/// They cannot be written.
pub fn write_seeds(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = env::var_os(SEEDS).map(PathBuf::from) else { return };
    for (number, seed) in seeds().iter().enumerate() {
        let path = folder.join(format!("seed-{number:02}"));
        fs::write(&path, seed).unwrap_or_else(|why| panic!("cannot write {}: {why}", path.display()));
    }
}
