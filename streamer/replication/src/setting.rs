//! What the server says about itself in text: its version and durations.

use std::time::Duration;

use hardstorage_report::{Error, Result, code};

/// The majors that this client knows.
const SUPPORTED: std::ops::RangeInclusive<u32> = 15..=18;

/// `server_version` as `server_version_num` has it: `15.18 (Debian 15.18-0)` is 150018, `18beta1` is 180000.
pub(crate) fn version_num(text: &str) -> Option<u32> {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (major, rest) = text.split_at(digits(text));
    let minor = rest.strip_prefix('.').map_or("", |rest| &rest[..digits(rest)]);
    let minor = if minor.is_empty() { 0 } else { minor.parse().ok()? };
    let major: u32 = major.parse().ok()?;
    (minor < 10_000).then_some(())?;
    major.checked_mul(10_000)?.checked_add(minor)
}

/// Accepts a server of the supported majors.
pub(crate) fn supported(text: &str) -> Result<u32> {
    match version_num(text) {
        Some(number) if SUPPORTED.contains(&(number / 10_000)) => Ok(number),
        _ => Err(Error::new(
            code::replication::VERSION,
            format!("the server says that it is PostgreSQL {}", text.escape_debug()),
        )),
    }
}

/// A duration as SHOW prints it (`1min`, `2s`, `500ms`, `0`); a bare number counts milliseconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let micros: u64 = match unit {
        "us" => 1,
        "" | "ms" => 1_000,
        "s" => 1_000_000,
        "min" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return None,
    };
    number.checked_mul(micros).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions() {
        for (text, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", Some(150_018)),
            ("18.6", Some(180_006)),
            ("18beta2", Some(180_000)),
            ("19devel", Some(190_000)),
            ("9.6.24", Some(90_006)),
            ("", None),
            ("devel", None),
            ("99999999999", None),
            ("15.10000", None),
        ] {
            assert_eq!(version_num(text), number, "{text}");
        }
        assert_eq!(supported("18rc1").unwrap(), 180_000);
        for other in ["14.9", "19.0", "PgBouncer"] {
            assert!(supported(other).unwrap_err().is(code::replication::VERSION), "{other}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1min"), Some(Duration::from_mins(1)));
        assert_eq!(duration("2s"), Some(Duration::from_secs(2)));
        assert_eq!(duration("1500ms"), Some(Duration::from_millis(1500)));
        assert_eq!(duration("0"), Some(Duration::ZERO));
        for bad in ["", "s", "-1", "1 s", "1week", "99999999999999999999s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = (version_num(&text), duration(&text));
        }
    }
}
