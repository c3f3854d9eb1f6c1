//! A real Prometheus scrapes it: what was done can be queried, classic and native. And promtool has no objections.

use crate::{
    daemon::{Daemon, get},
    support::{PATIENCE, connections, netns, signal},
    tools::tool,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    env, fs,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio, id},
    thread,
    time::{Duration, Instant},
};
use tcptrace_lab::{Family, Lab, Side};

/// A server with a folder of its own.
struct Prometheus {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Prometheus {
    fn start(target: SocketAddr, native: bool) -> Self {
        let folder = env::temp_dir().join(format!("tcptrace-prometheus-{}-{native}", id()));
        fs::create_dir_all(&folder).expect("a folder");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs: [{{job_name: tcptrace, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).expect("written");
        // Between here and there somebody else may take it: then it says so and ends.
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
        let mut command = Command::new(tool("prometheus"));
        command
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).expect("a log"));
        if native {
            command.arg("--enable-feature=native-histograms");
        }
        let child = command.spawn().expect("it starts");
        Self { child, folder, address: free }
    }

    /// The only value of an instant query, if there is one by now.
    fn value(&self, query: &str) -> Option<f64> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let up = std::net::TcpStream::connect(self.address).is_ok();
        let (status, body) =
            up.then(|| get(self.address, &format!("/api/v1/query?query={encoded}"), "*/*"))?;
        if status != 200 {
            return None; // it is not ready yet
        }
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    #[track_caller]
    fn until(&mut self, query: &str, is: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let value = self.value(query);
            if value.is_some_and(&is) {
                return;
            }
            let ended = self.child.try_wait().expect("our own child");
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "{query}: {value:?}\n{}", log());
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        signal(self.child.id(), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn scraped(native: bool) {
    const COUNT: u32 = 100;
    let lab = Lab::new(Family::V4).expect("a lab");
    let daemon = Daemon::start(&["--netns", &netns(lab.netns(Side::Client)), "--label", "port,role"]);
    let mut prometheus = Prometheus::start(daemon.address, native);
    prometheus.until("up", |up| up == 1.0);
    connections(&lab, COUNT.into(), 1, 0);
    let count = f64::from(COUNT);
    let exactly = |value: f64| value == count;
    prometheus.until(r#"tcptrace_transitions_total{from="SYN_SENT",to="ESTABLISHED"}"#, exactly);
    let orderly = r#"tcptrace_closes_total{cause="orderly",port="10000",role="active"}"#;
    prometheus.until(orderly, exactly);
    prometheus.until(r#"tcptrace_sockets{state="TIME_WAIT",port="10000"}"#, exactly);
    prometheus.until("sum(tcptrace_lost_events_total)", |lost| lost == 0.0);
    prometheus.until("tcptrace_build_info", |one| one == 1.0);
    let established = r#"state="ESTABLISHED",role="active""#;
    if native {
        let counted = format!("histogram_count(tcptrace_state_duration_seconds{{{established}}})");
        prometheus.until(&counted, exactly);
        let family = format!("tcptrace_state_duration_seconds{{{established}}}");
        prometheus.until(&format!("histogram_sum({family})"), |sum| sum > 0.0);
        // All of them, between nothing and a day; and a median that is a time.
        let all = format!("histogram_fraction(0, 86400, {family})");
        prometheus.until(&all, |part| (part - 1.0).abs() < 1e-9);
        prometheus.until(&format!("histogram_quantile(0.5, {family})"), |s| s > 1e-6 && s < 10.0);
    } else {
        let upto = |le: &str| format!(r#"tcptrace_state_duration_seconds_bucket{{{established},le="{le}"}}"#);
        prometheus.until(&upto("+Inf"), exactly);
        prometheus.until(&upto("86400.0"), exactly);
        let family = format!("tcptrace_state_duration_seconds_bucket{{{established}}}");
        prometheus.until(&format!("histogram_quantile(0.5, {family})"), |s| s > 0.0 && s < 10.0);
    }
}

#[test]
#[ignore = "needs root and prometheus: loads BPF programs and makes network namespaces"]
fn a_prometheus_reads_text() {
    scraped(false);
}

#[test]
#[ignore = "needs root and prometheus: loads BPF programs and makes network namespaces"]
fn a_prometheus_reads_native_histograms() {
    scraped(true);
}

#[test]
#[ignore = "needs root and prometheus: loads BPF programs and makes network namespaces"]
fn promtool_has_no_objections() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let daemon = Daemon::start(&["--netns", &netns(lab.netns(Side::Client)), "--label", "port,role"]);
    connections(&lab, 3, 1, 0);
    daemon.metrics(|metrics| metrics.sum("tcptrace_closes_total", "") == 7.0);
    let (_, page) = daemon.get("/metrics", "*/*");
    let mut command = Command::new(tool("promtool"));
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(&page).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
