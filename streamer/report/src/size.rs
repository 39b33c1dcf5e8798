//! `ByteSize`: bytes for people, on the 1024 base with one decimal (`1.3 GiB`).

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        // 1023.95 would print as 1024.0 of the smaller unit.
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        f.pad(&format!("{value:.1} {}", UNITS[unit]))
    }
}

impl FromStr for ByteSize {
    type Err = String;

    /// Reads `1048576`, `64MiB`, `64 MB`, `1.5G`. Every unit is on the 1024 base, as PostgreSQL's are.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = text[number.len()..].trim().to_ascii_lowercase();
        let power = match unit.trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            _ => return Err(format!("{text:?} is not a size; write for example 512MiB")),
        };
        let value: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a size; write for example 512MiB"))?;
        let bytes = value * 1024f64.powi(power);
        if !bytes.is_finite() || bytes < 0.0 || bytes >= 2f64.powi(63) {
            return Err(format!("{text:?} is out of range for a size"));
        }
        Ok(ByteSize(bytes as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_421_272_834, "1.3 GiB"),
            (1 << 20, "1.0 MiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn parses_and_refuses() {
        for (text, bytes) in [
            ("0", 0),
            ("64MiB", 64 << 20),
            ("64 MB", 64 << 20),
            ("1.5k", 1536),
            ("32kB", 32 << 10),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        for bad in ["", "NaN", "inf", "-1", "1x", "1e400", "MiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }
}
