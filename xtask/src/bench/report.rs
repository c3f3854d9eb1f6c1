//! What every benchmark does around its measurement: builds tcptrace as the user, measures as root, writes a page.

use std::{
    env, fs,
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::machine;
use crate::{advice::advice, root, run, setup, tools::Tools, workspace};

/// Options of every benchmark.
#[derive(Args)]
pub struct Common {
    /// Print the page, and leave the one in docs/ as it is
    #[arg(long)]
    no_write: bool,
    /// Measure this tcptrace instead of building one, and only print the page
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// What the program was built from: said by the user's xtask to the one it starts as root
    #[arg(long, hide = true, requires = "program")]
    commit: Option<String>,
}

/// A benchmark and its page.
pub struct Report {
    /// What to type after `cargo xtask`.
    pub task: &'static [&'static str],
    /// Where the page is.
    pub page: &'static str,
    /// What it needs root for, if it does.
    pub why_root: Option<&'static str>,
    /// How long and how much: what makes another page like this.
    pub arguments: Vec<String>,
}

/// What is measured.
pub struct Subject {
    /// To start programs with.
    pub tools: Tools,
    /// tcptrace.
    pub program: PathBuf,
    /// What it was built from.
    pub commit: String,
}

impl Report {
    /// What to type for another page like this.
    pub fn command(&self) -> String {
        format!("cargo xtask {} {}", self.task.join(" "), self.arguments.join(" "))
    }

    /// `measure` gives the page, and what tcptrace got wrong, in words: such a page is not written.
    pub fn run(
        &self,
        options: &Common,
        measure: impl FnOnce(&Subject) -> Result<(String, Vec<String>)>,
    ) -> Result<ExitCode> {
        let subject = Subject::find(options)?;
        let (page, wrong) = match self.why_root {
            Some(why) if !root::is_root() => (self.as_root(&subject, options, why)?, Vec::new()),
            _ => measure(&subject)?,
        };
        if !wrong.is_empty() {
            print!("{page}");
            for what in &wrong {
                eprintln!("error: {what}");
            }
            eprintln!(
                "error: what tcptrace says is not what is there, so these figures are worth nothing; {} stays as it is",
                self.page
            );
            return Ok(ExitCode::FAILURE);
        }
        if options.no_write || options.program.is_some() {
            print!("{page}");
        } else {
            let file = workspace::root().join(self.page);
            fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("wrote {}", self.page);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The whole measurement again, by an xtask that is root. It gives us the page, so that the file becomes ours.
    fn as_root(&self, subject: &Subject, options: &Common, why: &str) -> Result<String> {
        let Subject { tools, program, commit } = subject;
        let what = format!("cargo xtask {} needs root", self.task.join(" "));
        // With --commit, sudo has just given us somebody who is not root.
        let Some(sudo) = tools.find("sudo").filter(|_| options.commit.is_none()) else {
            return Err(advice(what, why, &[&format!("{}, as root", self.command())]));
        };
        let mut command = tools.command(sudo);
        command.arg("--").arg(env::current_exe().context("xtask does not find itself")?);
        command.args(self.task).args(["--no-write", "--commit", commit]).arg("--program").arg(program);
        command.args(&self.arguments).stderr(Stdio::inherit()).stdin(Stdio::inherit());
        let done = command.output().context("sudo does not start")?;
        let page = String::from_utf8_lossy(&done.stdout).into_owned();
        if !done.status.success() {
            print!("{page}");
            let why = "the measurement, which runs as root, failed: it said why above";
            let what = format!("{} stays as it is", self.page);
            return Err(advice(what, why, &["mend that, then the same again"]));
        }
        Ok(page)
    }
}

impl Subject {
    fn find(options: &Common) -> Result<Self> {
        if let Some(program) = &options.program {
            let commit = options.commit.clone().unwrap_or_else(|| "given as a file".to_owned());
            return Ok(Self { tools: Tools::new(), program: program.clone(), commit });
        }
        let tools = setup::ensure()?;
        let program = run::build(&tools)?;
        let commit = machine::commit(&tools);
        Ok(Self { tools, program, commit })
    }
}
