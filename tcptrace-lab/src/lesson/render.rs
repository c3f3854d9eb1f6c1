//! Makes a lesson a text of at most a hundred columns.

use super::{diagram, states::STATES};
use crate::Scenario;

/// The width that text is broken at, in characters.
const WIDTH: usize = 98;

/// The whole lesson of a scenario; the values of settings are those of the calling thread's network namespace.
pub(crate) fn render(scenario: &Scenario) -> String {
    let lesson = scenario.lesson;
    let mut page = Page(String::new());
    page.paragraph("", &format!("{}: {}", scenario.name, scenario.title));
    page.blank();
    page.paragraph("", lesson.story);

    page.heading("The way through the states (C the client, S the server; heavy lines: this scenario)");
    for line in diagram::draw(lesson.client, lesson.server) {
        page.line(&line);
    }
    page.blank();
    for (who, path) in [("C", lesson.client), ("S", lesson.server)] {
        let way = if path.is_empty() { "no end of its own".to_owned() } else { path.join(" → ") };
        page.paragraph(&format!("{who}  "), &way);
    }

    page.heading("What the states mean");
    let on_the_way = |state: &str| lesson.client.contains(&state) || lesson.server.contains(&state);
    for (state, meaning) in STATES.iter().filter(|(state, _)| on_the_way(state)) {
        page.paragraph(&format!("{state:<13}"), meaning);
    }

    if !lesson.sysctls.is_empty() {
        page.heading("What governs it");
        for sysctl in lesson.sysctls {
            let here = sysctl.here().unwrap_or_else(|| "not to be seen".to_owned());
            let value = format!("{}; default {}; here {here}", sysctl.unit, sysctl.default);
            page.paragraph(&format!("{}  ", sysctl.name), &value);
            page.paragraph("    ", sysctl.governs);
        }
    }

    page.heading("What is often believed");
    for belief in lesson.beliefs {
        page.paragraph("-  ", &format!("\"{}\"", belief.believed));
        page.paragraph("   ", belief.truth);
    }

    page.heading("Instead of");
    for instead in lesson.instead {
        page.line(&format!("$  {}", instead.command));
        page.paragraph("   ", instead.shows);
    }

    page.heading("What a diagnosis says of it");
    let findings = scenario.findings;
    if findings.is_empty() {
        page.paragraph("", "Nothing: this is how it should be.");
    }
    for (side, name) in findings {
        page.paragraph(&format!("{name}  "), &format!("at the {side}"));
    }
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn blank(&mut self) {
        self.line("");
    }

    fn heading(&mut self, text: &str) {
        self.blank();
        self.line(text);
        self.line(&"─".repeat(text.chars().count()));
    }

    /// Text behind a first word or mark, its further lines set in as far; a long mark sets in by four only.
    fn paragraph(&mut self, mark: &str, text: &str) {
        let mark_len = mark.chars().count();
        let indent = if mark_len > 16 { 4 } else { mark_len };
        let mut line = mark.to_owned();
        let mut empty = true;
        for word in text.split_whitespace() {
            if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line);
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.line(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SCENARIOS;

    #[test]
    fn no_line_is_longer_than_a_hundred_columns() {
        for scenario in SCENARIOS {
            for line in render(scenario).lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", scenario.name);
                assert_eq!(line, line.trim_end(), "{}", scenario.name);
            }
        }
    }

    #[test]
    fn every_part_is_there() {
        for scenario in SCENARIOS {
            let text = render(scenario);
            for part in
                ["The way through", "What the states mean", "often believed", "Instead of", "diagnosis"]
            {
                assert!(text.contains(part), "{}: {part}", scenario.name);
            }
            for command in scenario.replaces.split("; ") {
                assert!(text.contains(command), "{}: {command}", scenario.name);
            }
            for (_, finding) in scenario.findings {
                assert!(text.contains(finding), "{}: {finding}", scenario.name);
            }
        }
    }

    #[test]
    fn long_text_is_broken_between_words() {
        let mut page = Page(String::new());
        page.paragraph("-  ", &"word ".repeat(40));
        let lines: Vec<_> = page.0.lines().collect();
        assert!(lines.len() > 1 && lines[0].starts_with("-  word") && lines[1].starts_with("   word"));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH && line.ends_with("word")));
    }
}
