//! Figures from several rounds: the one in the middle, and how far the others are from it.

use anyhow::{Context as _, Result};

/// The middle one of several values, and the outermost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Half of them are below.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = sorted.first().zip(sorted.last()).context("no round was measured")?;
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Ok(Self { median, min: *min, max: *max })
    }

    /// Rounds lie on both sides of it; one that lies on it is on neither.
    pub fn straddles(&self, target: f64) -> bool {
        self.min < target && target < self.max
    }

    /// `97.1 % (96.5 to 97.9)`
    pub fn show(&self, decimals: usize, unit: &str) -> String {
        let space = if unit.is_empty() { "" } else { " " };
        let [median, min, max] = [self.median, self.min, self.max].map(|value| number(value, decimals));
        format!("{median}{space}{unit} ({min} to {max})")
    }
}

/// With so many decimals, and thousands set apart: `21,300`, `0.49`.
pub fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut grouped = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// A size in MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A size in the largest unit that leaves a whole number: `64 KiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(odd, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert!(Spread::of([]).is_err());
    }

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!(Spread::of([97.14, 96.5, 98.0]).unwrap().show(1, "%"), "97.1 % (96.5 to 98.0)");
        assert_eq!(Spread::of([3.0]).unwrap().show(0, ""), "3 (3 to 3)");
        for (value, decimals, text) in [
            (21_300.4, 0, "21,300"),
            (1_234_567.0, 0, "1,234,567"),
            (0.494, 2, "0.49"),
            (-1234.5, 1, "-1,234.5"),
        ] {
            assert_eq!(number(value, decimals), text);
        }
        assert_eq!(number(999.0, 0), "999");
        assert_eq!([64, 65_536, 1 << 20].map(size), ["64 bytes", "64 KiB", "1 MiB"]);
    }
}
