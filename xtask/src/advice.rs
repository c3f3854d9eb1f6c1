//! Errors that help: what is wrong, why it matters, what to type.

use std::fmt::Write as _;

/// An error with its reason and the ways out of it, one per line.
pub fn advice(what: impl AsRef<str>, why: impl AsRef<str>, ways_out: &[&str]) -> anyhow::Error {
    let mut text = format!("{}\n    why: {}", what.as_ref(), why.as_ref());
    for (number, way) in ways_out.iter().enumerate() {
        let label = if number == 0 { "do: " } else { "or: " };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n    {label} {way}");
    }
    anyhow::Error::msg(text)
}

/// Says an error and its causes on stderr.
pub fn print(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("    because: {cause}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_out_has_its_line() {
        let text = advice("x is missing", "y needs it", &["install x", "use z"]).to_string();
        assert_eq!(text, "x is missing\n    why: y needs it\n    do:  install x\n    or:  use z");
    }
}
