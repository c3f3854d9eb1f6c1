//! QEMU: the one on PATH, or Debian's, unpacked with the libraries it needs and never installed.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    advice::advice,
    setup::private_apt::{self, PrivateApt, configured},
    tools::{Tools, must, output_of},
};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
/// Where Debian keeps libraries, and the loader that finds them elsewhere.
const LIBRARIES: [&str; 3] =
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio"];
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";
/// Firmware, of which Debian keeps some in packages of its own.
const FIRMWARE: [&str; 3] = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"];

/// Where it looks for the parts that it loads when it needs them.
const MODULES: (&str, &str) = ("QEMU_MODULE_DIR", "usr/lib/x86_64-linux-gnu/qemu");

/// How QEMU is started here.
pub struct Qemu {
    words: Vec<OsString>,
    /// Where its modules are, if not where it was built for.
    modules: Option<PathBuf>,
}

impl Qemu {
    /// Finds it, or gets it into the folder.
    pub fn ensure(tools: &Tools, folder: &Path) -> Result<Self> {
        if let Some(program) = tools.find(PROGRAM) {
            return Ok(Self { words: vec![program.into()], modules: None });
        }
        let own = Self::unpacked(folder);
        if own.runs(tools).is_err() {
            let got = unpack(tools, folder).and_then(|()| own.runs(tools));
            let way = format!("apt-get install {PACKAGE}");
            got.map_err(|why| {
                advice(format!("there is no QEMU: {why:#}"), "kernels are booted in it", &[&way])
            })?;
        }
        Ok(own)
    }

    fn unpacked(folder: &Path) -> Self {
        let within = |parts: &[&str]| parts.iter().map(|part| folder.join(part)).collect::<Vec<_>>();
        let libraries =
            within(&LIBRARIES).iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(":");
        let mut words = vec![folder.join(LOADER).into(), "--library-path".into(), libraries.into()];
        words.push(folder.join("usr/bin").join(PROGRAM).into());
        for firmware in within(&FIRMWARE) {
            words.extend(["-L".into(), firmware.into()]);
        }
        Self { words, modules: Some(folder.join(MODULES.1)) }
    }

    /// The command, to which a machine's arguments are added.
    pub fn command(&self, tools: &Tools) -> Command {
        let mut command = tools.command(&self.words[0]);
        command.args(&self.words[1..]);
        command.envs(self.modules.iter().map(|folder| (MODULES.0, folder)));
        command
    }

    fn runs(&self, tools: &Tools) -> Result<()> {
        output_of(self.command(tools).arg("--version")).map(drop)
    }
}

fn unpack(tools: &Tools, folder: &Path) -> Result<()> {
    private_apt::demand(tools)?;
    let apt = PrivateApt::new(tools)?;
    let packages = download(tools, &apt)?;
    eprintln!("unpacking QEMU, {} packages, into {}", packages.len(), folder.display());
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    packages.iter().try_for_each(|package| must(tools.command("dpkg-deb").arg("-x").arg(package).arg(folder)))
}

fn download(tools: &Tools, apt: &PrivateApt<'_>) -> Result<Vec<PathBuf>> {
    let mirrors = private_apt::mirrors(tools)?;
    let mut complaint = "no suite is configured".to_owned();
    for suite in configured(tools, "$(RELEASE)")? {
        // A mirror without the suite is normal: another one has it.
        let _ = apt.read_lists(&suite, &mirrors);
        match apt.download_with_dependencies(&[PACKAGE]) {
            Ok(packages) => return Ok(packages),
            Err(error) => complaint = format!("{error:#}"),
        }
    }
    bail!("{PACKAGE} is not to be had: {complaint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_started_by_its_own_loader() {
        let qemu = Qemu::unpacked(Path::new("/q"));
        let words: Vec<_> = qemu.words.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words[..2], ["/q/lib64/ld-linux-x86-64.so.2", "--library-path"]);
        assert!(words[2].starts_with("/q/usr/lib/x86_64-linux-gnu:/q/lib/"), "{}", words[2]);
        assert_eq!(words[3], "/q/usr/bin/qemu-system-x86_64");
        assert!(qemu.runs(&Tools::new()).is_err(), "there is none");
    }
}
