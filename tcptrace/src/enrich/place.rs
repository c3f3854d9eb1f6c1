//! What a cgroup's path says about the processes in it: the systemd unit, the container, the Kubernetes pod. Pure text;
//! the ways in which service managers and container runtimes name their groups.

/// A cgroup and what its path says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The path below the root of the hierarchy; `/`: the root.
    pub path: Box<str>,
    /// The innermost systemd unit, e.g. `nginx.service`. In a container: a unit inside of it.
    pub unit: Option<Box<str>>,
    /// The innermost container: the first twelve digits of its id, as `docker ps` and `crictl ps` show it; of LXC its
    /// name.
    pub container: Option<Box<str>>,
    /// Uid of the Kubernetes pod; of a static pod 32 digits without dashes.
    pub pod: Option<Box<str>>,
}

/// As many digits of a container's id as its runtime shows.
const SHORT_ID: usize = 12;
const LONG_ID: usize = 64;
/// What systemd makes groups for and people start and stop. Slices only group others.
const UNITS: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

impl Place {
    /// Reads a path as /proc/PID/cgroup shows it, or as it is below the mount.
    pub fn parse(path: &str) -> Self {
        let mut place = Self { path: path.into(), unit: None, container: None, pod: None };
        for folder in path.split('/') {
            // systemd puts `_` before a name that would otherwise look like a file of the kernel's own.
            let name = folder.strip_prefix('_').unwrap_or(folder);
            if let Some(pod) = pod(name) {
                place.pod = Some(pod);
            }
            if let Some(container) = container(name) {
                place.container = Some(container.into());
                // The service around a container says who started it, not what it is.
                place.unit = None;
            } else if UNITS.iter().any(|kind| name.len() > kind.len() && name.ends_with(kind)) {
                place.unit = Some(name.into());
            }
        }
        // The older LXC makes a folder of its own for all containers.
        if let Some(("", rest)) = path.split_once("/lxc/")
            && place.container.is_none()
        {
            place.container = rest.split('/').next().filter(|name| !name.is_empty()).map(Into::into);
        }
        place
    }

    /// The one word that says most: the container, else the unit, else the path.
    pub fn name(&self) -> &str {
        self.container.as_deref().or(self.unit.as_deref()).unwrap_or(&self.path)
    }

    /// This is the root: on hosts with cgroup v1 every process is in that of v2, so it says nothing there.
    pub fn is_root(&self) -> bool {
        matches!(&*self.path, "" | "/")
    }
}

/// `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>`, `…slice:cri-containerd:<id>` or the bare id; for LXC
/// `lxc.payload.<name>`.
fn container(name: &str) -> Option<&str> {
    if let Some(lxc) = name.strip_prefix("lxc.payload.") {
        return Some(lxc).filter(|lxc| !lxc.is_empty());
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    // conmon watches a container, it is not inside.
    let inside = !runtime.ends_with("conmon");
    (inside && id.len() == LONG_ID && is_hex(id)).then(|| id.get(..SHORT_ID)).flatten()
}

/// `pod<uid>` or `kubepods-burstable-pod<uid with _ for ->.slice`, maybe with `:cri-containerd:<id>` behind it.
fn pod(name: &str) -> Option<Box<str>> {
    let name = name.split(':').next().unwrap_or(name);
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let lengths = uid.split('-').map(str::len);
    let is_uid = lengths.clone().eq([8, 4, 4, 4, 12]) || lengths.eq([32]);
    (is_uid && uid.split('-').all(is_hex)).then(|| uid.into())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "8f2c91d04b7ae653c1f0d98e27b4a6153e9c70d1b2f8a4e6c5d3971f0b8e2a4c";
    const SHORT: &str = "8f2c91d04b7a";
    const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";
    const STATIC: &str = "7ab1c1bd0f3e4d5c8a9b6e2f1d0c3b4a";

    /// Path, unit, container, pod. `ID` and `UID` stand for the constants; `U_ID` for the uid with underscores.
    const PATHS: &[(&str, &str, &str, &str)] = &[
        // systemd
        ("/", "", "", ""),
        ("/init.scope", "init.scope", "", ""),
        ("/system.slice/nginx.service", "nginx.service", "", ""),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", "", ""),
        ("/system.slice/cups.socket", "cups.socket", "", ""),
        ("/system.slice/run-user-1000.mount", "run-user-1000.mount", "", ""),
        ("/system.slice/_cgroup-tool.service", "cgroup-tool.service", "", ""),
        ("/system.slice/systemd-udevd.service/udev", "systemd-udevd.service", "", ""),
        ("/system.slice", "", "", ""),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", "", ""),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope", "", ""),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-4242.scope",
            "app-gnome-firefox-4242.scope",
            "",
            "",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus\\x2dbroker.service",
            "dbus\\x2dbroker.service",
            "",
            "",
        ),
        // docker: systemd driver, cgroupfs driver, systemd inside, docker inside docker
        ("/system.slice/docker.service", "docker.service", "", ""),
        ("/system.slice/docker-ID.scope", "", "SHORT", ""),
        ("/docker/ID", "", "SHORT", ""),
        ("/system.slice/docker-ID.scope/system.slice/nginx.service", "nginx.service", "SHORT", ""),
        (
            "/docker/0000000000000000000000000000000000000000000000000000000000000000/docker/ID",
            "",
            "SHORT",
            "",
        ),
        // Kubernetes with containerd: systemd driver (burstable, guaranteed, kind), cgroupfs driver, static pod
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice/cri-containerd-ID.scope",
            "",
            "SHORT",
            "UID",
        ),
        ("/kubepods.slice/kubepods-podU_ID.slice/cri-containerd-ID.scope", "", "SHORT", "UID"),
        (
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
             kubelet-kubepods-besteffort-podU_ID.slice/cri-containerd-ID.scope",
            "",
            "SHORT",
            "UID",
        ),
        ("/kubepods/burstable/podUID/ID", "", "SHORT", "UID"),
        ("/kubepods/podUID/ID", "", "SHORT", "UID"),
        ("/kubepods/podUID", "", "", "UID"),
        ("/kubepods/burstable/podSTATIC/ID", "", "SHORT", "STATIC"),
        // containerd with mismatched drivers, and containers of ctr
        (
            "/system.slice/containerd.service/kubepods-burstable-podU_ID.slice:cri-containerd:ID",
            "",
            "SHORT",
            "UID",
        ),
        ("/k8s.io/ID", "", "SHORT", ""),
        // cri-o
        (
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_ID.slice/crio-ID.scope/container",
            "",
            "SHORT",
            "UID",
        ),
        ("/kubepods/besteffort/podUID/crio-ID", "", "SHORT", "UID"),
        ("/system.slice/crio-conmon-ID.scope", "crio-conmon-ID.scope", "", ""),
        // podman: root, rootless, in a pod, cgroupfs
        ("/machine.slice/libpod-ID.scope/container", "", "SHORT", ""),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "",
            "SHORT",
            "",
        ),
        ("/machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope", "", "SHORT", ""),
        ("/machine.slice/libpod-conmon-ID.scope", "libpod-conmon-ID.scope", "", ""),
        ("/libpod_parent/libpod-ID", "", "SHORT", ""),
        // lxc and lxd, docker inside
        ("/lxc.payload.web", "", "web", ""),
        ("/lxc.payload.web/system.slice/ssh.service", "ssh.service", "web", ""),
        ("/lxc.payload.web/docker/ID", "", "SHORT", ""),
        ("/lxc.monitor.web", "", "", ""),
        ("/lxc/web/init.scope", "init.scope", "web", ""),
        // virtual machines and nspawn stay units
        (
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/vcpu0",
            "machine-qemu\\x2d1\\x2dvm.scope",
            "",
            "",
        ),
        ("/machine.slice/systemd-nspawn@web.service/payload", "systemd-nspawn@web.service", "", ""),
        // what only looks like one
        ("/podman", "", "", ""),
        ("/.service", "", "", ""),
        ("/docker/8f2c91d04b7a", "", "", ""),
        ("/kubepods-podcast.slice", "", "", ""),
        ("/../other.slice/nginx.service", "nginx.service", "", ""),
    ];

    #[test]
    fn paths_say_what_people_say() {
        let full = |text: &str| {
            let text = text.replace("U_ID", &UID.replace('-', "_")).replace("UID", UID);
            text.replace("STATIC", STATIC).replace("SHORT", SHORT).replace("ID", ID)
        };
        for (path, unit, container, pod) in PATHS {
            let place = Place::parse(&full(path));
            let some = |text: &str| (!text.is_empty()).then(|| Box::from(full(text)));
            let expected = Place {
                path: full(path).into(),
                unit: some(unit),
                container: some(container),
                pod: some(pod),
            };
            assert_eq!(place, expected, "{path}");
        }
    }

    #[test]
    fn the_name_is_what_says_most() {
        let name = |path: &str| Place::parse(path).name().to_owned();
        assert_eq!(name(&format!("/system.slice/docker-{ID}.scope/a.service")), SHORT);
        assert_eq!(name("/system.slice/nginx.service"), "nginx.service");
        assert_eq!(name("/odd/group"), "/odd/group");
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_read(path in "(/(lxc.payload.|pod|_|-pod|.slice|.scope|[0-9a-f]{64}|é|:|-|[a-z]{0,3}){0,4}){0,5}") {
            proptest::prop_assert_eq!(&*Place::parse(&path).path, path.as_str());
        }
    }
}
