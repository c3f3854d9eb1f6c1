//! The .rpm: read by itself, by the format's own description (rpm.org, "RPM V4 package format").

use crate::{
    deb,
    dist::{EVERYWHERE, file},
};
use std::{collections::BTreeMap, fs};

/// Tags of the header.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const LICENSE: u32 = 1014;
const MODES: u32 = 1030;
const FLAGS: u32 = 1037;
const REQUIRES: u32 = 1049;
const FOLDER_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const FOLDERS: u32 = 1118;
/// Of a file: configuration, which is kept where it was changed.
const CONFIG: u32 = 1;
const NO_REPLACE: u32 = 1 << 4;
/// Before the headers: what once was the whole format.
const LEAD: usize = 96;
const MAGIC: [u8; 3] = [0x8e, 0xad, 0xe8];

/// One header: what is there of each tag, and how many.
struct Header<'a> {
    values: BTreeMap<u32, (&'a [u8], usize)>,
    length: usize,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        assert_eq!(bytes[..3], MAGIC);
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        let (count, size) = (number(8) as usize, number(12) as usize);
        let store = 16 + count * 16;
        let entry = |index: usize| {
            let at = 16 + index * 16;
            (number(at), (&bytes[store + number(at + 8) as usize..store + size], number(at + 12) as usize))
        };
        Self { values: (0..count).map(entry).collect(), length: store + size }
    }

    fn texts(&self, tag: u32) -> Vec<String> {
        let (bytes, count) = self.values[&tag];
        let texts = bytes.split(|byte| *byte == 0).take(count);
        texts.map(|text| String::from_utf8(text.to_vec()).expect("text")).collect()
    }

    fn numbers<const SIZE: usize>(&self, tag: u32) -> Vec<u32> {
        let (bytes, count) = self.values[&tag];
        let numbers = bytes.chunks_exact(SIZE).take(count);
        numbers.map(|number| number.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))).collect()
    }
}

/// Where each file goes, in the order of the header's other lists.
fn paths_of(header: &Header<'_>) -> Vec<String> {
    let folders = header.texts(FOLDERS);
    let (names, indexes) = (header.texts(BASE_NAMES), header.numbers::<4>(FOLDER_INDEXES));
    let pairs = names.iter().zip(&indexes);
    pairs.map(|(name, index)| format!("{}{name}", folders[*index as usize])).collect()
}

/// The whole file, and where its second header begins: the first one is of its signature.
fn package() -> (Vec<u8>, usize) {
    let bytes = fs::read(file(".rpm")).expect("readable");
    // The next one begins at a multiple of eight.
    let start = LEAD + Header::read(&bytes[LEAD..]).length.next_multiple_of(8);
    (bytes, start)
}

/// What is in it.
pub fn paths() -> Vec<String> {
    let (bytes, start) = package();
    paths_of(&Header::read(&bytes[start..]))
}

#[test]
#[ignore = "needs packages: reads the .rpm"]
fn it_has_the_files_of_the_deb() {
    let (bytes, start) = package();
    let header = Header::read(&bytes[start..]);
    assert_eq!(header.texts(NAME), ["tcptrace"]);
    assert_eq!(header.texts(VERSION), [env!("CARGO_PKG_VERSION")]);
    assert_eq!(header.texts(LICENSE), ["MIT OR Apache-2.0"]);
    let needs: Vec<_> = header.texts(REQUIRES);
    // The package has that one itself.
    let own = |name: &&String| {
        ["/bin/sh", "config(tcptrace)"].contains(&name.as_str()) || name.starts_with("rpmlib(")
    };
    let foreign: Vec<_> = needs.iter().filter(|name| !own(name)).collect();
    assert!(foreign.is_empty(), "a static program needs nothing: {foreign:?}");

    let paths = paths_of(&header);
    let (modes, flags) = (header.numbers::<2>(MODES), header.numbers::<4>(FLAGS));
    let of = |path: &str| {
        let index =
            paths.iter().position(|other| other == path).unwrap_or_else(|| panic!("{path}: {paths:#?}"));
        (modes[index] & 0o7777, flags[index])
    };
    for path in EVERYWHERE {
        let mode = if path.starts_with("/usr/bin/") { 0o755 } else { 0o644 };
        assert_eq!(of(path).0, mode, "{path}");
    }
    let (_, configuration) = of("/etc/sysconfig/tcptrace");
    assert_eq!(configuration & (CONFIG | NO_REPLACE), CONFIG | NO_REPLACE);
    of("/usr/share/licenses/tcptrace/LICENSE-MIT");

    // But for what either distribution has in a place of its own.
    let own = |path: &str| {
        ["/etc/", "/usr/share/doc/", "/usr/share/licenses/", "/usr/share/zsh/"]
            .iter()
            .any(|of| path.starts_with(of))
    };
    let common = |paths: Vec<String>| {
        let mut common: Vec<_> =
            paths.into_iter().filter(|path| !path.ends_with('/') && !own(path)).collect();
        common.sort();
        common
    };
    assert_eq!(common(paths.clone()), common(deb::paths()));
}
