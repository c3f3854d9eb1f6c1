//! `tcptrace diff`: what is refused, and what it says of two recordings.

use crate::run::*;
use crate::works::*;
use serde_json::Value;
use tcptrace_lab::{Family, Lab};

/// As [`crate::refused::REFUSED`].
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["diff"], &["<A>", "<B>"]),
    (&["diff", "a.tct"], &["<B>"]),
    (&["diff", "a.tct", "b.tct", "c.tct"], &["'c.tct'", "--help"]),
    (&["diff", "-", "b.tct"], &["standard input", "two files"]),
    (&["diff", "a.tct", "-"], &["standard input", "two files"]),
    (&["diff", "/no/such/a.tct", "/no/such/b.tct"], &["/no/such/a.tct", "No such file"]),
    (&["diff", "/proc/self/status", "/proc/self/status"], &["/proc/self/status", "not a tcptrace recording"]),
    (&["diff", "a.tct", "b.tct", "--netns", "red"], &["--netns", "\"red\"", "by number"]),
    (&["diff", "a.tct", "b.tct", "--state", "OPEN"], &["--state", "\"OPEN\"", "is not a TCP state"]),
    (&["diff", "a.tct", "b.tct", "--format", "xml"], &["--format", "'xml'", "text, json"]),
];

/// A recording of so many connections.
fn record(folder: &Folder, name: &str, connections: usize) -> String {
    let lab = Lab::new(Family::V4).expect("a lab");
    let path = folder.0.join(name).to_str().expect("a plain name").to_owned();
    let mut running = Running::start(program(&["record", &path], &["--netns", &here(&lab)]));
    assert!(running.err.wait(|line| line.contains("recording to")), "{:#?}", running.err.lines);
    (0..connections).for_each(|_| traffic(&lab));
    running.stop().expect(0);
    path
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn what_differs_is_told_first_and_the_rest_is_what_hist_says() {
    let folder = Folder::new();
    let (few, many) = (record(&folder, "few.tct", 1), record(&folder, "many.tct", 40));
    let ran = run(&["diff", &few, &many]).expect(0);
    assert!(ran.out[0].starts_with(&format!("A {few}: {TRANSITIONS} transitions in ")), "{ran:#?}");
    assert!(ran.out[1].starts_with(&format!("B {many}: {} transitions in ", 40 * TRANSITIONS)), "{ran:#?}");
    let [changes, table] = ["what differs most", "FROM "].map(|start| {
        ran.out.iter().position(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {ran:#?}"))
    });
    assert!(changes < table, "{ran:#?}");
    let opened = |line: &&String| line.contains("SYN_SENT    -> ESTABLISHED");
    let row: Vec<_> = ran.out[table..].iter().find(opened).expect("a row").split_whitespace().collect();
    assert_eq!(row[3..5], ["1", "40"], "{ran:#?}");

    let same = run(&["diff", &many, &many]).expect(0);
    assert!(same.stdout().contains("nothing differs"), "{same:#?}");

    let line = run(&["diff", &few, &many, "--format", "json"]).expect(0).json().remove(0);
    for (side, path) in [("a", &few), ("b", &many)] {
        let hist = run(&["hist", "--from", path, "--format", "json"]).expect(0).json();
        let all = hist.iter().find(|line| line["group"] == "all").expect("one");
        for field in ["matrix", "inferred", "transitions", "duration_ns", "open", "counted_by"] {
            assert_eq!(line[side][field], all[field], "{side} {field}");
        }
        for pair in all["pairs"].as_array().expect("pairs") {
            let same = |of: &&Value| of["from"] == pair["from"] && of["to"] == pair["to"];
            let pairs = line["pairs"].as_array().expect("pairs");
            let mine = &pairs.iter().find(same).unwrap_or_else(|| panic!("{pair}: {line}"))[side];
            for field in ["transitions", "inferred", "count", "p50_ns", "max_ns", "buckets", "at_least"] {
                assert_eq!(mine[field], pair[field], "{side} {field}: {pair}");
            }
        }
    }
    let rate = |change: &Value| change["what"] == "rate" && change["to"] == "SYN_SENT";
    let changes = line["changes"].as_array().expect("changes");
    let change = changes.iter().find(|change| rate(change)).unwrap_or_else(|| panic!("{line}"));
    assert!(change["b_per_second"].as_f64() > change["a_per_second"].as_f64(), "{change}");
}
