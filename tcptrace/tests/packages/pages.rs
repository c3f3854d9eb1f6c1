//! The pages of `docs`: whoever is told to read one has it.

use crate::{
    deb,
    dist::{file, project, said},
    rpm,
    unit::UNIT,
};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Where packages have them.
const FOLDER: &str = "/usr/share/doc/tcptrace/";

/// The names behind this, as in `docs/events.md`.
fn named(text: &str, folder: &str) -> BTreeSet<String> {
    let behind = text.split(folder).skip(1);
    let name = |text: &str| {
        let stem = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?;
        text[stem.len()..].starts_with(".md").then(|| format!("{stem}.md"))
    };
    behind.filter_map(name).collect()
}

/// All that the manual pages tell to read.
fn of_the_manual() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("made");
    said(Command::new(file("/tcptrace")).arg("manual").arg(&folder));
    let pages = fs::read_dir(&folder).expect("it is there").flatten();
    let text = |page: fs::DirEntry| fs::read_to_string(page.path()).expect("text").replace('\\', "");
    let names = pages.flat_map(|page| named(&text(page), "docs/")).collect();
    fs::remove_dir_all(&folder).expect("removed");
    names
}

#[test]
#[ignore = "needs packages: lists what is in them"]
fn a_package_has_what_its_manual_and_its_unit_name() {
    let manual = of_the_manual();
    for known in ["privileges.md", "events.md", "metrics.md"] {
        assert!(manual.contains(known), "{known}: {manual:?}");
    }
    let unit = fs::read_to_string(project().join(UNIT)).expect("it ships");
    // In the sources that is a page; where it is installed there are none.
    assert_eq!(named(&unit, "docs/"), BTreeSet::new());
    let of_the_unit = named(&unit, FOLDER);
    assert_eq!(of_the_unit, BTreeSet::from(["install.md".to_owned()]));
    for (package, paths) in [(".deb", deb::paths()), (".rpm", rpm::paths())] {
        for name in manual.union(&of_the_unit) {
            assert!(paths.contains(&format!("{FOLDER}{name}")), "{name} in the {package}: {paths:#?}");
        }
    }
}
