//! What a guest's root file system is made of: programs of this machine with the libraries they need, and ours without their
//! debug information.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{archive::Archive, plan};
use crate::{
    advice::advice,
    tools::{Tools, must, output_of},
};

/// Programs that tests start, and where they come from.
const PROGRAMS: [(&str, &str); 10] = [
    ("ss", "iproute2"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("sh", "dash"),
    ("bash", "bash"),
    ("cat", "coreutils"),
    ("sleep", "coreutils"),
    ("true", "coreutils"),
    ("install", "coreutils"),
    ("setpriv", "util-linux"),
];
/// Who the users are, for programs that ask.
const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUPS: &str = "root:x:0:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost\n";

/// Makes file systems; what is the same in all of them is looked up once.
pub struct Maker<'a> {
    tools: &'a Tools,
    /// Where stripped copies are kept.
    folder: PathBuf,
    base: Vec<PathBuf>,
    /// Ourselves, who are a guest's first process. Taken at the beginning: while guests run we may be built anew.
    init: PathBuf,
}

impl<'a> Maker<'a> {
    /// Finds the programs that tests start.
    pub fn new(tools: &'a Tools, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let find = |(name, package): &(&str, &str)| {
            let why = "tests start it in the guest";
            let way = format!("apt-get install {package}");
            tools.find(name).ok_or_else(|| advice(format!("{name} is missing"), why, &[&way]))
        };
        let base: Result<Vec<_>> = PROGRAMS.iter().map(find).collect();
        let own = std::env::current_exe().context("cannot find our own executable")?;
        let mut maker = Self { tools, folder: folder.to_path_buf(), base: base?, init: PathBuf::new() };
        maker.init = maker.stripped(&own)?;
        Ok(maker)
    }

    /// Writes a file system: the plan with its modules, and our own executables, each where it is on this machine, because
    /// tests know each other by their paths.
    pub fn write(&self, plan: &plan::Plan, modules: &[PathBuf], own: &[PathBuf], file: &Path) -> Result<()> {
        let mut archive = Archive::default();
        for folder in ["/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/usr/bin", "/etc"] {
            archive.folder(folder);
        }
        archive.bytes("/etc/passwd", USERS);
        archive.bytes("/etc/group", GROUPS);
        archive.bytes("/etc/hosts", HOSTS);
        archive.bytes(plan::FILE, serde_json::to_vec_pretty(plan)?);
        for (place, module) in plan.modules.iter().zip(modules) {
            archive.file(place, module);
        }
        for step in &plan.steps {
            archive.folder(&step.folder);
        }
        for program in &self.base {
            let place = Path::new("/usr/bin").join(program.file_name().unwrap_or_default());
            archive.file(place, program);
            self.libraries(&mut archive, program)?;
        }
        archive.link("/bin/sh", "/usr/bin/sh");
        for executable in own {
            archive.file(executable, self.stripped(executable)?);
            self.libraries(&mut archive, executable)?;
        }
        archive.file("/init", &self.init);
        self.libraries(&mut archive, &self.init)?;
        archive.save(file)
    }

    fn libraries(&self, archive: &mut Archive, program: &Path) -> Result<()> {
        let Ok(said) = output_of(self.tools.command("ldd").arg(program)) else {
            // Statically linked.
            return Ok(());
        };
        for library in libraries(&said) {
            if !archive.has(&library) {
                archive.file(&library, &library);
            }
        }
        Ok(())
    }

    /// A copy without debug information, which is nine tenths of it; made anew when the original is newer.
    fn stripped(&self, executable: &Path) -> Result<PathBuf> {
        let copy = self.folder.join(executable.file_name().unwrap_or_default());
        let made = |file: &Path| file.metadata().and_then(|it| it.modified());
        if let (Ok(kept), Ok(built)) = (made(&copy), made(executable))
            && kept > built
        {
            return Ok(copy);
        }
        must(self.tools.command("strip").arg("-o").arg(&copy).arg(executable))?;
        Ok(copy)
    }
}

/// The files that `ldd` names: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader itself.
fn libraries(said: &str) -> Vec<PathBuf> {
    let file = |line: &str| {
        let path = line.split("=>").last()?.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    said.lines().filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_libraries_and_the_loader() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n\tstatically linked\n";
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(said), expected);
    }
}
