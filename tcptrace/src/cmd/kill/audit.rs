//! Who ended which socket, for later: every result to syslog, and with `--audit` to a file, where the intention is
//! recorded before anything is done.

use crate::{
    kill::{Outcome, Target},
    source::live::boot_time_ns,
    wall::Wall,
    wire,
};
use serde_json::{Value, json};
use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{fs::OpenOptionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the system's log listens, whichever it is.
const SYSLOG: &str = "/dev/log";
/// LOG_AUTHPRIV, LOG_NOTICE.
const PRIORITY: u8 = 10 << 3 | 5;
/// A log that takes longer than this does not hear of it.
const SYSLOG_PATIENCE: Duration = Duration::from_secs(1);
/// A command line is recorded up to here: a datagram of syslog has its limits.
const COMMAND_LENGTH: usize = 1000;

/// What is recorded, and where.
pub struct Audit {
    by: Value,
    file: Option<Record>,
    syslog: Result<UnixDatagram, String>,
    line: Vec<u8>,
}

/// A file that only grows.
struct Record {
    path: PathBuf,
    file: File,
    /// The disk became full in the middle of a line.
    torn: bool,
}

impl Audit {
    /// Opens the file, and the system's log.
    ///
    /// # Errors
    /// If the file cannot be opened. That there is no log is no error: [`Audit::without_syslog`] tells.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let file = path.map(Record::open).transpose()?;
        Ok(Self { by: by(), file, syslog: connect(Path::new(SYSLOG)), line: Vec::new() })
    }

    /// Why the system's log hears nothing.
    pub fn without_syslog(&self) -> Option<&str> {
        self.syslog.as_ref().err().map(String::as_str)
    }

    /// Records in the file that all of these will be tried, and waits until that is on the disk.
    ///
    /// # Errors
    /// What cannot be recorded must not be done.
    pub fn intend(&mut self, wall: &mut Wall, targets: &[Target]) -> anyhow::Result<()> {
        let Some(record) = &mut self.file else { return Ok(()) };
        self.line.clear();
        for target in targets {
            wire::kill::audit(&mut self.line, wall, boot_time_ns(), &self.by, target, None)?;
        }
        record.append(&self.line)?;
        record.settle()
    }

    /// Records what came of one. The system's log may fail: it is told, once.
    ///
    /// # Errors
    /// The file's.
    pub fn result(&mut self, wall: &mut Wall, target: &Target, outcome: &Outcome) -> anyhow::Result<()> {
        self.line.clear();
        wire::kill::audit(&mut self.line, wall, boot_time_ns(), &self.by, target, Some(outcome))?;
        if let Ok(socket) = &self.syslog
            && let Err(error) = send(socket, wall, &self.line)
        {
            crate::tell!("syslog ({SYSLOG}) does not hear of it: {error}");
            self.syslog = Err(error.to_string());
        }
        match &mut self.file {
            Some(record) => record.append(&self.line),
            None => Ok(()),
        }
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// The file's.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.file.as_mut().map_or(Ok(()), Record::settle)
    }
}

impl Record {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOCTTY);
        let file = options.open(path).map_err(|error| cannot(path, &error))?;
        Ok(Self { path: path.into(), file, torn: false })
    }

    fn append(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        // What follows half a line begins a new one.
        let written = if self.torn { self.file.write_all(b"\n") } else { Ok(()) };
        let written = written.and_then(|()| self.file.write_all(lines));
        self.torn = written.is_err();
        written.map_err(|error| cannot(&self.path, &error))
    }

    /// Some file systems find out only now that there is no room.
    fn settle(&mut self) -> anyhow::Result<()> {
        match self.file.sync_data() {
            // A device, a pipe: there is nothing to wait for.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS)) => Ok(()),
            other => other.map_err(|error| cannot(&self.path, &error)),
        }
    }
}

fn cannot(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("cannot audit: {}: {error}", path.display())
}

/// Who does this. What the environment says is the user's word, and only there to be compared.
fn by() -> Value {
    let loginuid = fs::read_to_string("/proc/self/loginuid").ok();
    // All ones: nobody has logged in, a service does it.
    let loginuid = loginuid.and_then(|text| text.trim().parse().ok()).filter(|uid: &u32| *uid != u32::MAX);
    let words: Vec<_> = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = words.join(" ");
    if command.len() > COMMAND_LENGTH {
        command.truncate(command.floor_char_boundary(COMMAND_LENGTH));
        command.push('…');
    }
    json!({
        "pid": std::process::id(),
        "uid": nix::unistd::getuid().as_raw(),
        "euid": nix::unistd::geteuid().as_raw(),
        "loginuid": loginuid,
        "sudo_user": env::var_os("SUDO_USER").map(|name| name.to_string_lossy().into_owned()),
        "command": command,
    })
}

fn connect(path: &Path) -> Result<UnixDatagram, String> {
    let open = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(SYSLOG_PATIENCE))?;
        Ok(socket)
    };
    open().map_err(|error: io::Error| format!("{}: {error}", path.display()))
}

/// RFC 3164 as the C library writes it, without the host.
fn send(socket: &UnixDatagram, wall: &mut Wall, line: &[u8]) -> io::Result<()> {
    let time = wall.syslog(boot_time_ns());
    let mut message = format!("<{PRIORITY}>{time} tcptrace[{}]: ", std::process::id()).into_bytes();
    message.extend(line.trim_ascii_end());
    socket.send(&message).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Ends, TcpState},
        kill::Outcome,
        sight::{Kind, Sight, Taken},
    };

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("tcptrace-audit-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn target() -> Target {
        let sight = Sight {
            cookie: 77,
            netns: 7,
            kind: Kind::Full,
            state: TcpState::FinWait1,
            ends: Ends::default(),
            uid: 0,
            inode: 0,
            receive_queue: 0,
            send_queue: 1,
            timer: None,
            shutdown: Some(3),
            cgroup: None,
            memory: None,
            info: None,
        };
        Target::new(sight, Taken::default())
    }

    fn audit(file: Option<&Path>, syslog: &Path) -> Audit {
        Audit {
            by: by(),
            file: file.map(|path| Record::open(path).unwrap()),
            syslog: connect(syslog),
            line: Vec::new(),
        }
    }

    #[test]
    fn syslog_hears_of_each_result() {
        let folder = Folder::new("syslog");
        let path = folder.0.join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        let mut audit = audit(None, &path);
        assert_eq!(audit.without_syslog(), None);
        let mut wall = Wall::new(0);
        audit.intend(&mut wall, &[target()]).unwrap();
        audit.result(&mut wall, &target(), &Outcome::Killed).unwrap();
        let mut message = [0; 4096];
        let length = log.recv(&mut message).unwrap();
        let message = std::str::from_utf8(&message[..length]).unwrap();
        let json = message.split_once(&format!(" tcptrace[{}]: ", std::process::id())).unwrap();
        assert!(json.0.starts_with("<85>") && json.0.len() == "<85>Jan  1 00:00:00".len(), "{message}");
        let line: Value = serde_json::from_str(json.1).unwrap();
        assert_eq!((&line["flow"], &line["result"]), (&"77".into(), &"killed".into()));
        assert_eq!(line["by"]["uid"], nix::unistd::getuid().as_raw());
        // A log that goes away is told of once, and no error.
        drop(log);
        audit.result(&mut wall, &target(), &Outcome::Gone).unwrap();
        assert!(audit.without_syslog().is_some());
    }

    #[test]
    fn a_file_only_grows() {
        let folder = Folder::new("file");
        let (path, nowhere) = (folder.0.join("audit"), folder.0.join("no-log"));
        fs::write(&path, "before\n").unwrap();
        for outcome in [Outcome::Killed, Outcome::Refused(libc::EPERM)] {
            let mut audit = audit(Some(&path), &nowhere);
            assert!(audit.without_syslog().unwrap().contains("no-log"));
            audit.intend(&mut Wall::new(0), &[target()]).unwrap();
            audit.result(&mut Wall::new(0), &target(), &outcome).unwrap();
            audit.finish().unwrap();
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (5, "before"));
        let phases: Vec<Value> = lines[1..]
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["phase"].clone())
            .collect();
        assert_eq!(phases, ["intent", "result", "intent", "result"]);
    }

    #[test]
    fn a_full_disk_is_no_audit() {
        let full = Path::new("/dev/full");
        let mut audit = audit(Some(full), full);
        let error = audit.intend(&mut Wall::new(0), &[target()]).unwrap_err().to_string();
        assert!(error.starts_with("cannot audit: /dev/full: No space left"), "{error}");
        assert!(audit.file.unwrap().torn);
    }
}
