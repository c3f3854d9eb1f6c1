//! Rules about a Rust file by itself: it says what it is, stays small, and has no left-overs.

use super::{Finding, files::File};

/// Where a second job has surely crept in.
const MOST_LINES: usize = 600;
/// Where it is time to look for one.
const MANY_LINES: usize = 400;
/// In two parts, so that this file has none of them.
const LEFTOVERS: [&str; 3] = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME")];

/// The first line says what the file is for; tests say it in their names.
pub fn module_doc(file: &File) -> Vec<Finding> {
    let is_test = file.path.with_extension("").iter().any(|part| part == "tests");
    if !file.is("rs") || is_test || file.text.starts_with("//!") {
        return Vec::new();
    }
    vec![Finding::error(1, "the first line must be a `//!` line that says what this file is for")]
}

/// Small files, each with one job.
pub fn size(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().count();
    if !file.is("rs") || lines <= MANY_LINES {
        return Vec::new();
    }
    match lines {
        ..=MOST_LINES => vec![Finding::warning(lines, format!("{lines} lines: look for a second job in it"))],
        _ => {
            vec![Finding::error(lines, format!("{lines} lines, at most {MOST_LINES}: split it by its jobs"))]
        }
    }
}

/// Work that someone meant to come back to.
pub fn leftovers(file: &File) -> Vec<Finding> {
    let lines = file.lines().filter(|_| file.is("rs"));
    let found = lines.flat_map(|(number, line)| {
        let here = LEFTOVERS.iter().filter(move |word| line.contains(**word));
        here.map(move |word| {
            Finding::error(number, format!("`{word}` is left over: finish it or open an issue"))
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), root: "/".into(), text: text.into() }
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        assert_eq!(module_doc(&file("a/src/lib.rs", "//! Does a.\n")), []);
        assert_eq!(module_doc(&file("a/src/lib.rs", "fn a() {}\n")).len(), 1);
        assert_eq!(module_doc(&file("a/tests/lib.rs", "fn a() {}\n")), []);
        assert_eq!(module_doc(&file("a/src/flow/tests.rs", "fn a() {}\n")), []);
        assert_eq!(module_doc(&file("a/README.md", "# a\n")), []);
    }

    #[test]
    fn long_files_warn_then_fail() {
        let of = |lines: usize| size(&file("a.rs", &"\n".repeat(lines)));
        assert_eq!(of(400), []);
        assert!(of(401)[0].only_warning && of(600)[0].only_warning);
        assert!(!of(601)[0].only_warning);
    }

    #[test]
    fn leftovers_are_found_with_their_line() {
        let text = format!("//! a\nfn a() {{ {}() }}\n// {}: b\n", LEFTOVERS[0], LEFTOVERS[2]);
        let lines: Vec<_> = leftovers(&file("a.rs", &text)).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 3]);
    }
}
