//! What ships in `packaging/` fits the program: every metric, finding, state and cause in it exists, every finding has an alert,
//! promtool takes all of it and the alerts fire when they should.
#![allow(clippy::expect_used)] // a test that cannot go on says so

#[path = "support/tools.rs"]
mod tools;

use clap::Parser as _;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tcptrace::{
    cli::Cli,
    diagnose::RULES,
    event::TcpState,
    export::model::{FAMILIES, Family, Type, Unit},
};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_path_buf()
}

fn read(file: &str) -> String {
    fs::read_to_string(project().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

const ALERTS: &str = "packaging/prometheus/alerts.yml";
const ALERTS_TEST: &str = "packaging/prometheus/alerts_test.yml";
const PROMETHEUS: &str = "packaging/prometheus/prometheus.yml";
const DASHBOARD: &str = "packaging/grafana/tcptrace.json";

/// Everything the dashboard asks of Prometheus, with Grafana's variables replaced as it would do.
fn dashboard_expressions() -> Vec<String> {
    fn collect(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, into));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut expressions = Vec::new();
    collect(&serde_json::from_str(&read(DASHBOARD)).expect("JSON"), &mut expressions);
    assert!(expressions.len() > 20, "the dashboard asks only {} things", expressions.len());
    for expression in &mut expressions {
        for (variable, value) in
            [("$__rate_interval", "5m"), ("$job", ".*"), ("$instance", ".*"), ("$state", "FIN_WAIT1")]
        {
            *expression = expression.replace(variable, value);
        }
        assert!(!expression.contains('$'), "a variable that nobody replaces: {expression}");
    }
    expressions
}

/// The queries behind the dashboard's variables.
fn variable_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    variables.iter().filter_map(|variable| variable["definition"].as_str().map(str::to_owned)).collect()
}

/// What a family is called in Prometheus' text.
fn series_names(family: &Family) -> Vec<String> {
    let unit = match family.unit {
        Some(Unit::Seconds) => "_seconds",
        Some(Unit::Bytes) => "_bytes",
        None => "",
    };
    let suffixes: &[&str] = match family.kind {
        Type::Counter => &["_total"],
        Type::Gauge => &[""],
        Type::Info => &["_info"],
        // Without a suffix: the native one.
        Type::Histogram => &["", "_bucket", "_sum", "_count"],
    };
    suffixes.iter().map(|suffix| format!("{}{unit}{suffix}", family.name)).collect()
}

/// Words that look like a metric of ours. Those of recording rules have a colon before or after them.
fn metrics(text: &str) -> Vec<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !part(c));
    words.filter(|word| word.starts_with("tcptrace_") && !word.contains(':')).collect()
}

/// The values that matchers of this label name, alternatives of a regular expression apart.
fn matched<'a>(text: &'a str, label: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for operator in ["=\"", "=~\"", "!=\"", "!~\""] {
        for rest in text.split(&format!("{label}{operator}")).skip(1) {
            let values = rest.split('"').next().unwrap_or_default();
            found.extend(values.split('|').filter(|value| !value.is_empty()));
        }
    }
    found
}

/// Name and text of each alert.
fn alerts(text: &str) -> Vec<(&str, &str)> {
    let blocks = text.split("- alert: ").skip(1);
    blocks.map(|block| block.split_once('\n').expect("more than a name")).collect()
}

#[test]
fn every_metric_exists() {
    let names: Vec<_> = FAMILIES.iter().flat_map(|family| series_names(family)).collect();
    let mut texts: Vec<_> = [ALERTS, ALERTS_TEST, "docs/fleet.md"].map(|file| (file, read(file))).into();
    texts.extend(dashboard_expressions().into_iter().map(|expression| (DASHBOARD, expression)));
    texts.extend(variable_queries().into_iter().map(|query| (DASHBOARD, query)));
    let mut seen = 0;
    for (file, text) in &texts {
        for metric in metrics(text) {
            assert!(names.iter().any(|name| name == metric), "{file}: no metric is called {metric}");
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} metrics were found: is the search broken?");
}

#[test]
fn every_label_and_every_value_exists() {
    let findings: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    let states: Vec<_> = TcpState::ALL.iter().map(|state| state.name()).collect();
    // The page that the metric refers to.
    let events = read("docs/events.md");
    let rows = events.lines().skip_while(|line| *line != "| cause | meaning |").skip(2);
    let causes = rows.take_while(|line| line.starts_with("| `")).filter_map(|line| line.split('`').nth(1));
    let causes: Vec<_> = causes.collect();
    let known: [(&str, &[&str]); 7] = [
        ("finding", &findings),
        ("state", &states),
        ("from", &states),
        ("to", &states),
        ("cause", &causes),
        ("segment", &["syn", "syn-ack", "fin", "data", "unknown"]),
        ("direction", &["sent", "received"]),
    ];
    let mut text = read(ALERTS) + &dashboard_expressions().join("\n");
    // Of alerts themselves, which have a state, too.
    text = text.replace("alertstate=", "");
    for (label, values) in known {
        let labelled = FAMILIES.iter().any(|family| family.labels.iter().any(|(name, _)| *name == label));
        assert!(labelled, "no metric has the label {label}");
        for value in matched(&text, label) {
            assert!(values.contains(&value), "{label}=\"{value}\" never matches: it is one of {values:?}");
        }
    }
    for by in text.split(" by (").skip(1) {
        for label in by.split(')').next().unwrap_or_default().split(", ") {
            let ours = FAMILIES.iter().any(|family| family.labels.iter().any(|(name, _)| *name == label));
            assert!(ours || ["job", "instance", "le"].contains(&label), "by ({label}): no metric has it");
        }
    }
}

#[test]
fn every_finding_has_an_alert() {
    let text = read(ALERTS);
    let watched = matched(&text, "finding");
    for rule in RULES {
        assert!(watched.contains(&rule.name), "no alert is about {}", rule.name);
    }
}

#[test]
fn every_alert_is_tested() {
    let tests = read(ALERTS_TEST);
    for (name, _) in alerts(&read(ALERTS)) {
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{ALERTS_TEST} never has {name} fire");
    }
}

#[test]
fn every_alert_leads_on() {
    for (name, text) in alerts(&read(ALERTS)) {
        for part in ["for: ", "severity: ", "summary: ", "description: "] {
            assert!(text.contains(part), "{name} has no `{part}`");
        }
        let link = text.split("runbook_url: ").nth(1).and_then(|rest| rest.lines().next()).expect(name);
        let (page, section) = link.split_once('#').expect("a section");
        let page = read(page);
        let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
        let slugs = headings.map(|heading| heading.replace('`', "").to_lowercase().replace(' ', "-"));
        assert!(slugs.into_iter().any(|slug| slug == section), "{name}: there is no {link}");

        for typed in text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("tcptrace ")) {
            if let Err(error) = Cli::try_parse_from(typed.split_whitespace()) {
                panic!("{name} says to type `{typed}`: {error}");
            }
        }
        let type_next = text.contains("Type there: `tcptrace ") || name.starts_with("Tcptrace");
        assert!(type_next, "{name} does not say what to type next");
    }
}

#[test]
#[ignore = "needs prometheus: promtool checks the rules and runs their tests"]
fn promtool_runs_the_tests_of_the_alerts() {
    promtool(&["check", "rules", "--lint-fatal", ALERTS]);
    let said = promtool(&["test", "rules", ALERTS_TEST]);
    assert!(said.contains("SUCCESS"), "{said}");
    promtool(&["check", "config", PROMETHEUS]);
}

#[test]
#[ignore = "needs prometheus: promtool parses what the dashboard asks"]
fn promtool_takes_what_the_dashboard_asks() {
    let number = |(number, expression): (usize, &String)| json!({"record": format!("dashboard:{number}"), "expr": expression});
    let rules: Vec<_> = dashboard_expressions().iter().enumerate().map(number).collect();
    // JSON is YAML, too.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard-rules.yml");
    fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string())
        .expect("written");
    let said = promtool(&["check", "rules", file.to_str().expect("UTF-8")]);
    assert!(said.contains(&format!("{} rules found", rules.len())), "{said}");
}

/// Runs promtool in the project's folder; what it says.
fn promtool(words: &[&str]) -> String {
    let done = Command::new(tools::tool("promtool"))
        .args(words)
        .current_dir(project())
        .output()
        .expect("promtool starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "promtool {}: {said}", words.join(" "));
    said
}
