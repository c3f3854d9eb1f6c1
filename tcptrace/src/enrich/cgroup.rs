//! From the id of a cgroup to its [`Place`]. The id is the inode number of the group's folder, so one walk over the
//! folders tells them all.

use super::Place;
use crate::{process::Process, source::cgroups};
use hashlink::LruCache;
use std::{
    fs,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How many places are remembered, those that are gone included; the ones that nobody saw for longest are forgotten
/// first. Far more groups than machines run, and a few MiB.
const MAX_PLACES: usize = 16_384;
/// How many processes' places are remembered.
const MAX_PROCESSES: usize = 4096;
/// An unknown id makes us walk, at most this often.
const WALK_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// How deep folders are followed. Groups nest to a dozen at most, even with containers in containers.
const MAX_DEPTH: usize = 32;

/// Remembers places, those of groups that are gone included: a connection may outlive its service's group in our tables.
/// Copies share what they remember.
#[derive(Clone)]
pub struct Places(Arc<Shared>);

struct Shared {
    remembered: Mutex<Remembered>,
    /// How often it was told where a process was.
    told: AtomicU64,
}

struct Remembered {
    mount: Option<PathBuf>,
    by_id: LruCache<u64, Arc<Place>>,
    /// By pid; with the process, because pids are used again.
    by_process: LruCache<u32, (Process, Option<Arc<Place>>)>,
    walked: Option<Instant>,
    every: Duration,
    /// Of another time or machine: nothing is looked up.
    recorded: bool,
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

impl Places {
    /// Knows nothing yet; the first question makes it look.
    pub fn new() -> Self {
        Self::of_mount(cgroups::mount(), false)
    }

    /// Of a recording: knows what it is told, and never looks.
    pub fn recorded() -> Self {
        Self::of_mount(None, true)
    }

    fn of_mount(mount: Option<PathBuf>, recorded: bool) -> Self {
        let (by_id, by_process) = (LruCache::new(MAX_PLACES), LruCache::new(MAX_PROCESSES));
        let remembered =
            Remembered { mount, by_id, by_process, walked: None, every: WALK_AT_MOST_EVERY, recorded };
        Self(Arc::new(Shared { remembered: Mutex::new(remembered), told: AtomicU64::new(0) }))
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where this process was when it was first asked for: cheap enough for every line of output.
    pub fn of_owner(&self, process: &Process) -> Option<Arc<Place>> {
        self.remembered().of_owner(process)
    }

    /// Where this process is: by its cgroup, or, where that says nothing (cgroup v1, hybrid hosts, groups outside of our
    /// cgroup namespace), by what /proc says about its pid now. `None`: unknown, or it has ended.
    pub fn find(&self, process: &Process) -> Option<Arc<Place>> {
        self.remembered().find(process)
    }

    /// The place of the cgroup with this v2 id; 0 is none.
    pub fn of(&self, id: u64) -> Option<Arc<Place>> {
        self.remembered().of(id)
    }

    /// Tells the path of a cgroup.
    pub fn learn_cgroup(&self, id: u64, path: &str) {
        self.remembered().remember(id, path);
    }

    /// Tells where a process was.
    pub fn learn_process(&self, process: Process, path: Option<&str>) {
        let place = path.map(|path| Arc::new(Place::parse(path)));
        self.remembered().by_process.insert(process.pid, (process, place));
        self.0.told.fetch_add(1, Ordering::Release);
    }

    /// How often it was told where a process was: who keeps what [`Self::of_owner`] said asks again when this has changed.
    pub fn told(&self) -> u64 {
        self.0.told.load(Ordering::Acquire)
    }
}

impl Remembered {
    fn of_owner(&mut self, process: &Process) -> Option<Arc<Place>> {
        if let Some((known, place)) = self.by_process.get(&process.pid)
            && known == process
        {
            return place.clone();
        }
        let place = self.find(process);
        self.by_process.insert(process.pid, (process.clone(), place.clone()));
        place
    }

    fn find(&mut self, process: &Process) -> Option<Arc<Place>> {
        // Nobody can be asked now: it is where it was.
        if self.recorded
            && let Some((known, place)) = self.by_process.get(&process.pid)
            && known == process
        {
            return place.clone();
        }
        let known = self.of(process.cgroup);
        match known {
            Some(place) if !place.is_root() => Some(place),
            // Its group is the root, and it may have ended: the root is still true.
            root => self.of_process(process.pid).or(root),
        }
    }

    fn of(&mut self, id: u64) -> Option<Arc<Place>> {
        if id == 0 {
            return None;
        }
        if let Some(place) = self.by_id.get(&id) {
            return Some(Arc::clone(place));
        }
        if self.recorded || self.walked.is_some_and(|walked| walked.elapsed() < self.every) {
            return None;
        }
        self.walk();
        self.by_id.get(&id).map(Arc::clone)
    }

    /// The place of a process by its pid, as /proc shows it: right as long as the process lives. With cgroup v1 that is
    /// its place in systemd's hierarchy, or where that says nothing the longest of the controllers' paths.
    fn of_process(&self, pid: u32) -> Option<Arc<Place>> {
        if self.recorded {
            return None;
        }
        let lines = cgroups::lines_of(pid)?;
        Some(Arc::new(Place::parse(best_path(&lines)?)))
    }

    fn walk(&mut self) {
        self.walked = Some(Instant::now());
        let Some(mount) = self.mount.clone() else { return };
        if let Ok(root) = fs::metadata(&mount) {
            self.remember(root.ino(), "/");
        }
        let mut room = MAX_PLACES - 1;
        self.walk_folder(&mount, "", 0, &mut room);
        // A long walk shall not be followed by the next one at once.
        self.walked = Some(Instant::now());
    }

    fn walk_folder(&mut self, folder: &Path, path: &str, depth: usize, room: &mut usize) {
        // A folder that cannot be read has just gone.
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            if depth >= MAX_DEPTH || *room == 0 {
                return;
            }
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            *room -= 1;
            let below = format!("{path}/{}", entry.file_name().to_string_lossy());
            self.remember(entry.ino(), &below);
            self.walk_folder(&entry.path(), &below, depth + 1, room);
        }
    }

    fn remember(&mut self, id: u64, path: &str) {
        // Asking for it makes it the last to be forgotten.
        if self.by_id.get(&id).is_none_or(|known| *known.path != *path) {
            self.by_id.insert(id, Arc::new(Place::parse(path)));
        }
    }
}

/// Of the lines in /proc/PID/cgroup the path that says most.
fn best_path(lines: &str) -> Option<&str> {
    let v2 = cgroups::v2_path(lines);
    let of_systemd = lines.lines().find_map(|line| line.split_once(":name=systemd:")).map(|(_, path)| path);
    let longest = lines.lines().filter_map(|line| line.splitn(3, ':').nth(2)).max_by_key(|path| path.len());
    let telling = [v2, of_systemd, longest].into_iter().flatten().find(|path| !matches!(*path, "" | "/"));
    telling.or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of folders that goes with the test.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("tcptrace-{name}-{}", std::process::id()));
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        fn make(&self, path: &str) -> u64 {
            fs::create_dir_all(self.0.join(path)).unwrap();
            fs::metadata(self.0.join(path)).unwrap().ino()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn ids_are_found_and_kept() {
        let tree = Tree::new("places");
        let nginx = tree.make("system.slice/nginx.service");
        fs::write(tree.0.join("cgroup.procs"), "").unwrap();
        let places = Places::of_mount(Some(tree.0.clone()), false);
        let place = places.of(nginx).unwrap();
        assert_eq!((&*place.path, place.name()), ("/system.slice/nginx.service", "nginx.service"));
        assert!(places.of(fs::metadata(&tree.0).unwrap().ino()).unwrap().is_root());
        assert_eq!(places.of(0), None);

        // What came later waits for the next walk; what went is remembered.
        let redis = tree.make("system.slice/redis.service");
        assert_eq!(places.of(redis), None);
        fs::remove_dir(tree.0.join("system.slice/nginx.service")).unwrap();
        places.remembered().every = Duration::ZERO;
        assert_eq!(places.of(redis).unwrap().name(), "redis.service");
        assert_eq!(places.of(nginx), Some(place));
    }

    #[test]
    fn without_a_hierarchy_nothing_is_known_but_processes_are() {
        let places = Places::of_mount(None, false);
        assert_eq!(places.of(1), None);
        let me = Process { pid: std::process::id(), uid: 0, cgroup: 0, comm: "me".into() };
        assert!(places.find(&me).is_some());
        assert_eq!(places.find(&Process { pid: u32::MAX, ..me }), None);
    }

    #[test]
    fn the_telling_hierarchy_is_taken() {
        let cases = [
            ("0::/system.slice/a.service\n", "/system.slice/a.service"),
            ("4:memory:/docker/x\n1:name=systemd:/system.slice/a.service\n0::/\n", "/system.slice/a.service"),
            ("4:memory:/docker/x\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n", "/docker/x"),
            ("12:pids:/odd:name\n", "/odd:name"),
            ("0::/\n", "/"),
        ];
        for (lines, path) in cases {
            assert_eq!(best_path(lines), Some(path), "{lines}");
        }
        assert_eq!(best_path(""), None);
    }
}
