//! docs/metrics.md, made from the code: `TCPTRACE_RECORD=1 cargo test -p tcptrace --lib metrics_are_documented` writes it anew.

use super::{
    collect::{GIVE_UP_NS, Label},
    model::{BUCKETS_NS, FAMILIES, Family, Type, Unit},
};
use clap::ValueEnum;
use std::fmt::Write;

const HEAD: &str = include_str!("document.md");

fn page() -> String {
    let labels: Vec<_> = Label::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect();
    let mut rows = String::new();
    for label in labels {
        let help = label.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(rows, "| `{}` | {help} |", label.get_name()).unwrap();
    }
    let buckets: Vec<_> = BUCKETS_NS.iter().map(|ns| (*ns as f64 / 1e9).to_string()).collect();
    let mut page = HEAD
        .replace("{labels}\n", &rows)
        .replace("{give_up}", &(GIVE_UP_NS / 60_000_000_000).to_string())
        .replace("{buckets}", &buckets.join(", "));
    for family in FAMILIES {
        section(&mut page, family);
    }
    page
}

fn section(page: &mut String, family: &Family) {
    let kind = match family.kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram => "histogram",
        Type::Info => "info",
    };
    let unit = match family.unit {
        Some(Unit::Seconds) => " of seconds",
        Some(Unit::Bytes) => " of bytes",
        None => "",
    };
    writeln!(page, "\n### `{}`\n\n{}. {kind}{unit}.", family.sample_name(), family.help).unwrap();
    let mut labels: Vec<_> = family.labels.iter().map(|(name, says)| format!("- `{name}`: {says}")).collect();
    if family.grouped {
        labels.push("- the labels of `--label`".into());
    }
    if !labels.is_empty() {
        writeln!(page, "\n{}", labels.join("\n")).unwrap();
    }
}

#[test]
fn metrics_are_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = page();
    if std::env::var_os("TCPTRACE_RECORD").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == page,
        "docs/metrics.md is not what the code says: see the first line of export/document.rs"
    );
}
