//! `tcptrace export --otlp` with real traffic: what is pushed is what /metrics shows.

use crate::{
    daemon::Daemon,
    receiver::{Got, Receiver, Reply},
    support::{PATIENCE, connections, netns},
};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    metrics::v1::{NumberDataPoint, metric::Data, number_data_point},
};
use std::{collections::BTreeMap, time::Instant};
use tcptrace::export::otlp::settings::Protocol;
use tcptrace_lab::{Family, Lab, Side};

/// What goes on even if nothing happens.
const RESTLESS: [&str; 4] = [
    "tcptrace_process_cpu_seconds_total",
    "tcptrace_process_resident_memory_bytes",
    "tcptrace_resyncs_total",
    "tcptrace_last_resync_timestamp_seconds",
];

/// Values by name and sorted labels, as Prometheus' text names them.
type Series = BTreeMap<String, f64>;

fn key(name: &str, mut labels: Vec<(String, String)>) -> String {
    labels.sort();
    format!("{name} {labels:?}")
}

/// As /metrics has them; without buckets if they are not `wanted`.
fn scraped(daemon: &Daemon, wanted: bool) -> Series {
    let metrics = daemon.metrics(|_| true);
    let series = metrics.0.iter().map(|(sample, value)| {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels = labels.trim_end_matches('}').split_terminator("\",").map(|label| {
            let (label, value) = label.split_once("=\"").expect("a label");
            let value = value.trim_end_matches('"');
            let value = if label == "le" { limit(value.parse().expect("a limit")) } else { value.to_owned() };
            (label.to_owned(), value)
        });
        (name.to_owned(), key(name, labels.collect()), *value)
    });
    let kept = |name: &str| !RESTLESS.contains(&name) && !name.starts_with("tcptrace_bpf_");
    series
        .filter(|(name, ..)| kept(name) && (wanted || !name.ends_with("_bucket")))
        .map(|(_, key, value)| (key, value))
        .collect()
}

fn limit(seconds: f64) -> String {
    format!("{seconds}")
}

/// The labels; what the semantic conventions call them is beside them.
fn labels(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let own = attributes.iter().filter(|pair| !pair.key.contains('.'));
    own.map(|pair| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => (pair.key.clone(), text.clone()),
        other => panic!("{}: {other:?}", pair.key),
    })
    .collect()
}

fn numbers(name: &str, points: &[NumberDataPoint]) -> Vec<(String, f64)> {
    let value = |point: &NumberDataPoint| match point.value {
        Some(number_data_point::Value::AsInt(number)) => number as f64,
        Some(number_data_point::Value::AsDouble(number)) => number,
        None => panic!("{name} without a value"),
    };
    points.iter().map(|point| (key(name, labels(&point.attributes)), value(point))).collect()
}

/// As a collector's Prometheus exporter makes them of a push.
fn pushed(got: &Got) -> Series {
    let mut series = Vec::new();
    for metric in &got.message.resource_metrics[0].scope_metrics[0].metrics {
        let unit = match metric.unit.as_str() {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let name = format!("{}{unit}", metric.name.replace('.', "_"));
        match metric.data.as_ref().expect("data") {
            Data::Sum(sum) => series.extend(numbers(&format!("{name}_total"), &sum.data_points)),
            Data::Gauge(gauge) => series.extend(numbers(&name, &gauge.data_points)),
            Data::ExponentialHistogram(histogram) => {
                for point in &histogram.data_points {
                    let labels = labels(&point.attributes);
                    series.push((key(&format!("{name}_count"), labels.clone()), point.count as f64));
                    series.push((key(&format!("{name}_sum"), labels), point.sum.expect("a sum")));
                }
            }
            Data::Histogram(histogram) => {
                for point in &histogram.data_points {
                    let labels = labels(&point.attributes);
                    series.push((key(&format!("{name}_count"), labels.clone()), point.count as f64));
                    series.push((key(&format!("{name}_sum"), labels.clone()), point.sum.expect("a sum")));
                    let mut below = 0;
                    let limits = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
                    for (bound, count) in limits.zip(&point.bucket_counts) {
                        below += count;
                        let mut labels = labels.clone();
                        labels.push(("le".to_owned(), limit(bound)));
                        series.push((key(&format!("{name}_bucket"), labels), below as f64));
                    }
                }
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    series.retain(|(key, _)| {
        !RESTLESS.iter().any(|name| key.starts_with(name)) && !key.starts_with("tcptrace_bpf_")
    });
    let all = series.len();
    let series: Series = series.into_iter().collect();
    assert_eq!(series.len(), all, "a series is there twice");
    series
}

/// The next push that is as it should be.
fn push(receiver: &Receiver, what: &str, is: impl Fn(&Series) -> bool) -> Series {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let series =
            pushed(&receiver.got.recv_timeout(left).unwrap_or_else(|_| panic!("{what} did not come")));
        if is(&series) {
            return series;
        }
    }
}

fn transitions(series: &Series, from: &str, to: &str) -> f64 {
    let labels = vec![("from".to_owned(), from.to_owned()), ("to".to_owned(), to.to_owned())];
    series.get(&key("tcptrace_transitions_total", labels)).copied().unwrap_or(0.0)
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn what_is_pushed_is_what_is_served() {
    const COUNT: u32 = 100;
    const HISTOGRAMS: &str = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    for (protocol, name, aggregation) in [
        (Protocol::Grpc, "grpc", "base2_exponential_bucket_histogram"),
        (Protocol::Http, "http", "explicit_bucket_histogram"),
    ] {
        let receiver = Receiver::start(protocol, []);
        let lab = Lab::new(Family::V4).expect("a lab");
        let space = netns(lab.netns(Side::Client));
        let url = receiver.url();
        let mut args = vec!["--netns", &space, "--label", "port,role", "--otlp", &url];
        args.extend(["--otlp-protocol", name, "--otlp-interval", "1s"]);
        let daemon = Daemon::with(&args, &[(HISTOGRAMS, aggregation)]);
        connections(&lab, COUNT.into(), 1, 0);
        let closed = |series: &Series| transitions(series, "LAST_ACK", "CLOSE") == f64::from(COUNT);
        push(&receiver, "the end of the connections", closed);
        // Between two scrapes that are the same, a push is, too.
        let wanted = protocol == Protocol::Http;
        let deadline = Instant::now() + PATIENCE;
        let (before, between) = loop {
            while receiver.got.try_recv().is_ok() {}
            let before = scraped(&daemon, wanted);
            push(&receiver, "one that may be old", |_| true);
            let between = push(&receiver, "one between", |_| true);
            if before == scraped(&daemon, wanted) {
                break (before, between);
            }
            assert!(Instant::now() < deadline, "it does not come to rest: {before:#?}");
        };
        assert!(before.len() > 50, "{before:#?}");
        assert_eq!(between, before, "{name}");
        let (status, said) = daemon.end(Signal::SIGTERM);
        assert!(status.success(), "{status}: {said:#?}");
        // The last push came before the end.
        let last = receiver.got.try_iter().last().map(|got| pushed(&got)).expect("one");
        assert_eq!(transitions(&last, "LAST_ACK", "CLOSE"), f64::from(COUNT), "{name}");
        assert!(said.iter().any(|line| line.contains("pushing to")), "{said:#?}");
    }
}

/// Neither the trace nor /metrics waits for it; its drops are counted, and at the end it is not waited for.
#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_silent_receiver_holds_nothing_up() {
    let receiver = Receiver::start(Protocol::Grpc, vec![Reply::Silence; 1000]);
    let lab = Lab::new(Family::V4).expect("a lab");
    let space = netns(lab.netns(Side::Client));
    let url = receiver.url();
    let args = ["--netns", &space, "--otlp", &url, "--otlp-interval", "1s"];
    let daemon = Daemon::with(&args, &[("OTEL_EXPORTER_OTLP_TIMEOUT", "2500")]);
    connections(&lab, 50, 1, 0);
    let served = daemon.metrics(|metrics| {
        metrics.of("tcptrace_otlp_dropped_exports_total") >= 2.0
            && metrics.of(r#"tcptrace_transitions_total{from="LAST_ACK",to="CLOSE"}"#) == 50.0
    });
    assert_eq!(served.sum("tcptrace_lost_events_total", ""), 0.0, "{served:#?}");
    let (status, said) = daemon.end(Signal::SIGTERM);
    assert!(status.success(), "{status}: {said:#?}");
    assert!(said.iter().any(|line| line.contains("the last numbers were not pushed")), "{said:#?}");
}
