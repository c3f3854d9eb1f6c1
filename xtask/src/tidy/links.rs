//! Links in the documentation that lead to files must lead somewhere.

use super::{Finding, files::File};

/// Local links of a markdown file; the web is not asked.
pub fn resolve(file: &File) -> Vec<Finding> {
    if !file.is("md") {
        return Vec::new();
    }
    let mut in_code = false;
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        let links = if in_code { Vec::new() } else { targets(line) };
        for target in links.into_iter().filter(|target| leads_nowhere(file, target)) {
            findings.push(Finding::error(number, format!("`{target}` leads to no file")));
        }
    }
    findings
}

fn leads_nowhere(file: &File, target: &str) -> bool {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    if elsewhere || path.is_empty() {
        return false;
    }
    let file_path = file.root.join(&file.path);
    let from = if path.starts_with('/') { Some(file.root.as_path()) } else { file_path.parent() };
    let place = from.map(|folder| folder.join(path.trim_start_matches('/')));
    !place.is_some_and(|place| place.exists())
}

/// Where the links of a line lead: `[text](target "title")` and `[name]: target`.
fn targets(line: &str) -> Vec<String> {
    // What is between back-ticks is code: every second piece.
    let prose: Vec<_> = line.split('`').step_by(2).collect();
    let prose = prose.join("code");
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let definition =
        prose.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let definition = definition.and_then(|target| target.split_whitespace().next());
    let bare = |target: &str| target.trim_matches(['<', '>']).to_owned();
    inline.chain(definition).map(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_link_is_read() {
        let line = "see [a](a.md) and ![b](<b.svg>) or [c](c.md#part \"title\"), not `[d](d.md)`";
        assert_eq!(targets(line), ["a.md", "b.svg", "c.md#part"]);
        assert_eq!(targets("[e]: docs/e.md \"title\""), ["docs/e.md"]);
        assert_eq!(targets("no link: [ ] or (x)"), Vec::<String>::new());
    }

    #[test]
    fn only_local_links_are_looked_up() {
        let text = "[a](tidy/links.rs)\n[b](https://example.org/x)\n[c](#here)\n[d](gone.md)\n\
                    ```\n[e](gone.md)\n```\n[f](/src/main.rs#top)\n";
        let root = env!("CARGO_MANIFEST_DIR").into();
        let file = File { path: "src/a.md".into(), root, text: text.into() };
        let found = resolve(&file);
        assert_eq!(found, [Finding::error(4, "`gone.md` leads to no file")]);
    }
}
