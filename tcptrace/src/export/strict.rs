//! A reader of OpenMetrics text that takes nothing but what the specification allows: what tests compare with.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// A family as it was read.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub unit: String,
    pub help: String,
    /// Name with suffix, labels, value.
    pub samples: Vec<(String, Labels, f64)>,
}

/// Reads everything.
pub fn read(text: &str) -> Result<BTreeMap<String, Family>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut open = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let (what, rest) = rest.split_once(' ').ok_or(line)?;
            let (name, value) = rest.split_once(' ').ok_or(line)?;
            let family = families.entry(name.to_owned()).or_default();
            if name != open {
                if !family.samples.is_empty() || !family.kind.is_empty() {
                    return Err(format!("{name} is there twice"));
                }
                open = name.to_owned();
            }
            let place = match what {
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                "HELP" => &mut family.help,
                _ => return Err(format!("{line}: no such comment")),
            };
            if !place.is_empty() || !family.samples.is_empty() {
                return Err(format!("{line}: too late, or twice"));
            }
            *place = value.to_owned();
        } else {
            let family = families.get_mut(&open).ok_or(line)?;
            family.samples.push(sample(line)?);
        }
    }
    families.iter().try_for_each(|(name, family)| check(name, family))?;
    Ok(families)
}

/// `name{label="value",…} number`
fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let wrong = |why: &str| format!("{line}: {why}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let (name, mut rest) = line.split_at(end);
    let plain = |text: &str| {
        !text.is_empty()
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !plain(name) {
        return Err(wrong("a bad name"));
    }
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").ok_or_else(|| wrong("a label without a value"))?;
            if !plain(label) {
                return Err(wrong("a bad label"));
            }
            let (value, after) = quoted(value).ok_or_else(|| wrong("a bad value of a label"))?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(wrong("a label twice"));
            }
            match after.as_bytes().first() {
                Some(b',') => rest = &after[1..],
                Some(b'}') => {
                    rest = &after[1..];
                    break;
                }
                _ => return Err(wrong("labels without an end")),
            }
        }
    }
    let value = rest.strip_prefix(' ').ok_or_else(|| wrong("no space before the value"))?;
    let value = value.parse().map_err(|_| wrong("the value is no number"))?;
    Ok((name.to_owned(), labels, value))
}

/// Up to the closing quote, escapes undone, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('"' | '\\') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

fn check(name: &str, family: &Family) -> Result<(), String> {
    if family.help.is_empty() || family.samples.is_empty() {
        return Err(format!("{name} has no help, or no sample"));
    }
    if !family.unit.is_empty() && !name.ends_with(&format!("_{}", family.unit)) {
        return Err(format!("{name} does not end with its unit {}", family.unit));
    }
    let suffixes: &[&str] = match family.kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "info" => &["_info"],
        "histogram" => &["_bucket", "_sum", "_count"],
        kind => return Err(format!("{name}: no such type as {kind}")),
    };
    let mut series = BTreeSet::new();
    for (sample, labels, value) in &family.samples {
        if !suffixes.iter().any(|suffix| *sample == format!("{name}{suffix}")) {
            return Err(format!("{sample} is no sample of {name}"));
        }
        if !series.insert((sample, labels)) {
            return Err(format!("{sample} {labels:?} is there twice"));
        }
        if family.kind != "gauge" && (value.is_nan() || *value < 0.0) {
            return Err(format!("{sample} is {value}"));
        }
    }
    if family.kind == "histogram" { buckets(name, family) } else { Ok(()) }
}

/// Cumulative, in order, and the last is all of them.
fn buckets(name: &str, family: &Family) -> Result<(), String> {
    let mut by_series: BTreeMap<Labels, (f64, f64)> = BTreeMap::new();
    for (sample, labels, value) in family.samples.iter().filter(|(sample, ..)| sample.ends_with("_bucket")) {
        let mut rest = labels.clone();
        let limit = rest.remove("le").ok_or_else(|| format!("{sample} without le"))?;
        let limit = if limit == "+Inf" { f64::INFINITY } else { limit.parse().map_err(|_| limit)? };
        let before = by_series.entry(rest).or_insert((f64::NEG_INFINITY, 0.0));
        if limit <= before.0 || *value < before.1 {
            return Err(format!("{sample} {labels:?} is out of order"));
        }
        *before = (limit, *value);
    }
    for (sample, labels, value) in family.samples.iter().filter(|(sample, ..)| sample.ends_with("_count")) {
        if by_series.get(labels) != Some(&(f64::INFINITY, *value)) {
            return Err(format!("{sample} {labels:?}: the last bucket of {name} is another"));
        }
    }
    Ok(())
}

#[test]
fn it_is_strict() {
    let good = "# HELP a b\n# TYPE a counter\na_total{l=\"\\\"\\\\\\n\"} 1\n# EOF\n";
    let families = read(good).unwrap();
    assert_eq!(families["a"].samples[0].1["l"], "\"\\\n");
    for bad in [
        "# HELP a b\n# TYPE a counter\na_total 1\n",
        "# HELP a b\n# TYPE a counter\na 1\n# EOF\n",
        "# HELP a b\n# TYPE a counter\na_total 1\na_total 1\n# EOF\n",
        "# HELP a b\n# TYPE a counter\na_total -1\n# EOF\n",
        "# HELP a b\n# TYPE a counter\na_total{l=\"\\x\"} 1\n# EOF\n",
        "# HELP a b\n# TYPE a counter\n# UNIT a seconds\na_total 1\n# EOF\n",
        "# HELP a b\n# TYPE a gauge\na 1\n# HELP c d\n# TYPE c gauge\nc 1\n# HELP a b\n# TYPE a gauge\na 1\n# EOF\n",
        "# HELP a b\n# TYPE a histogram\na_bucket{le=\"1.0\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n# EOF\n",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}
