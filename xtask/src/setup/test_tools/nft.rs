//! nft, which a machine may have without its firewall being used: that of this machine, or of its distribution.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::link;
use crate::{setup::apt, tools::Tools};

/// Where it is, which is not on everybody's PATH.
const USUALLY: &str = "/usr/sbin/nft";

/// Makes `bin/nft`.
pub fn install(tools: &Tools, folder: &Path) -> Result<()> {
    let there = || tools.find("nft").or_else(|| Some(PathBuf::from(USUALLY)).filter(|file| file.is_file()));
    if there().is_none() {
        apt::install(tools, "nftables")?;
    }
    link(&there().with_context(|| format!("there is none on PATH, and no {USUALLY}"))?, folder, "nft")
}
