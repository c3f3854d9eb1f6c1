//! Compiles the kernel programs and leaves the object at `$OUT_DIR/tcptrace-ebpf.o`, which the crate embeds: a
//! plain `cargo build` on stable Rust is the whole build. The bpf target has no prebuilt `core`, so an inner
//! cargo builds it; the unstable flag for that is unlocked for the inner cargo alone.
//!
//! `TCPTRACE_EBPF=<file>` embeds a ready-made object instead. `TCPTRACE_EBPF=skip` embeds none, for lints and
//! documentation on machines without the bpf tools; the program then says so when it is asked to trace.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What the object is made of, relative to the workspace.
const SOURCES: [&str; 4] = ["tcptrace-ebpf", "tcptrace-common", "Cargo.toml", "Cargo.lock"];
/// Where it was built is not to be seen (`cargo xtask dist`).
const REMAP: &str = "--remap-path-prefix=";
const HINT: &str = "to install it, type: cargo xtask setup";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let object = out.join("tcptrace-ebpf.o");
    let workspace = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    println!("cargo::rerun-if-env-changed=TCPTRACE_EBPF");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    match env::var("TCPTRACE_EBPF") {
        Err(_) => {
            require_tools()?;
            let built = inner_build(&workspace, &out)?;
            fs::copy(&built, &object).map_err(|e| format!("{}: {e}", built.display()))?;
        }
        Ok(skip) if skip == "skip" => fs::write(&object, [])?,
        Ok(file) => {
            println!("cargo::rerun-if-changed={file}");
            fs::copy(&file, &object).map_err(|e| format!("TCPTRACE_EBPF={file}: {e}"))?;
        }
    }
    Ok(())
}

/// Says what is missing before cargo says it less clearly.
fn require_tools() -> Result<(), Box<dyn Error>> {
    let sysroot = output(Command::new(variable("RUSTC")?).args(["--print", "sysroot"]))?;
    if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
        let version = output(Command::new(variable("RUSTC")?).arg("--version"))?;
        return Err(format!(
            "the kernel programs need the sources of `core` for {}, and they are not installed\n{HINT}",
            version.trim()
        )
        .into());
    }
    println!("cargo::rerun-if-env-changed=PATH");
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|folder| folder.join("bpf-linker").is_file()) {
        return Err(format!("bpf-linker, which links the kernel programs, is not on PATH\n{HINT}").into());
    }
    Ok(())
}

fn inner_build(workspace: &Path, out: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = match variable("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    // OUT_DIR is <target>/[triple/]<profile>/build/<package>/out: beside the profiles, one cache serves them all.
    let above = out.ancestors().nth(4).ok_or("OUT_DIR is not where cargo puts it")?;
    let of_triple = above.ends_with(variable("TARGET")?);
    let cache = above.parent().filter(|_| of_triple).unwrap_or(above).join("ebpf");
    let mut flags = vec![
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?),
        "-Cdebuginfo=2".into(), // line numbers in the verifier's messages
        "-Clink-arg=--btf".into(),
    ];
    // Of what the outer cargo was told about the host, only how paths are written holds for bpf.
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    let outer = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    flags.extend(outer.split('\x1f').filter(|flag| flag.starts_with(REMAP)).map(str::to_owned));
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--quiet", "--release", "--package", "tcptrace-ebpf", "--bins", "-Zbuild-std=core"])
        .args(["--target", target, "--target-dir"])
        .arg(&cache)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for outer in
        ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"]
    {
        cargo.env_remove(outer);
    }
    if env::var_os("CARGO_FEATURE_EBPF_LOG").is_some() {
        cargo.args(["--features", "log"]);
    }
    output(&mut cargo).map_err(|e| format!("the kernel programs did not compile\n{e}"))?;
    Ok(cache.join(target).join("release/tcptrace-ebpf"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}; this script is run by cargo"))
}

/// Runs it; its messages become warnings, or the error.
fn output(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let result = command.output().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    let messages = String::from_utf8_lossy(&result.stderr);
    if !result.status.success() {
        return Err(messages.into());
    }
    for line in messages.lines() {
        println!("cargo::warning={line}");
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}
