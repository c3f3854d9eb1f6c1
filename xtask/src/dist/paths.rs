//! Where it was built must not change a byte of it, and is nobody's business: what paths in the program begin with instead.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{setup, tools::Tools, workspace};

/// The project's folder, in the program.
const WORKSPACE: &str = "/tcptrace";
/// Cargo's target folder, where build scripts write sources.
const TARGET: &str = "/tcptrace/target";
/// Cargo's own folder, where it unpacks dependencies.
const CARGO: &str = "/cargo";
/// The toolchain's, with the sources of the standard library.
const TOOLCHAIN: &str = "/rust";

/// What rustc is told about them.
pub fn flags(tools: &Tools, target_dir: &Path) -> Result<Vec<String>> {
    let mut folders = vec![
        (workspace::root(), WORKSPACE),
        (target_dir.to_path_buf(), TARGET),
        (setup::toolchain(tools)?, TOOLCHAIN),
    ];
    // As cargo finds it.
    let of_home = || env::home_dir().map(|home| home.join(".cargo"));
    let cargo = env::var_os("CARGO_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    folders.extend(cargo.or_else(of_home).map(|folder| (folder, CARGO)));
    Ok(remaps(folders))
}

/// The last one that fits counts: of folders inside each other the inner one.
fn remaps(mut folders: Vec<(PathBuf, &str)>) -> Vec<String> {
    folders.sort_by_key(|(folder, _)| folder.components().count());
    folders.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_of_two_folders_comes_last() {
        let folders = vec![("/home/a/b/.cargo".into(), CARGO), ("/home/a/b".into(), WORKSPACE)];
        let expected = ["/home/a/b=/tcptrace", "/home/a/b/.cargo=/cargo"];
        assert_eq!(remaps(folders), expected.map(|pair| format!("--remap-path-prefix={pair}")));
    }
}
