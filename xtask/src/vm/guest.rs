//! The first process of a guest: mounts what a system has, loads the modules, runs the plan, tells how it went, ends the machine.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt as _, process::ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
        termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

use super::plan::{FILE, Message, PORT, Plan, Step};

/// What is mounted, and where.
const MOUNTS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("tracefs", "/sys/kernel/tracing"),
    ("securityfs", "/sys/kernel/security"),
    ("cgroup2", "/sys/fs/cgroup"),
];
/// Variables of every step.
const ENVIRONMENT: [(&str, &str); 3] =
    [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/root"), ("RUST_BACKTRACE", "1")];
/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h: the kernel unpacks it (5.17 on, where it is built so).
const COMPRESSED: i32 = 4;
/// How often it is looked whether a step has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Never returns in a guest: it ends with the machine.
pub fn run() -> Result<ExitCode> {
    ensure!(getpid() == Pid::from_raw(1), "only the first process of a guest does this");
    let done = work();
    if let Err(error) = &done {
        // Nobody but the console is left to be told.
        eprintln!("the guest cannot go on: {error:#}");
    }
    // With QEMU's -no-reboot this ends it; switching off would need ACPI.
    reboot(RebootMode::RB_AUTOBOOT).context("the machine does not end")?;
    Ok(ExitCode::FAILURE)
}

fn work() -> Result<()> {
    let mut notes = Vec::new();
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("cannot make {place}"))?;
        // A workspace in /tmp has its executables there.
        if kind == "tmpfs" && fs::read_dir(place).is_ok_and(|mut all| all.next().is_some()) {
            fs::set_permissions(place, fs::Permissions::from_mode(0o1777))?;
            continue;
        }
        let none: Option<&str> = None;
        if let Err(error) = mount(Some(kind), place, Some(kind), MsFlags::empty(), none) {
            notes.push(format!("{kind} is not mounted on {place}: {error}"));
        }
    }
    let host = Host::open()?;
    let plan = fs::read(FILE).with_context(|| format!("cannot read {FILE}"))?;
    let plan: Plan = serde_json::from_slice(&plan).with_context(|| format!("{FILE} is no plan"))?;
    for module in &plan.modules {
        if let Err(error) = load(module) {
            notes.push(format!("{} is not loaded: {error:#}", module.display()));
        }
    }
    if let Err(error) = run_quietly("ip", &["link", "set", "lo", "up"]) {
        notes.push(format!("loopback is down: {error:#}"));
    }
    host.say(&Message::Up { release: release(), lockdown: lockdown() });
    notes.into_iter().for_each(|text| host.say(&Message::Note { text }));
    for step in &plan.steps {
        perform(&host, step);
    }
    host.say(&Message::Done);
    host.drain();
    Ok(())
}

/// The serial port to the host. Several threads write whole lines.
#[derive(Clone)]
struct Host(Arc<Mutex<File>>);

impl Host {
    fn open() -> Result<Self> {
        let port = OpenOptions::new().read(true).write(true).open(PORT);
        let port = port.with_context(|| format!("cannot open {PORT}"))?;
        // As it is, the line would be edited.
        let mut settings = tcgetattr(port.as_fd())?;
        cfmakeraw(&mut settings);
        tcsetattr(port.as_fd(), SetArg::TCSANOW, &settings)?;
        Ok(Self(Arc::new(Mutex::new(port))))
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host takes silence for a failure, so what cannot be said need not be told to anyone here.
    fn say(&self, message: &Message) {
        if let Ok(line) = serde_json::to_string(message) {
            let _ = self.lock().write_all(format!("{line}\n").as_bytes());
        }
    }

    fn drain(&self) {
        let _ = tcdrain(self.lock().as_fd());
    }

    /// Passes on what a program prints, on a thread of its own.
    fn pass_on(&self, output: impl Read + Send + 'static, error: bool) -> thread::JoinHandle<()> {
        let host = self.clone();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while let Ok(1..) = output.read_until(b'\n', &mut line) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                host.say(&Message::Line { text, error });
                line.clear();
            }
        })
    }
}

fn load(module: &Path) -> Result<()> {
    let file = File::open(module)?;
    let compressed = module.extension().is_some_and(|end| end != "ko");
    let flags = if compressed {
        ModuleInitFlags::from_bits_retain(COMPRESSED as _)
    } else {
        ModuleInitFlags::empty()
    };
    Ok(finit_module(file, &CString::default(), flags)?)
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn lockdown() -> Option<String> {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").ok()?;
    Some(modes.split('[').nth(1)?.split(']').next()?.to_owned())
}

fn run_quietly(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(ENVIRONMENT);
    let out = command.output().with_context(|| format!("{program} does not start"))?;
    ensure!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(())
}

fn perform(host: &Host, step: &Step) {
    host.say(&Message::Began { step: step.name.clone() });
    let start = Instant::now();
    let code = execute(host, step).unwrap_or_else(|error| {
        host.say(&Message::Note { text: format!("{error:#}") });
        None
    });
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    host.say(&Message::Ended { step: step.name.clone(), code, took_ms });
}

fn execute(host: &Host, step: &Step) -> Result<Option<i32>> {
    let mut command = Command::new(&step.program);
    command.args(&step.arguments).env_clear().envs(ENVIRONMENT);
    command.envs(step.environment.iter().map(|(key, value)| (key, value))).current_dir(&step.folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{} does not start", step.program.display()))?;
    let mut readers = Vec::new();
    readers.extend(child.stdout.take().map(|output| host.pass_on(output, false)));
    readers.extend(child.stderr.take().map(|output| host.pass_on(output, true)));
    let status = wait(&child, Duration::from_secs(step.limit_s));
    if status.is_none() {
        host.say(&Message::Note { text: format!("{} took longer than {} s", step.name, step.limit_s) });
        end_all();
    }
    // Those that a program left behind hold its output open.
    let deadline = Instant::now() + Duration::from_secs(5);
    while readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < deadline {
        thread::sleep(LOOK);
    }
    end_all();
    Ok(status.and_then(|status| status.code()))
}

/// Waits for it; orphans, which are ours as well, are taken away meanwhile. `None`: it takes too long.
fn wait(child: &Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    let ours = Pid::from_raw(child.id().cast_signed());
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == ours => {
                return Some(ExitStatus::from_raw(code << 8));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == ours => {
                return Some(ExitStatus::from_raw(signal as i32));
            }
            Ok(WaitStatus::StillAlive) | Err(_) if Instant::now() >= deadline => return None,
            Ok(WaitStatus::StillAlive) | Err(_) => thread::sleep(LOOK),
            Ok(_) => {}
        }
    }
}

/// Every process but this one: nothing of a step is left when the next begins.
fn end_all() {
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while let Ok(status) = waitpid(None, None) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
