//! The image and the manifest, without a container runtime: the static program where there is nothing else, with the arguments
//! and the capabilities that they give it.

use crate::{
    dist::{file, project},
    root::Root,
    service::{Service, as_root},
    support::PATIENCE,
};
use clap::Parser as _;
use std::{fs, net::TcpListener, os::fd::AsFd as _};
use tcptrace::cli::Cli;
use tcptrace_lab::{Family, Lab, Side};

const RECIPE: &str = "packaging/oci/Containerfile";
const PORT: u16 = 4711;
const MANIFEST: &str = "packaging/kubernetes/daemonset.yaml";

fn read(name: &str) -> String {
    fs::read_to_string(project().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The words of `["a", "b"]` behind this.
fn list(text: &str, before: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(before)).expect(before);
    serde_json::from_str(line.trim()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// What the recipe starts.
fn command() -> Vec<String> {
    let recipe = read(RECIPE);
    [list(&recipe, "ENTRYPOINT"), list(&recipe, "CMD")].concat()
}

/// The capabilities that the manifest adds.
fn capabilities(manifest: &str) -> Vec<&str> {
    let rest = manifest.lines().skip_while(|line| line.trim() != "add:").skip(1);
    let items = rest.map_while(|line| line.trim().strip_prefix("- "));
    items.filter_map(|item| item.split_whitespace().next()).collect()
}

#[test]
fn recipe_and_manifest_start_what_there_is() {
    let manifest = read(MANIFEST);
    let arguments = list(&manifest, "args:");
    for command in [command(), ["tcptrace".to_owned()].into_iter().chain(arguments).collect()] {
        if let Err(error) = Cli::try_parse_from(&command) {
            panic!("{command:?}: {error}");
        }
    }
    assert!(manifest.contains(&format!("/tcptrace:{}\n", env!("CARGO_PKG_VERSION"))), "the image's version");
    let all = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"];
    assert_eq!(capabilities(&manifest), all);
}

#[test]
#[ignore = "needs root and packages: starts it in a file system where there is nothing else"]
fn the_program_alone_is_enough() {
    let root = Root::empty();
    fs::copy(file("/tcptrace"), root.path("/usr/bin/tcptrace")).expect("copied");
    // Names are looked up without what the machine's nsswitch.conf would have a C library load.
    fs::create_dir(root.path("/etc")).expect("made");
    fs::write(root.path("/etc/hosts"), "127.0.0.1 localhost\n127.0.0.2 collector.test\n").expect("written");
    fs::write(root.path("/etc/nsswitch.conf"), "hosts: resolve [!UNAVAIL=return] myhostname\n")
        .expect("written");
    let lab = Lab::new(Family::V4).expect("a lab");
    let collector =
        lab.run_in(Side::Client, || TcpListener::bind("127.0.0.2:4318")).expect("the host runs it");
    let collector = collector.expect("a free port");
    // In another namespace, and there before the daemon: it must enter it to know.
    let listener =
        lab.run_in(Side::Server, || TcpListener::bind(("127.0.0.1", PORT))).expect("the host runs it");
    let listener = listener.expect("a free port");
    let port = PORT.to_string();
    let more = [
        "--otlp",
        "http://collector.test:4318",
        "--otlp-interval",
        "1s",
        "--lport",
        &port,
        "--label",
        "netns",
    ];
    let more = more.map(str::to_owned);

    let manifest = read(MANIFEST);
    let command = [command(), more.into()].concat();
    let service = Service::start(&lab, as_root(&root, &capabilities(&manifest), &command));
    let there = format!("tcptrace_sockets{{state=\"LISTEN\",netns=\"{}\"}} 1.0\n", lab.netns(Side::Server));
    let metrics = service.metrics(&there);
    assert!(metrics.contains("tcptrace_hook_attached{hook=\"inet_sock_set_state\"} 1.0\n"), "{metrics}");
    let waited = nix::poll::PollTimeout::try_from(PATIENCE).expect("short");
    let mut ready = [nix::poll::PollFd::new(collector.as_fd(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut ready, waited), Ok(1), "it pushes to the name");
    service.end();
    drop(listener);

    for probe in ["/healthz", "/readyz"] {
        assert!(manifest.contains(&format!("path: {probe}\n")), "{probe}");
    }
}
