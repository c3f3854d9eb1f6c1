//! What is made of the definition of the command line: manual pages, and completions for shells.

use crate::run::{COMMANDS, Folder, run};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

/// Hidden commands are for developers: nobody is to find them.
const HIDDEN: [&str; 3] = ["attach-empty", "snapshot", "manual"];

#[test]
fn each_command_has_a_page_with_all_its_flags() {
    let folder = Folder::new();
    let ran = run(&["manual", folder.0.to_str().expect("a plain name")]).expect(0);
    assert!(ran.out.is_empty() && ran.err.is_empty(), "{ran:#?}");
    let read = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).expect("text");
        (entry.file_name().to_string_lossy().into_owned(), text)
    };
    let pages: BTreeMap<_, _> = fs::read_dir(&folder.0).expect("a folder").flatten().map(read).collect();
    let names: BTreeSet<_> = pages.keys().cloned().collect();
    let expected = COMMANDS.iter().map(|name| format!("tcptrace-{name}.1")).chain(["tcptrace.1".to_owned()]);
    assert_eq!(names, expected.collect());

    for name in COMMANDS {
        let page = pages[&format!("tcptrace-{name}.1")].replace("\\-", "-");
        assert!(page.contains(&format!(".TH tcptrace-{name} 1 ")), "{page}");
        let version = concat!("\"tcptrace ", env!("CARGO_PKG_VERSION"), "\"");
        assert!(page.contains(version), "{page}");
        let help = run(&[name, "--help"]).expect(0).stdout();
        let flags = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
        let flags: BTreeSet<_> =
            flags.map(|flag| flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())).collect();
        assert!(flags.len() >= 2, "{help}");
        for flag in flags {
            assert!(page.contains(flag), "{name} {flag}: {page}");
        }
    }
    let all = pages.values().map(String::as_str).collect::<String>();
    HIDDEN.iter().for_each(|hidden| assert!(!all.contains(&format!("tcptrace\\-{hidden}")), "{hidden}"));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let ran = run(&["manual", "/no/such/folder"]).expect(2);
    assert!(ran.stderr().contains("cannot write to /no/such/folder"), "{ran:#?}");
}

#[test]
fn every_shell_gets_all_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).expect(0).stdout();
        for name in COMMANDS {
            assert!(script.contains(name), "{shell} {name}");
        }
        HIDDEN.iter().for_each(|hidden| assert!(!script.contains(hidden), "{shell} {hidden}"));
    }
}

/// What bash offers, by the script itself.
#[test]
fn bash_completes_commands_flags_and_values() {
    let script = run(&["completions", "bash"]).expect(0).stdout();
    let offered = |words: &[&str]| {
        let (word, before) = words.split_last().expect("a word");
        let typed = format!(
            "compopt() {{ :; }} # works only where somebody types\n{script}\nCOMP_WORDS=({}) COMP_CWORD={}\n_tcptrace tcptrace '{word}' '{}'\necho \"${{COMPREPLY[*]}}\"",
            words.join(" "),
            words.len() - 1,
            before.last().expect("the program")
        );
        let done = Command::new("bash").args(["--norc", "-c", &typed]).output().expect("bash starts");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
        said.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered(&["tcptrace", "wat"]), ["watch"]);
    assert_eq!(offered(&["tcptrace", "s"]), ["stat", "stuck"]);
    assert_eq!(offered(&["tcptrace", "export", "--lab"]), ["--label", "--label-top"]);
    assert_eq!(offered(&["tcptrace", "watch", "--format", "j"]), ["json"]);
    assert_eq!(offered(&["tcptrace", "stuck", "--state", "FIN"]), ["FIN_WAIT1", "FIN_WAIT2"]);
    assert_eq!(offered(&["tcptrace", "completions", "z"]), ["zsh"]);
    // No file's name: what is typed stays.
    assert_eq!(offered(&["tcptrace", "watch", "--port", "/et"]), ["/et"]);
    assert_eq!(offered(&["tcptrace", "watch", "--from", "/et"]), ["/etc"]);
}

#[test]
fn zsh_and_fish_are_told_of_values() {
    let zsh = run(&["completions", "zsh"]).expect(0).stdout();
    let line = |script: &str, parts: &[&str]| {
        script.lines().any(|line| parts.iter().all(|part| line.contains(part)))
    };
    assert!(line(&zsh, &["--state=", ":STATE:(ESTABLISHED SYN_SENT"]), "{zsh}");
    assert!(line(&zsh, &[":shell", "bash\\:"]) || zsh.contains(":(bash zsh fish)"), "{zsh}");
    assert!(line(&zsh, &["--from=", ":FILE:_files"]), "{zsh}");
    assert!(line(&zsh, &["--uid=", ":USER:_users"]), "{zsh}");
    let fish = run(&["completions", "fish"]).expect(0).stdout();
    assert!(line(&fish, &["using_subcommand stuck", "-l state", " -r -f -a \"ESTABLISHED\\t"]), "{fish}");
    assert!(line(&fish, &["using_subcommand completions\" -f -a \"bash zsh fish\""]), "{fish}");
    assert!(line(&fish, &["using_subcommand watch", "-l from", " -r -F"]), "{fish}");
}
