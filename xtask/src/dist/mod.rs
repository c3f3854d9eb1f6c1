//! `cargo xtask dist`: what is given to users: a static program, an archive of it, a .deb, an .rpm, and their checksums, in
//! `dist` of the target folder.

mod archive;
mod binary;
mod elf;
mod packages;
mod paths;
mod stage;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    setup,
    tools::{Tools, output_of},
    workspace,
};
use binary::Target;

/// Names the folder, for tests; without it they look into `dist` of cargo's target directory.
pub const FOLDER_VARIABLE: &str = "TCPTRACE_DIST";
/// That of every package of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Options of `cargo xtask dist`.
#[derive(Args)]
pub struct Options {
    /// Build for this target instead of the machine's: one that this machine can run
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Build sooner, for tests, into `dist-draft`: optimised less
    #[arg(long)]
    draft: bool,
}

/// Makes everything; one line for each file, with its size, is what is printed.
pub fn run(options: &Options) -> Result<ExitCode> {
    let tools = setup::ensure()?;
    let profile = if options.draft { Profile::Draft } else { Profile::Release };
    let folder = Dist::prepare(&tools, options.target.as_deref(), profile)?.make(&tools)?;
    for file in files(&folder)? {
        println!("{:>12} {}", fs::metadata(&file)?.len(), file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// How much time is taken to build.
#[derive(Clone, Copy)]
pub enum Profile {
    /// For users.
    Release,
    /// For tests.
    Draft,
}

impl Profile {
    /// As the workspace's Cargo.toml has it, and cargo its folder.
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Draft => "draft",
        }
    }

    /// Where what is made is put, inside of the target folder: tests must not leave a draft to be taken for a release.
    fn folder(self) -> &'static str {
        match self {
            Self::Release => "dist",
            Self::Draft => "dist-draft",
        }
    }
}

/// All that is needed, before anything is built.
pub struct Dist {
    profile: Profile,
    target_dir: PathBuf,
    target: Target,
    /// What packs the .rpm.
    rpm_packer: PathBuf,
}

impl Dist {
    /// Chooses what to build for, and gets what packs.
    pub fn prepare(tools: &Tools, target: Option<&str>, profile: Profile) -> Result<Self> {
        let target = Target::choose(&setup::targets(tools)?, target, tools)?;
        let target_dir = workspace::target_dir(tools)?;
        let rpm_packer = setup::ensure_rpm_packer(tools, &target_dir)?;
        Ok(Self { profile, target_dir, target, rpm_packer })
    }

    /// Builds and packs; where it is then.
    pub fn make(&self, tools: &Tools) -> Result<PathBuf> {
        let program = binary::build(tools, &self.target, self.profile, &self.target_dir)?;
        let time = time(tools)?;
        let stage = stage::Stage::fill(tools, &program, &time)?;

        let folder = self.target_dir.join(self.profile.folder());
        // Whoever takes all there is takes nothing of an earlier version.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::copy(&program, folder.join("tcptrace"))?;
        archive::tar(tools, &stage, &folder.join(self.target.archive()), &time)?;
        let pack = packages::Pack {
            tools,
            target: &self.target,
            profile: self.profile,
            folder: &folder,
            time: &time,
        };
        pack.deb(&stage)?;
        pack.rpm(&self.rpm_packer, &self.target_dir)?;
        archive::checksums(tools, &files(&folder)?, &folder)?;
        Ok(folder)
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

/// The time that everything is said to be made at, in seconds since 1970, so that the same sources give the same bytes: by the
/// convention of reproducible builds, or that of the commit.
fn time(tools: &Tools) -> Result<String> {
    if let Ok(time) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(time);
    }
    let mut git = tools.command("git");
    git.current_dir(workspace::root()).args(["log", "-1", "--format=%ct"]);
    let now = || output_of(tools.command("date").arg("+%s"));
    Ok(output_of(&mut git).or_else(|_| now())?.trim().to_owned())
}
