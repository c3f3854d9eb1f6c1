//! The direction of imports: data flows one way through tcptrace, and names are imported the other way.

use super::{Finding, files::File};

/// Where the modules are that the rules are about.
const SOURCES: &str = "tcptrace/src";

/// Which other modules of tcptrace a module may name.
enum May {
    Not(&'static [&'static str]),
    Only(&'static [&'static str]),
}

/// Module, what it may name, and why.
const DIRECTION: [(&str, May, &str); 3] = [
    (
        "flow",
        May::Not(&["source", "view", "export", "cmd", "run"]),
        "the ledger is pure, so that a replay gives the same answer as the live run",
    ),
    (
        "diagnose",
        May::Not(&["view", "wire", "export", "cmd", "run"]),
        "a diagnosis is given a scene, and neither looks nor shows by itself",
    ),
    ("decode", May::Only(&["decode", "event"]), "decoding turns bytes into events and knows nothing else"),
];
/// Files that start commands; to all others commands are the top, where nothing points to.
const MAY_NAME_CMD: [&str; 3] = ["main", "cli", "cmd"];

/// Names of modules that point the wrong way.
pub fn direction(file: &File) -> Vec<Finding> {
    let Ok(inside) = file.path.strip_prefix(SOURCES) else { return Vec::new() };
    if !file.is("rs") {
        return Vec::new();
    }
    let inside = inside.with_extension("");
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    let module = parts.first().map(AsRef::as_ref).unwrap_or_default();
    // In flow.rs and flow/mod.rs `super` is the crate, in flow/retain.rs `super::super` is.
    let depth = parts.iter().filter(|part| *part != "mod").count();
    let named = named_modules(&file.text, depth);
    let ours = named.into_iter().filter(|(_, name)| is_module(file, name));
    ours.filter_map(|(line, name)| Some(Finding::error(line, objection(module, &name)?))).collect()
}

fn objection(module: &str, named: &str) -> Option<String> {
    if named == "cmd" && !MAY_NAME_CMD.contains(&module) {
        return Some(format!(
            "`{module}` must not import `cmd`: commands use the rest, nothing uses commands"
        ));
    }
    let (_, may, why) = DIRECTION.iter().find(|(from, ..)| *from == module)?;
    let wrong = match may {
        May::Not(modules) => modules.contains(&named),
        May::Only(modules) => !modules.contains(&named),
    };
    wrong.then(|| format!("`{module}` must not import `{named}`: {why}"))
}

/// A name behind `crate::` may also be a type; only modules have a direction.
fn is_module(file: &File, name: &str) -> bool {
    let sources = file.root.join(SOURCES);
    sources.join(name).is_dir() || sources.join(format!("{name}.rs")).is_file()
}

/// First names behind the crate's own root, each with its line: of `use crate::{a, b::c}` a and b.
fn named_modules(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code = without_comments(text);
    let roots = ["crate::".to_owned(), "tcptrace::".to_owned(), "super::".repeat(depth)];
    let mut found = Vec::new();
    for root in roots.iter().filter(|root| !root.is_empty()) {
        for (at, _) in code.match_indices(root.as_str()) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue; // the end of a longer name or path
            }
            let after = at + root.len();
            for (offset, name) in first_names(&code[after..]) {
                let line = code[..after + offset].matches('\n').count() + 1;
                found.push((line, name.to_owned()));
            }
        }
    }
    found
}

/// `a::b` gives a; `{a, b::{c, d}, e}` gives a, b and e. With where each begins.
fn first_names(code: &str) -> Vec<(usize, &str)> {
    let Some(group) = code.strip_prefix('{') else {
        return Some((0, name_at(code))).filter(|(_, name)| !name.is_empty()).into_iter().collect();
    };
    let (mut names, mut depth, mut expected) = (Vec::new(), 1, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expected = true,
            _ if expected && (c.is_alphabetic() || c == '_') => {
                names.push((at + 1, name_at(&group[at..])));
                expected = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name_at(code: &str) -> &str {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// Blanks what follows `//`, so that a comment may name any module. Lines stay where they are.
fn without_comments(text: &str) -> String {
    let line = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The lab makes conditions for any tracer to see, so it must not know ours.
pub fn lab_stands_alone(file: &File) -> Vec<Finding> {
    if file.path != *"tcptrace-lab/Cargo.toml" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut in_dependencies = false;
    for (number, line) in file.lines() {
        let name = match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(section) => {
                in_dependencies = section.ends_with("dependencies");
                section.split_once("dependencies.").map_or("", |(_, name)| name)
            }
            None if in_dependencies => line,
            None => "",
        };
        if name.starts_with("tcptrace") {
            let message = "tcptrace-lab must not depend on a tcptrace crate: it is for any tracer";
            findings.push(Finding::error(number, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, depth: usize) -> Vec<(usize, String)> {
        let mut names = named_modules(text, depth);
        names.sort();
        names
    }

    #[test]
    fn groups_give_their_first_names() {
        let text = "use crate::{\n    event::{Event, Kind},\n    view,\n};\nuse crate::run::Loop;\n";
        let expected = [(2, "event"), (3, "view"), (5, "run")].map(|(line, name)| (line, name.to_owned()));
        assert_eq!(names(text, 1), expected);
    }

    #[test]
    fn paths_count_and_comments_do_not() {
        let text = "// see crate::view\nfn a() { crate::source::b() } // crate::cmd\nmy_crate::view::x();\n";
        assert_eq!(names(text, 1), [(2, "source".to_owned())]);
    }

    #[test]
    fn super_counts_where_it_is_the_crate() {
        assert_eq!(names("use super::view;\n", 1), [(1, "view".to_owned())]);
        assert_eq!(names("use super::view;\n", 2), []);
        assert_eq!(names("use super::super::view;\n", 2), [(1, "view".to_owned())]);
    }

    #[test]
    fn the_direction_is_kept() {
        assert!(objection("flow", "view").is_some());
        assert!(objection("flow", "event").is_none());
        assert!(objection("decode", "event").is_none());
        assert!(objection("decode", "flow").is_some());
        assert!(objection("view", "cmd").is_some());
        assert!(objection("cli", "cmd").is_none());
        assert!(objection("cmd", "run").is_none());
    }

    #[test]
    fn the_lab_must_not_know_us() {
        let lab =
            |text: &str| File { path: "tcptrace-lab/Cargo.toml".into(), root: "/".into(), text: text.into() };
        let wrong =
            "[package]\nname = \"tcptrace-lab\"\n[dev-dependencies]\nlibc = \"1\"\ntcptrace-common = \"1\"\n";
        let lines =
            |text: &str| lab_stands_alone(&lab(text)).iter().map(|found| found.line).collect::<Vec<_>>();
        assert_eq!(lines(wrong), [5]);
        assert!(lines("[package]\nname = \"tcptrace-lab\"\n[dependencies]\nlibc = \"1\"\n").is_empty());
        assert_eq!(lines("[dependencies.tcptrace]\n"), [1]);
    }
}
