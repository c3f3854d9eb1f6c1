//! What is written, as it is written, and read back.

use super::*;
use crate::{
    export::{
        model::{BUILD, CPU, DWELL, FAMILIES, LOST, MEMORY, SOCKETS},
        strict,
    },
    hist::Dwell,
};
use proptest::prelude::*;

fn sample(labels: &[(&'static str, &str)], value: Value) -> Sample {
    let labels = labels.iter().map(|(name, value)| (*name, value.to_string().into())).collect();
    Sample { labels, value, began_unix_ns: None }
}

fn snapshot(families: Vec<(&'static Family, Vec<Sample>)>) -> Arc<Snapshot> {
    Arc::new(Snapshot { families, ..Snapshot::default() })
}

fn example() -> Arc<Snapshot> {
    let mut dwell = Dwell::default();
    [300_000, 20_000_000, 61_000_000_000].iter().for_each(|ns| dwell.record(*ns));
    snapshot(vec![
        (&BUILD, vec![sample(&[("version", "1"), ("kernel", "6.1 \"x\"")], Value::Info)]),
        (&DWELL, vec![sample(&[("state", "TIME_WAIT"), ("port", "80")], Value::Times(Arc::new(dwell)))]),
        (&SOCKETS, vec![sample(&[("state", "LISTEN")], Value::Number(3.0))]),
        (&LOST, vec![sample(&[("kind", "reset")], Value::Count(u64::MAX))]),
        (&CPU, vec![sample(&[], Value::Number(0.25))]),
        (&MEMORY, vec![sample(&[], Value::Number(1_048_576.0))]),
    ])
}

const OPENMETRICS: &str = r##"# HELP tcptrace_build What is running
# TYPE tcptrace_build info
tcptrace_build_info{version="1",kernel="6.1 \"x\""} 1
# HELP tcptrace_state_duration_seconds Time spent in the state, when it is left; only where its beginning was seen
# TYPE tcptrace_state_duration_seconds histogram
# UNIT tcptrace_state_duration_seconds seconds
tcptrace_state_duration_seconds_sum{state="TIME_WAIT",port="80"} 61.0203
tcptrace_state_duration_seconds_count{state="TIME_WAIT",port="80"} 3
tcptrace_state_duration_seconds_bucket{le="0.0001",state="TIME_WAIT",port="80"} 0
tcptrace_state_duration_seconds_bucket{le="0.001",state="TIME_WAIT",port="80"} 1
tcptrace_state_duration_seconds_bucket{le="0.01",state="TIME_WAIT",port="80"} 1
tcptrace_state_duration_seconds_bucket{le="0.1",state="TIME_WAIT",port="80"} 2
tcptrace_state_duration_seconds_bucket{le="0.5",state="TIME_WAIT",port="80"} 2
tcptrace_state_duration_seconds_bucket{le="1.0",state="TIME_WAIT",port="80"} 2
tcptrace_state_duration_seconds_bucket{le="3.0",state="TIME_WAIT",port="80"} 2
tcptrace_state_duration_seconds_bucket{le="10.0",state="TIME_WAIT",port="80"} 2
tcptrace_state_duration_seconds_bucket{le="30.0",state="TIME_WAIT",port="80"} 2
tcptrace_state_duration_seconds_bucket{le="65.0",state="TIME_WAIT",port="80"} 3
tcptrace_state_duration_seconds_bucket{le="300.0",state="TIME_WAIT",port="80"} 3
tcptrace_state_duration_seconds_bucket{le="3600.0",state="TIME_WAIT",port="80"} 3
tcptrace_state_duration_seconds_bucket{le="86400.0",state="TIME_WAIT",port="80"} 3
tcptrace_state_duration_seconds_bucket{le="+Inf",state="TIME_WAIT",port="80"} 3
# HELP tcptrace_sockets Sockets by their true state, half-open requests and minisockets included, as far as they are in the table
# TYPE tcptrace_sockets gauge
tcptrace_sockets{state="LISTEN"} 3.0
# HELP tcptrace_lost_events Events that found the ring full, or that the kernel skipped
# TYPE tcptrace_lost_events counter
tcptrace_lost_events_total{kind="reset"} 18446744073709551615
# HELP tcptrace_process_cpu_seconds Processor time that tcptrace used
# TYPE tcptrace_process_cpu_seconds counter
# UNIT tcptrace_process_cpu_seconds seconds
tcptrace_process_cpu_seconds_total 0.25
# HELP tcptrace_process_resident_memory_bytes Memory that tcptrace has resident
# TYPE tcptrace_process_resident_memory_bytes gauge
# UNIT tcptrace_process_resident_memory_bytes bytes
tcptrace_process_resident_memory_bytes 1048576.0
# EOF
"##;

#[test]
fn openmetrics_as_it_is_written() {
    assert_eq!(text(&example()).unwrap(), OPENMETRICS);
    strict::read(OPENMETRICS).unwrap();
}

/// The same samples; other comments.
#[test]
fn the_older_text_has_the_same_samples() {
    let older = classic(&example()).unwrap();
    let samples = |text: &str| {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&older), samples(OPENMETRICS));
    let comments: Vec<_> = older.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert_eq!(
        comments,
        [
            "# TYPE tcptrace_build_info gauge",
            "# TYPE tcptrace_state_duration_seconds histogram",
            "# TYPE tcptrace_sockets gauge",
            "# TYPE tcptrace_lost_events_total counter",
            "# TYPE tcptrace_process_cpu_seconds_total counter",
            "# TYPE tcptrace_process_resident_memory_bytes gauge",
        ]
    );
    assert!(older.contains("# HELP tcptrace_lost_events_total Events that found the ring full"), "{older}");
    assert!(!older.contains("# UNIT") && !older.contains("# EOF"), "{older}");
}

/// The encoder does not escape them.
#[test]
fn help_needs_no_escapes() {
    for family in FAMILIES {
        assert!(!family.help.contains(['\\', '\n', '"']), "{}", family.name);
    }
}

proptest! {
    #[test]
    fn any_value_of_a_label_is_read_back(value in any::<String>()) {
        let written = text(&snapshot(vec![(&LOST, vec![sample(&[("kind", &value)], Value::Count(1))])])).unwrap();
        let families = strict::read(&written).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&families["tcptrace_lost_events"].samples[0].1["kind"], &value);
    }
}
