//! docs/diagnoses.md says of each rule what the program says.

use crate::diagnose::RULES;

const DOCUMENT: &str = include_str!("../../../../docs/diagnoses.md");

/// Sections about rules, each with its text.
fn sections() -> Vec<(&'static str, &'static str)> {
    DOCUMENT
        .split("\n## ")
        .skip(1)
        .filter_map(|section| {
            let (title, text) = section.split_once('\n')?;
            Some((title.strip_prefix('`')?.strip_suffix('`')?, text))
        })
        .collect()
}

#[test]
fn every_rule_has_a_section_and_every_section_a_rule() {
    let sections = sections();
    let mut titles: Vec<_> = sections.iter().map(|(title, _)| *title).collect();
    let mut names: Vec<_> = RULES.iter().map(|rule| rule.name).collect();
    titles.sort_unstable();
    names.sort_unstable();
    assert_eq!(titles, names);
    for rule in RULES {
        let (_, text) = sections.iter().find(|(title, _)| *title == rule.name).expect("a section");
        let flowing = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // The first sentence; it begins with a capital letter there.
        let sentence = format!("{}.", rule.says.to_lowercase());
        assert!(flowing.to_lowercase().starts_with(&sentence), "{}: {sentence}", rule.name);
        for state in rule.states {
            assert!(flowing.contains(state), "{}: {state}", rule.name);
        }
    }
}
