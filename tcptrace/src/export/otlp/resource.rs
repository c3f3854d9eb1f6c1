//! Who pushes: resource attributes by the semantic conventions.

use nix::sys::utsname::uname;
use std::env::consts;

/// Program and host, without what the environment adds.
pub fn detected() -> Vec<(String, String)> {
    let mut found = vec![("service.name", "tcptrace".to_owned())];
    found.push(("service.version", env!("CARGO_PKG_VERSION").to_owned()));
    found.push(("os.type", consts::OS.to_owned()));
    if let Some(arch) = arch(consts::ARCH) {
        found.push(("host.arch", arch.to_owned()));
    }
    if let Ok(names) = uname() {
        let host = names.nodename().to_string_lossy();
        if !host.is_empty() {
            found.push(("host.name", host.clone().into_owned()));
            // Without it the numbers of a fleet would be one service's: receivers take it for Prometheus' `instance`.
            found.push(("service.instance.id", host.into_owned()));
        }
        found.push(("os.version", names.release().to_string_lossy().into_owned()));
    }
    found.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Sets an attribute, in place of one of the same name.
pub fn set(attributes: &mut Vec<(String, String)>, key: &str, value: String) {
    match attributes.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = value,
        None => attributes.push((key.to_owned(), value)),
    }
}

/// The conventions' own names; `None`: they have none.
fn arch(rust: &str) -> Option<&'static str> {
    Some(match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "arm32",
        "x86" => "x86",
        "powerpc64" => "ppc64",
        "s390x" => "s390x",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_who_pushes() {
        let found = detected();
        for key in
            ["service.name", "service.version", "service.instance.id", "host.name", "os.type", "os.version"]
        {
            assert!(found.iter().any(|(known, value)| known == key && !value.is_empty()), "{key}: {found:?}");
        }
    }

    #[test]
    fn a_later_value_counts() {
        let mut attributes = vec![("a".to_owned(), "1".to_owned())];
        set(&mut attributes, "a", "2".to_owned());
        set(&mut attributes, "b", "3".to_owned());
        assert_eq!(attributes, [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "3".to_owned())]);
    }
}
