//! `cargo xtask tidy`: the project's own mechanical rules, printed as `file:line: message`.

mod files;
mod imports;
mod links;
mod source;

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace;
use files::File;

/// One thing to mend.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    line: usize,
    message: String,
    /// Said, but no reason to fail.
    only_warning: bool,
}

impl Finding {
    fn error(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into(), only_warning: false }
    }

    fn warning(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into(), only_warning: true }
    }
}

type Rule = fn(&File) -> Vec<Finding>;

/// Every rule looks at every file, and knows itself which ones it is about.
const RULES: [Rule; 6] = [
    imports::direction,
    imports::lab_stands_alone,
    source::module_doc,
    source::size,
    source::leftovers,
    links::resolve,
];

/// Applies all rules to the workspace.
pub fn run() -> Result<ExitCode> {
    let mut errors = 0;
    for file in files::all(&workspace::root())? {
        for finding in RULES.iter().flat_map(|rule| rule(&file)) {
            let kind = if finding.only_warning { "warning: " } else { "" };
            eprintln!("{}:{}: {kind}{}", file.path.display(), finding.line, finding.message);
            errors += usize::from(!finding.only_warning);
        }
    }
    if errors == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: tidy found {errors} thing{} to mend", if errors == 1 { "" } else { "s" });
    Ok(ExitCode::FAILURE)
}
