//! Whoever upgrades finds every metric again: names, types and labels of the last release are still in docs/metrics.md, which
//! another test compares with the code.
//!
//! `released-metrics.txt` is made anew with each release: `TCPTRACE_RECORD=1 cargo test -p tcptrace --test names`. Before, a
//! line may change only with a word in CHANGELOG.md.
#![allow(clippy::expect_used)] // a test that cannot go on says so

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

const DOCUMENT: &str = include_str!("../../docs/metrics.md");
const RELEASED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/released-metrics.txt");
const HEAD: &str = "# Names, types and labels of the metrics of the last release: see names.rs.\n";

/// What queries depend on.
#[derive(Debug, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

/// The families of docs/metrics.md: `### `name``, a sentence that ends with the type, and a list of labels.
fn documented() -> BTreeMap<String, Metric> {
    let sections = DOCUMENT.split("\n### `").skip(1);
    let metric = |section: &str| {
        let (name, rest) = section.split_once('`').expect("a name");
        let mut lines = rest.lines().filter(|line| !line.is_empty());
        let sentence = lines.next().expect("what it is");
        let kind = sentence.trim_end_matches('.').rsplit(". ").next().expect("a type").to_owned();
        let labels =
            lines.take_while(|line| line.starts_with("- ")).map(|line| match line.split('`').nth(1) {
                Some("--label") => "--label".to_owned(),
                label => label.expect("a label").to_owned(),
            });
        (name.to_owned(), Metric { kind, labels: labels.collect() })
    };
    sections.map(metric).collect()
}

#[test]
fn names_of_the_last_release_are_still_there() {
    let now = documented();
    assert!(now.len() > 20, "the document is read: {now:#?}");
    let line = |(name, metric): (&String, &Metric)| {
        let labels: Vec<_> = metric.labels.iter().map(String::as_str).collect();
        format!("{name}: {}; {}", metric.kind, labels.join(" ")).trim_end().to_owned() + "\n"
    };
    if std::env::var_os("TCPTRACE_RECORD").is_some() {
        fs::write(RELEASED, HEAD.to_owned() + &now.iter().map(line).collect::<String>()).expect("written");
    }
    let released = fs::read_to_string(RELEASED).expect("there");
    let released: Vec<_> = released.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(released.len() > 20, "{released:#?}");
    for line in released {
        let (name, rest) = line.split_once(": ").expect("a name");
        let (kind, labels) = rest.split_once(';').expect("a type");
        let Some(metric) = now.get(name) else {
            panic!("{name} is gone: queries of {name} find nothing any more")
        };
        assert_eq!(metric.kind, kind, "{name}");
        for label in labels.split_whitespace() {
            assert!(metric.labels.contains(label), "{name} has no label {label} any more: {metric:?}");
        }
    }
}
