//! DuckDB, as the module of a Python: of the machine's own if it has it, or in an environment of the project's. `bin/duckdb-python`
//! starts the Python that can import it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    setup::apt,
    tools::{Tools, output_of},
};

/// Any of these reads what we write; pip takes the newest that this Python can have.
const PACKAGE: &str = "duckdb>=1.1,<3";
const IMPORT: [&str; 2] = ["-c", "import duckdb"];

/// Makes `bin/duckdb-python`.
pub fn install(tools: &Tools, folder: &Path) -> Result<()> {
    if tools.find("python3").is_none() {
        apt::install(tools, "python3-venv")?;
    }
    let of_machine = tools.find("python3").context("python3 is missing")?;
    if output_of(tools.command(&of_machine).args(IMPORT)).is_ok() {
        return shim(&of_machine, folder);
    }
    let environment = folder.join("duckdb");
    let make = || {
        let words = ["-m", "venv", "--clear"];
        output_of(tools.command(&of_machine).args(words).arg(&environment))
    };
    // Debian has the part that makes environments in a package of its own.
    make().or_else(|_| apt::install(tools, "python3-venv").and_then(|()| make()))?;
    let python = environment.join("bin/python3");
    let mut pip = tools.command(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    // Never compiled here: that would take an hour. Without a network it is to give up soon.
    pip.args(["--only-binary", ":all:", "--retries", "2", "--timeout", "30", PACKAGE]);
    output_of(&mut pip)?;
    output_of(tools.command(&python).args(IMPORT))?;
    shim(&python, folder)
}

/// No link: a Python that is started by one would not find its modules.
fn shim(python: &Path, folder: &Path) -> Result<()> {
    let file = folder.join("bin/duckdb-python");
    let write = || {
        // By a pyenv's or another manager's own means the Python may be a script: it is started by its path as it is.
        let python = python.display().to_string().replace('\'', r"'\''");
        fs::write(&file, format!("#!/bin/sh\nexec '{python}' \"$@\"\n"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
    };
    write().with_context(|| format!("cannot make {}", file.display()))
}
