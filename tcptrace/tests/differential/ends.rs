//! The ends of minisockets, of which no event tells: told all the same, and in time.

use crate::{
    compare::{agree, cookie, ss},
    road::Road,
    space::Space,
    support::{Tracer, netns, of_type},
};
use serde_json::Value;
use socket2::Socket;
use std::{
    io::Write,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

/// How late the end of a minisocket may be told. Its timer's expiry is looked for in the end, so this is far too much.
const LATE: Duration = Duration::from_millis(2500);
/// The same where something else tells.
const SOON: Duration = Duration::from_secs(1);

/// A namespace, a tracer of it, and one connection.
struct Scene {
    space: Space,
    tracer: Tracer,
    listener: Socket,
    client: Option<Socket>,
    server: Option<Socket>,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let space = Space::new();
        for (name, value) in settings {
            space.set(name, value);
        }
        let name = netns(space.inode());
        let mut tracer = Tracer::start(&["--netns", &name]);
        tracer.wait_for("the first dump", |line| line["type"] == "resync");
        let road = road(&space);
        let listener = road.listener();
        listener.bind(&road.bind_listener(10_000).into()).expect("bound");
        listener.listen(64).expect("listens");
        let mut scene = Self { space, tracer, listener, client: None, server: None };
        scene.connect();
        scene
    }

    /// The same ends each time.
    fn connect(&mut self) {
        let road = road(&self.space);
        let client = road.client();
        client.bind(&road.bind_client(40_000).into()).expect("bound");
        let to: SocketAddr = road.dial(10_000);
        let _ = client.connect(&to.into());
        let deadline = Instant::now() + SOON;
        let server = loop {
            match self.listener.accept() {
                Ok((server, _)) => break server,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            thread::sleep(Duration::from_millis(10));
        };
        (self.client, self.server) = (Some(client), Some(server));
    }

    /// The one socket that is in this state by `ss`. It may take a moment: a child that another test starts holds our
    /// descriptors until its exec, and nothing is closed.
    fn flow(&self, state: &str) -> u64 {
        let deadline = Instant::now() + SOON;
        loop {
            let kernel = ss(&self.space.namespace);
            let found: Vec<_> =
                kernel.iter().filter(|(_, it)| **it == state).map(|(flow, _)| *flow).collect();
            if let [flow] = found[..] {
                return flow;
            }
            assert!(Instant::now() < deadline, "{state}: {kernel:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the kernel has no such socket any more.
    fn gone(&self, flow: u64) {
        let deadline = Instant::now() + Duration::from_secs(70);
        while ss(&self.space.namespace).contains_key(&flow) {
            assert!(Instant::now() < deadline, "it does not go");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an inferred change of the flow is told, and for no longer than that.
    fn told(&mut self, flow: u64, old: &str, new: &str, within: Duration) -> Value {
        let since = Instant::now();
        let is = |line: &Value| {
            line["type"] == "transition"
                && line["old"] == old
                && line["new"] == new
                && line["inferred"] == true
        };
        let line = self.tracer.wait_for(&format!("{old} -> {new}"), |line| is(line) && cookie(line) == flow);
        assert!(since.elapsed() < within, "{old} -> {new} after {:?}", since.elapsed());
        line
    }
}

fn road(space: &Space) -> Road {
    Road::loopback(&space.namespace).swap_remove(0)
}

fn age(line: &Value) -> Duration {
    Duration::from_nanos(line["in_state_ns"].as_u64().expect("a time"))
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn an_orphan_in_fin_wait2_expires() {
    let mut scene = Scene::new(&[("fin_timeout", "3")]);
    scene.client = None;
    let orphan = scene.flow("FIN_WAIT2");
    scene.gone(orphan);
    let line = scene.told(orphan, "FIN_WAIT2", "CLOSE", LATE);
    assert!((Duration::from_millis(2900)..Duration::from_secs(6)).contains(&age(&line)), "{line}");
    agree(&mut scene.tracer, &[&scene.space.namespace]);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn an_orphan_whose_peer_closes_goes_on_to_time_wait() {
    let mut scene = Scene::new(&[]);
    scene.client = None;
    let orphan = scene.flow("FIN_WAIT2");
    thread::sleep(Duration::from_millis(300));
    scene.server = None;
    scene.told(orphan, "FIN_WAIT2", "TIME_WAIT", SOON);
    assert_eq!(scene.flow("TIME_WAIT"), orphan);
    agree(&mut scene.tracer, &[&scene.space.namespace]);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn an_orphan_whose_peer_resets_is_gone() {
    let mut scene = Scene::new(&[]);
    scene.client = None;
    let orphan = scene.flow("FIN_WAIT2");
    // Old enough to be looked at rarely, if nothing else made us look.
    thread::sleep(Duration::from_secs(9));
    let server = scene.server.take().expect("connected");
    server.set_linger(Some(Duration::ZERO)).expect("set");
    drop(server);
    scene.gone(orphan);
    scene.told(orphan, "FIN_WAIT2", "CLOSE", SOON);
    agree(&mut scene.tracer, &[&scene.space.namespace]);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn data_for_an_orphan_is_its_end() {
    let mut scene = Scene::new(&[]);
    scene.client = None;
    let orphan = scene.flow("FIN_WAIT2");
    thread::sleep(Duration::from_secs(9));
    let mut server = scene.server.as_ref().expect("connected");
    server.write_all(b"too late").expect("sent");
    scene.gone(orphan);
    scene.told(orphan, "FIN_WAIT2", "CLOSE", SOON);
    agree(&mut scene.tracer, &[&scene.space.namespace]);
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_new_connection_takes_the_ends_from_time_wait() {
    let mut scene = Scene::new(&[("tw_reuse", "1")]);
    for server_first in [true, false] {
        let firsts = [&mut scene.client, &mut scene.server];
        *firsts[usize::from(server_first)] = None;
        scene.flow("FIN_WAIT2");
        (scene.client, scene.server) = (None, None);
        let time_wait = scene.flow("TIME_WAIT");
        scene.told(time_wait, "FIN_WAIT2", "TIME_WAIT", SOON);
        // tcp_tw_reuse: not within the first second.
        thread::sleep(Duration::from_millis(1100));
        scene.connect();
        scene.gone(time_wait);
        scene.told(time_wait, "TIME_WAIT", "CLOSE", SOON);
        agree(&mut scene.tracer, &[&scene.space.namespace]);
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn without_room_there_is_no_time_wait() {
    let mut scene = Scene::new(&[("max_tw_buckets", "0")]);
    (scene.client, scene.server) = (None, None);
    scene
        .tracer
        .wait_for("the close", |line| line["cause"] == "orderly" || line["cause"] == "fin-wait2-minisocket");
    agree(&mut scene.tracer, &[&scene.space.namespace]);
    assert_eq!(ss(&scene.space.namespace).len(), 1, "the listener");
    // There is room now; nobody has told us.
    scene.space.set("max_tw_buckets", "100");
    scene.connect();
    scene.client = None;
    scene.flow("FIN_WAIT2");
    scene.server = None;
    let time_wait = scene.flow("TIME_WAIT");
    scene.told(time_wait, "FIN_WAIT2", "TIME_WAIT", SOON);
    // And none again. (tcp_tw_reuse: not within the first second.)
    thread::sleep(Duration::from_millis(1100));
    scene.space.set("max_tw_buckets", "0");
    scene.connect();
    (scene.client, scene.server) = (None, None);
    agree(&mut scene.tracer, &[&scene.space.namespace]);
    let (lines, _) = scene.tracer.stop();
    let told = of_type(&lines, "transition").into_iter().filter(|line| line["new"] == "TIME_WAIT");
    assert_eq!(told.count(), 1);
}

/// In full, so that the kernel's own minute is what it is compared with.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces; takes a minute"]
fn time_wait_lasts_a_minute() {
    let mut scene = Scene::new(&[]);
    scene.client = None;
    scene.flow("FIN_WAIT2");
    scene.server = None;
    let time_wait = scene.flow("TIME_WAIT");
    scene.told(time_wait, "FIN_WAIT2", "TIME_WAIT", SOON);
    scene.gone(time_wait);
    let line = scene.told(time_wait, "TIME_WAIT", "CLOSE", LATE);
    assert!((Duration::from_secs(60)..Duration::from_secs(65)).contains(&age(&line)), "{line}");
    let told = agree(&mut scene.tracer, &[&scene.space.namespace]);
    assert_eq!((&told.resync["corrected"], &told.resync["vanished"]), (&0.into(), &0.into()));
}
